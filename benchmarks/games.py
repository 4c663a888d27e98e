"""Measure the games: `python -m benchmarks.games memory-mapping --programs ../shared/games`.

Prints a table of all methods on all programs, and writes it with every plan that it compares if asked to.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import CLOCKS, HEURISTICS, Solution
from agents.games.memory.improve import improve
from agents.games.memory.plans import export_plan, write_plan
from agents.games.memory.program import Program
from agents.games.memory.program_file import read_program
from agents.games.memory.tree import StateTree
from agents.games.memory.validator import check_plan
from datasets.errors import UserError, run_command
from datasets.files import replace_file


@dataclass(frozen=True)
class MemoryMapping:
    """All heuristics and the local search on memory-mapping programs, and the speed of the rules."""

    programs: Path
    """A program, or a folder of them."""
    search_seconds: float = 60.0
    """Wall time of the local search on each program; 0 leaves it out."""
    seed: int = 0
    """Of the local search and of the random play."""
    episodes: int = 3
    """Random games per program, to time the rules; each is checked by the validator."""
    plans: Path | None = None
    """Folder for every plan in the exchange format."""
    out: Path | None = None
    """JSON file for the figures."""


@dataclass(frozen=True)
class MemoryEpisodes:
    """Random games of a memory-mapping program, each checked by the validator."""

    program: Path
    """The program."""
    episodes: int = 10000
    """Games."""
    seed: int = 0
    """Of the play."""


def memory_mapping(config: MemoryMapping) -> None:
    """Run every method on every program; each plan is checked by the validator.

    Raises:
        UserError: there is no program, or a plan breaks an invariant.
    """
    paths = sorted(config.programs.glob("*.json")) if config.programs.is_dir() else [config.programs]
    if not paths:
        raise UserError(f"{config.programs}: no programs (*.json) in this folder; give another one")
    methods = dict(HEURISTICS)
    if config.search_seconds > 0:
        methods["local-search"] = lambda program: improve(program, config.search_seconds, seed=config.seed)
    print("| program | buffers | " + " | ".join(methods) + " | all fast | random steps/s | steps/s |")
    print("|---|---|" + "---|" * (len(methods) + 3))
    rows = []
    for path in paths:
        program = read_program(path)
        row = {"program": program.name, "buffers": len(program.buffers)}
        for name, method in methods.items():
            begun = time.monotonic()
            solution = method(program)
            _check(program, solution, name, config)
            row[name] = {"percent": 100 * solution.share, "seconds": time.monotonic() - begun}
        game = MemoryGame(program)
        row["all_fast_percent"] = 100 * game.all_fast_seconds / game.all_slow_seconds
        row["random_steps_per_second"], row["steps_per_second"] = _speed(game, config)
        figures = [f"{row[name]['percent']:.1f}" for name in methods] + [f"{row['all_fast_percent']:.1f}"]
        speeds = [f"{row['random_steps_per_second']:.0f}", f"{row['steps_per_second']:.0f}"]
        print(
            f"| {program.name} | {len(program.buffers)} | " + " | ".join(figures + speeds) + " |", flush=True
        )
        rows.append(row)
    if config.out is not None:
        with replace_file(config.out) as temporary:
            temporary.write_text(json.dumps(rows, indent=1))


def _check(program: Program, solution: Solution, method: str, config: MemoryMapping) -> None:
    plan = export_plan(solution)
    check_plan(program, plan, f"{program.name} by {method}")
    if config.plans is not None:
        write_plan(config.plans / f"{program.name}.{method}.json", plan)


def _speed(game: MemoryGame, config: MemoryMapping) -> tuple[float, float]:
    """Decisions a second: of whole random games one by one, and of a batch of 256 actions in a tree."""
    tree = StateTree(game)
    random = np.random.default_rng(config.seed)
    decisions, spent, line = 0, 0.0, np.array([0])
    for _ in range(config.episodes):
        node, line = np.array([0]), [0]
        while not tree.is_done(node)[0]:
            action = random.choice(np.flatnonzero(tree.legal_mask(node)[0]), size=1)
            begun = time.perf_counter()
            node = tree.step(node, action)
            spent += time.perf_counter() - begun
            line.append(int(node[0]))
        decisions += len(line) - 1
        check_plan(game.program, export_plan(tree.solution(int(node[0]))), f"{game.program.name} at random")
    parent = np.sort(random.choice(line[:-1], size=min(256, len(line) - 1), replace=False))
    mask = tree.legal_mask(parent)
    action = np.array([random.choice(np.flatnonzero(row)) for row in mask])
    begun = time.perf_counter()
    tree.step(parent, action)
    return decisions / max(spent, 1e-9), len(parent) / (time.perf_counter() - begun)


def memory_episodes(config: MemoryEpisodes) -> None:
    """Play at random and hold every plan to the validator.

    Raises:
        UserError: a plan breaks an invariant.
    """
    program = read_program(config.program)
    random = np.random.default_rng(config.seed)
    shares = []
    tree = StateTree(MemoryGame(program))
    for episode in range(config.episodes):
        if episode % 50 == 0:
            tree = StateTree(MemoryGame(program, float(random.choice(CLOCKS))))
        node = np.array([0])
        while not tree.is_done(node)[0]:
            node = tree.step(node, random.choice(np.flatnonzero(tree.legal_mask(node)[0]), size=1))
        solution = tree.solution(int(node[0]))
        check_plan(program, export_plan(solution), f"{program.name}, random game {episode}")
        shares.append(100 * solution.share)
    found = f"{min(shares):.1f} to {max(shares):.1f} % of all slow"
    print(f"{program.name}: {len(shares)} random games, all valid, {found}")


def main() -> None:
    """Read the command line and run one benchmark."""
    commands = {"memory-mapping": MemoryMapping, "memory-episodes": MemoryEpisodes}
    config = tyro.extras.subcommand_cli_from_dict(commands)
    if isinstance(config, MemoryMapping):
        memory_mapping(config)
    elif isinstance(config, MemoryEpisodes):
        memory_episodes(config)


if __name__ == "__main__":
    run_command(main)
