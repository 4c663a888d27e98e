"""Solving memory mapping: which of a program's buffers are in fast memory when, and where."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.games.memory.drawing import draw_plan
from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import HEURISTICS, Solution
from agents.games.memory.improve import improve
from agents.games.memory.page import write_page
from agents.games.memory.plans import export_plan, write_plan
from agents.games.memory.program import Program
from agents.games.memory.programs import packaged_programs
from agents.games.memory.validator import find_violations
from agents.search_agent.checkpoint import load_search_checkpoint
from agents.solving.memory_playing import play_by_network
from agents.solving.task import Baseline

PLAYING_SHARE = 0.2
"""Share of the time in which the network plays; the rest is local search."""


@dataclass(frozen=True)
class MemoryMappingTask:
    """`task.Task` of one program."""

    program: Program
    """The program and its machine."""
    checkpoint: Path
    """Network of the search agent."""

    objective_name = "simulated time [us]"

    @property
    def name(self) -> str:
        """Of the program."""
        return self.program.name

    @property
    def bound(self) -> float:
        """Everything in fast memory at once, however large it were."""
        return 1e6 * MemoryGame(self.program).all_fast_seconds

    def baselines(self) -> Sequence[Baseline]:
        """Every heuristic."""
        return [Baseline(name, plan(self.program)) for name, plan in HEURISTICS.items()]

    def small(self) -> MemoryMappingTask:
        """The smallest program that comes with the project."""
        return replace(self, program=min(packaged_programs(), key=lambda one: len(one.buffers)))

    def search(self, seed: int, seconds: float, found: Callable[[Solution], None]) -> None:
        """Play with the network under all clocks, then change the best recipes of the heuristics."""
        started = time.perf_counter()
        network = load_search_checkpoint(self.checkpoint).network
        play_by_network(self.program, network, PLAYING_SHARE * seconds, seed, found)
        found(improve(self.program, started + seconds - time.perf_counter(), seed=seed, report=found))

    def objective(self, plan: Solution) -> float:
        """Simulated time in microseconds."""
        return 1e6 * plan.seconds

    def violations(self, plan: Solution) -> Sequence[str]:
        """By the validator, which shares no code with the rules."""
        found = find_violations(self.program, export_plan(plan))
        return [f"{one.invariant}, {one.where}: {one.sentence}" for one in found]

    def write(self, plan: Solution, path: Path) -> None:
        """In the exchange format."""
        write_plan(path, export_plan(plan))

    def draw(self, plan: Solution, path: Path) -> Sequence[Path]:
        """Fast memory over time, the copy engine, and what waits for it: a picture, and a page to zoom."""
        picture, page = path.with_suffix(".png"), path.with_suffix(".html")
        draw_plan(picture, plan)
        write_page(page, plan)
        return [picture, page]
