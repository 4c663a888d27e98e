"""Solving a job shop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.games.jobshop.drawing import draw_schedule
from agents.games.jobshop.heuristics import Rule, play_rule
from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.search import JobShopSearchConfig, solve
from agents.games.jobshop.solution import Schedule, reversed_schedule, schedule_of, write_schedule
from agents.games.jobshop.validator import violations
from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.job_shop import JobShopSearchGame
from agents.search_agent.self_play import PlayConfig, play
from agents.solving.task import Baseline

GAMES_AT_ONCE = 8
"""Games played side by side; a network's evaluation of a few positions costs little more than of one."""
PLAY = PlayConfig(num_simulations=16)
PLAYING_SHARE = 0.15
"""Share of the time in which the network plays; the rest is search along the schedules at hand."""


@dataclass(frozen=True)
class JobShopTask:
    """`task.Task` of one shop."""

    instance: JobShopInstance
    """The shop."""
    checkpoint: Path
    """Network of the search agent."""

    objective_name = "makespan"

    @property
    def name(self) -> str:
        """Of the shop."""
        return self.instance.name

    @property
    def bound(self) -> float:
        """The best bound known of the makespan."""
        return float(max(self.instance.lower_bound, self.instance.proven_bound or 0))

    def baselines(self) -> Sequence[Baseline]:
        """Every dispatching rule."""
        return [
            Baseline(rule.name, schedule_of(self.instance, play_rule(self.instance, rule).jobs))
            for rule in Rule
        ]

    def search(self, seed: int, seconds: float, found: Callable[[Schedule], None]) -> None:
        """Play with the network, forwards and backwards in turns; then beams along good schedules."""
        started = time.perf_counter()
        network = load_search_checkpoint(self.checkpoint).network
        shops = (self.instance, self.instance.reversed())
        games = [JobShopSearchGame(shop) for shop in shops]
        deadline, turn = started + PLAYING_SHARE * seconds, 0
        while time.perf_counter() < deadline:
            backwards = turn % 2
            for episode in play(
                games[backwards],
                network,
                PLAY,
                count=GAMES_AT_ONCE,
                seed=1000 * seed + turn,
                deadline=deadline,
            ):
                schedule = schedule_of(shops[backwards], episode.actions)
                found(reversed_schedule(self.instance, schedule) if backwards else schedule)
            turn += 1
        config = JobShopSearchConfig(workers=1, seed=seed)
        left = started + seconds - time.perf_counter()
        solve(self.instance, left, config=config, on_improvement=found)

    def objective(self, plan: Schedule) -> float:
        """The makespan."""
        return float(plan.makespan)

    def violations(self, plan: Schedule) -> Sequence[str]:
        """By the validator, which shares no code with the rules."""
        return [str(violation) for violation in violations(self.instance, plan.starts, plan.makespan)]

    def write(self, plan: Schedule, path: Path) -> None:
        """As JSON."""
        write_schedule(plan, path)

    def draw(self, plan: Schedule, path: Path) -> Sequence[Path]:
        """A Gantt chart."""
        picture = path.with_suffix(".png")
        draw_schedule(self.instance, plan, picture)
        return [picture]
