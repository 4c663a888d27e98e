"""Memory mapping: all methods on programs under equal time.

    python -m benchmarks.games memory-mapping --seconds 600                     # table and plot
    python -m benchmarks.games memory-mapping --plans plans                     # every plan too
    python -m benchmarks.games memory-mapping --task episodes --instances mlp3_train
    python -m benchmarks.games memory-mapping --task speed                      # steps a second

Figures are simulated times in percent of that with everything in slow memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import CLOCKS, HEURISTICS, Solution
from agents.games.memory.improve import improve
from agents.games.memory.plans import export_plan, write_plan
from agents.games.memory.program import Program
from agents.games.memory.program_file import read_program
from agents.games.memory.tree import StateTree
from agents.games.memory.validator import check_plan
from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.released import released_checkpoint
from agents.solving.memory_mapping import MemoryMappingTask
from agents.solving.memory_playing import play_by_network
from benchmarks.game_comparison import GameConfig, compare, solved
from benchmarks.game_tables import draw_bars, markdown, pick
from datasets.errors import UserError

TIMED_GAMES = 3
"""Random games of each program that time the rules."""
Method = Callable[[Program, GameConfig], Solution | None]


def by_heuristic(heuristic: Callable[[Program], Solution]) -> Method:
    return lambda program, _: heuristic(program)


def by_local_search(program: Program, config: GameConfig) -> Solution:
    return improve(program, config.seconds, seed=config.seed)


def by_agent(program: Program, config: GameConfig) -> Solution | None:
    """The network's own games, in one process; each that is found is better than those before."""
    network = load_search_checkpoint(released_checkpoint("memory-mapping")).network
    found: list[Solution] = []
    play_by_network(program, network, config.seconds, config.seed, found.append)
    return found[-1] if found else None


def by_solve(program: Program, config: GameConfig) -> Solution | None:
    return solved(MemoryMappingTask(program, released_checkpoint("memory-mapping")), config)


METHODS: dict[str, Method] = {
    **{name: by_heuristic(heuristic) for name, heuristic in HEURISTICS.items()},
    "local-search": by_local_search,
    "agent alone": by_agent,
    "solve": by_solve,
}


def run(config: GameConfig) -> None:
    """Do what the task says.

    Raises:
        UserError: there is no program, or a plan breaks an invariant.
    """
    if config.task == "episodes":
        play_episodes(config)
    elif config.task == "speed":
        measure_speed(config)
    elif config.task == "ablation":
        raise UserError("memory-mapping: its search has no variants to compare; give another --task")
    else:
        compare_methods(config)


def chosen(config: GameConfig) -> list[Program]:
    paths = sorted(config.folder.glob("*.json")) if config.folder.is_dir() else [config.folder]
    found = [path for path in paths if not config.instances or path.stem in config.instances]
    if not found:
        raise UserError(f"{config.folder}: there is none of these programs (*.json); give their --folder")
    return [read_program(path) for path in found]


def compare_methods(config: GameConfig) -> None:
    """Run what is not in the file yet, print the table, write the plot."""
    methods, programs = pick(METHODS, config.methods), chosen(config)
    results = config.results("memory_mapping")
    for name, method in methods.items():
        # A method at a time, as a plan's file is named by it.
        compare(config, results, programs, {name: method}, partial(cell, config, name))
    rows = []
    for program in programs:
        row, game = results.rows[program.name], MemoryGame(program)
        figures = [f"{percent(row, name):.1f}" for name in methods]
        all_fast = 100 * game.all_fast_seconds / game.all_slow_seconds
        rows.append([program.name, f"{len(program.buffers)}", *figures, f"{all_fast:.1f}"])
    bars = {name: [percent(results.rows[one.name], name) for one in programs] for name in methods}
    means = {name: float(np.exp(np.mean(np.log(heights)))) for name, heights in bars.items()}
    rows.append(["geometric mean", "", *(f"{mean:.1f}" for mean in means.values()), ""])
    print(markdown(["program", "buffers", *methods, "all fast"], rows))
    draw_bars(
        config.plot("memory_mapping"),
        [*(program.name for program in programs), "geometric mean"],
        {name: [*heights, means[name]] for name, heights in bars.items()},
        "time in % of everything in slow memory",
        config.title,
    )


def cell(config: GameConfig, method: str, program: Program, solution: Solution | None, seconds: float) -> Any:
    if solution is None:
        return {"percent": None, "seconds": seconds}
    plan = export_plan(solution)
    check_plan(program, plan, f"{program.name} by {method}")
    if config.plans is not None:
        write_plan(config.plans / f"{program.name}.{method}.json", plan)
    return {"percent": 100 * solution.share, "seconds": seconds}


def percent(row: Mapping[str, Any], method: str) -> float:
    """What a method reached; NaN where it found nothing."""
    found = row[method]["percent"]
    return float("nan") if found is None else found


def play_episodes(config: GameConfig) -> None:
    """Random games of each program in turn, under all clocks; each is held to the validator."""
    for program in chosen(config):
        random = np.random.default_rng(config.seed)
        shares, tree = [], StateTree(MemoryGame(program))
        for episode in range(config.episodes):
            if episode % 50 == 0:
                tree = StateTree(MemoryGame(program, float(random.choice(CLOCKS))))
            line, _ = play_randomly(tree, random)
            solution = tree.solution(line[-1])
            check_plan(program, export_plan(solution), f"{program.name}, random game {episode}")
            shares.append(100 * solution.share)
        found = f"{min(shares):.1f} to {max(shares):.1f} % of all slow"
        print(f"{program.name}: {len(shares)} random games, all valid, {found}", flush=True)


def play_randomly(tree: StateTree, random: np.random.Generator) -> tuple[list[int], float]:
    """States of one random game, and the seconds of a processor that its steps took."""
    node, line, spent = np.array([0]), [0], 0.0
    while not tree.is_done(node)[0]:
        action = random.choice(np.flatnonzero(tree.legal_mask(node)[0]), size=1)
        begun = time.process_time()
        node = tree.step(node, action)
        spent += time.process_time() - begun
        line.append(int(node[0]))
    return line, spent


def measure_speed(config: GameConfig) -> None:
    """Decisions a second of processor time: of random games one by one, and of 256 actions at once."""
    rows = []
    for program in chosen(config):
        tree, random = StateTree(MemoryGame(program)), np.random.default_rng(config.seed)
        play_randomly(tree, random)  # compiles
        decisions, spent, line = 0, 0.0, [0]
        for _ in range(TIMED_GAMES):
            line, seconds = play_randomly(tree, random)
            decisions, spent = decisions + len(line) - 1, spent + seconds
        parent = np.sort(random.choice(line[:-1], size=min(256, len(line) - 1), replace=False))
        action = np.array([random.choice(np.flatnonzero(row)) for row in tree.legal_mask(parent)])
        begun = time.process_time()
        tree.step(parent, action)
        batched = len(parent) / (time.process_time() - begun)
        rows.append([program.name, f"{decisions / max(spent, 1e-9):,.0f}", f"{batched:,.0f}"])
    print(markdown(["program", "random games, steps/s", "batches of 256, steps/s"], rows))
