"""The network for memory mapping on programs that it never learned from.

    python -m benchmarks.unseen_programs                                  six programs, made here by PyTorch
    python -m benchmarks.unseen_programs --programs a.json b.json         these instead
    python -m benchmarks.unseen_programs --extract runs/unseen            only write the six programs

Prints the simulated time of every method in percent of that with everything in slow memory, and the geometric
mean of its ratio to `tuned`. "Advice" follows the heuristic that the network sees, move by move, without
network, under each clock. "Greedy" is one game of the policy's likeliest moves under each clock. "Agent"
is the network alone, playing until the time is over. "Solve" is one start of `agents.solve`, whose playing is
followed by local search. Every plan is checked by the validator.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from agents.games.memory.following import instead_of
from agents.games.memory.hardware import TPU_V4I_LIKE
from agents.games.memory.heuristics import CLOCKS, HEURISTICS, Solution
from agents.games.memory.plans import export_plan
from agents.games.memory.program import Program
from agents.games.memory.program_file import read_program, write_program
from agents.games.memory.validator import check_plan
from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.network import SearchNetwork
from agents.search_agent.policy_play import play_policy
from agents.search_agent.released import checkpoint_for
from agents.solving.memory_mapping import MemoryMappingTask
from agents.solving.memory_playing import play_by_network
from benchmarks.unseen_models import UNSEEN
from datasets.errors import run_command
from datasets.files import replace_file
from datasets.program_sources.torch_trace import trace_function
from datasets.programs import with_capacity

METHODS = ("xla-style", "tuned", "tuned-look-ahead", "advice", "greedy", "agent", "solve")


@dataclass(frozen=True)
class UnseenConfig:
    """The network alone and `agents.solve` beside the heuristics."""

    programs: tuple[Path, ...] = ()
    """Programs; by default those of `benchmarks.unseen_models`."""
    seconds: float = 120.0
    """Wall time of "agent" and of "solve" on each program, on one core."""
    methods: tuple[str, ...] = METHODS
    """What to run."""
    checkpoint: Path | None = None
    """The network; by default the one that comes with the project."""
    seed: int = 0
    """Seed of all draws."""
    extract: Path | None = None
    """Write the programs of `benchmarks.unseen_models` to this folder, and no more."""
    out: Path | None = None
    """JSON file for the figures."""


def main() -> None:
    """Run every method on every program and print a table in markdown."""
    config = tyro.cli(UnseenConfig, description=__doc__)
    torch.set_num_threads(1)
    if config.extract is not None:
        config.extract.mkdir(parents=True, exist_ok=True)
        for program in unseen_programs():
            write_program(
                config.extract / f"{program.name}.json", program, {"source": "benchmarks.unseen_models"}
            )
        return
    programs = [read_program(path) for path in config.programs] or unseen_programs()
    checkpoint = checkpoint_for("memory-mapping", config.checkpoint)
    network = load_search_checkpoint(checkpoint).network
    print("| program | buffers | " + " | ".join(config.methods) + " |")
    print("|---|---|" + "---|" * len(config.methods))
    rows = []
    for program in programs:
        row: dict = {"program": program.name, "buffers": len(program.buffers)}
        for method in config.methods:
            begun = time.perf_counter()
            plan = run(method, program, network, checkpoint, config)
            check_plan(program, export_plan(plan), f"{program.name} by {method}")
            row[method] = {"percent": 100 * plan.share, "seconds": time.perf_counter() - begun}
        figures = " | ".join(f"{row[method]['percent']:.1f}" for method in config.methods)
        print(f"| {program.name} | {len(program.buffers)} | {figures} |", flush=True)
        rows.append(row)
    if "tuned" in config.methods:
        means = (
            np.exp(np.mean([np.log(row[method]["percent"] / row["tuned"]["percent"]) for row in rows]))
            for method in config.methods
        )
        print("| geometric mean of tuned | | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    if config.out is not None:
        with replace_file(config.out) as temporary:
            temporary.write_text(json.dumps(rows, indent=1))


def unseen_programs() -> list[Program]:
    """Trace the functions of `benchmarks.unseen_models`."""
    return [
        with_capacity(trace_function(*function(), function.__name__, TPU_V4I_LIKE), share)
        for function, share in UNSEEN.items()
    ]


def run(
    method: str, program: Program, network: SearchNetwork, checkpoint: Path, config: UnseenConfig
) -> Solution:
    """The best plan of a method."""
    found: list[Solution] = []
    if method in HEURISTICS:
        return HEURISTICS[method](program)
    if method == "advice":
        return min((follow_advice(program, clock) for clock in CLOCKS), key=lambda plan: plan.seconds)
    if method == "greedy":
        return min((greedy(program, network, clock) for clock in CLOCKS), key=lambda plan: plan.seconds)
    search: Callable = (
        (lambda take: play_by_network(program, network, config.seconds, config.seed, take))
        if method == "agent"
        else lambda take: MemoryMappingTask(program, checkpoint).search(config.seed, config.seconds, take)
    )
    search(found.append)
    return min(found, key=lambda plan: plan.seconds)


def follow_advice(program: Program, clock_lambda: float) -> Solution:
    """One game by the advice alone."""
    game = MemorySearchGame(program, clock_lambda)
    positions, actions = game.start(1), []
    while (legal := game.legal_mask(positions)[0]).any():
        actions.append(instead_of(int(game.advice.action[game.access(positions)[0]]), legal))
        positions, _, _ = game.step(positions, np.array(actions[-1:]))
    return game.solution(np.array(actions))


def greedy(program: Program, network: SearchNetwork, clock_lambda: float) -> Solution:
    """One game of the likeliest moves."""
    game = MemorySearchGame(program, clock_lambda)
    ((actions, _),) = play_policy(game, network, [0.0], seed=0)
    return game.solution(actions)


if __name__ == "__main__":
    run_command(main)
