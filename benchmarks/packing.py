"""Offset packing: all methods on all instances under equal time.

    python -m benchmarks.games packing --seconds 120                  # table and plot
    python -m benchmarks.games packing --task ablation --seconds 20   # what each part of the search is worth
    python -m benchmarks.games packing --task episodes                # 10,000 random games, each validated
    python -m benchmarks.games packing --task speed                   # steps a second

Instances whose name is one letter are to fit in their capacity; of the others the peak is made small, as
their stated capacity is only a lower bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agents.games.guides import UniformGuide
from agents.games.packing.cpsat import solve_by_cpsat
from agents.games.packing.guides import SkylineGuide, tightness
from agents.games.packing.heuristics import Heuristic, best_of_heuristics, play_heuristic
from agents.games.packing.instance import PackingInstance, read_instance
from agents.games.packing.planning import PackingModel
from agents.games.packing.rules import PackingRules, Placements, play_randomly
from agents.games.packing.search import PackingSearchConfig, fit, minimise
from agents.games.packing.solution import Packing, packing_of
from agents.games.packing.validator import violations
from agents.search_agent.released import released_checkpoint
from agents.solving.packing import PackingTask
from benchmarks.game_comparison import GameConfig, agent_alone, compare, solved
from benchmarks.game_tables import draw_bars, markdown, pick
from datasets.errors import UserError
from planning import beam_search, best_path

Method = Callable[[PackingInstance, GameConfig], Packing | None]


def goal(instance: PackingInstance) -> int | None:
    """The capacity that is to be fitted, or None if the peak is to be made small."""
    return instance.capacity if len(instance.name.split(".")[0]) == 1 else None


def by_heuristic(heuristic: Heuristic) -> Method:
    return lambda instance, _: play_heuristic(instance, heuristic)


def by_search(settings: PackingSearchConfig, *, uniform: bool = False) -> Method:
    def search(instance: PackingInstance, config: GameConfig) -> Packing | None:
        own, capacity = replace(settings, workers=config.workers), goal(instance)
        guide = UniformGuide(instance.num_buffers) if uniform else None
        if capacity is None:
            return minimise(instance, config.seconds, guide, own)
        return fit(instance, capacity, config.seconds, guide, own).packing

    return search


def by_planner(instance: PackingInstance, config: GameConfig) -> Packing:
    """`planning.beam_search` in the planning model, rollouts as its values, wider until time is up."""
    rules = PackingRules(instance)
    guide = SkylineGuide(rules, (tightness(instance), instance.upper - instance.lower))
    deadline, width, spent = time.perf_counter() + config.seconds, 1, 0.0
    best = best_of_heuristics(instance)
    while time.perf_counter() + 2.5 * spent < deadline and best.peak > (
        goal(instance) or instance.lower_bound
    ):
        started = time.perf_counter()
        model = PackingModel(instance, guide, look_ahead=True)
        result = beam_search(model, rules.start()[None], beam_width=width, horizon=instance.num_buffers)
        made = packing_of(instance, rules.offsets(best_path(result, 0)[0]).tolist())
        best = min(best, made, key=lambda packing: packing.peak)
        width, spent = 2 * width, time.perf_counter() - started
    return best


def by_cpsat(instance: PackingInstance, config: GameConfig) -> Packing | None:
    return solve_by_cpsat(instance, config.seconds, goal(instance), config.workers).packing


def task_of(instance: PackingInstance) -> PackingTask:
    """As `agents.solve` sees it: a capacity that is only a lower bound is none."""
    return PackingTask(replace(instance, capacity=goal(instance)), released_checkpoint("packing"))


def by_agent(instance: PackingInstance, config: GameConfig) -> Packing | None:
    return agent_alone(task_of(instance), config)


def by_solve(instance: PackingInstance, config: GameConfig) -> Packing | None:
    return solved(task_of(instance), config)


METHODS: dict[str, Method] = {
    **{heuristic.value: by_heuristic(heuristic) for heuristic in Heuristic},
    "planner's beam": by_planner,
    "search": by_search(PackingSearchConfig()),
    "agent alone": by_agent,
    "solve": by_solve,
    "CP-SAT": by_cpsat,
}
ABLATION: dict[str, Method] = {
    "search": by_search(PackingSearchConfig()),
    "one order, no restarts": by_search(PackingSearchConfig(nodes=2**60)),
    "no blame": by_search(PackingSearchConfig(blame=0.0)),
    "less blame": by_search(PackingSearchConfig(blame=1.0)),
    "orders without noise": by_search(PackingSearchConfig(noise=(0.0,))),
    "little noise": by_search(PackingSearchConfig(noise=(0.05,))),
    "much noise": by_search(PackingSearchConfig(noise=(0.6,))),
    "orders drawn at random": by_search(PackingSearchConfig(), uniform=True),
    "attempts of 500 nodes": by_search(PackingSearchConfig(nodes=500)),
    "attempts of 20,000 nodes": by_search(PackingSearchConfig(nodes=20_000)),
}


def run(config: GameConfig) -> None:
    """Do what the task says."""
    if config.task == "episodes":
        play_episodes(config)
    elif config.task == "speed":
        measure_speed(config)
    else:
        compare_methods(config)


def chosen(config: GameConfig) -> list[PackingInstance]:
    folder = config.folder / "packing" if (config.folder / "packing").is_dir() else config.folder
    paths = sorted(folder.glob("*.csv"), key=lambda path: (len(path.name.split(".")[0]) > 1, path.name))
    found = [path for path in paths if not config.instances or path.name.split(".")[0] in config.instances]
    if not found:
        raise UserError(f"there is none of these instances in {folder}; give their --folder")
    return [read_instance(path) for path in found]


def compare_methods(config: GameConfig) -> None:
    """Run what is not in the file yet, print the table, write the plot."""
    methods = pick(METHODS if config.task == "compare" else ABLATION, config.methods)
    instances, results = chosen(config), config.results("packing")
    fit(instances[0], 2 * best_of_heuristics(instances[0]).peak, 60)  # compiles
    compare(config, results, instances, methods, cell)
    print(table(instances, results.rows, list(methods)))
    bars = {
        name: [above(instance, results.rows[instance.name][name][0]) for instance in instances]
        for name in methods
    }
    names = [instance.name.split(".")[0] for instance in instances]
    draw_bars(config.plot("packing"), names, bars, "above the capacity or the bound, %", config.title)


def cell(instance: PackingInstance, packing: Packing | None, seconds: float) -> list:
    return [checked(instance, packing), seconds]


def above(instance: PackingInstance, peak: int | None) -> float:
    """By how many percent a peak is above the capacity or bound; NaN where there is none."""
    bound = goal(instance) or instance.lower_bound
    return float("nan") if peak is None else 100 * max(peak / bound - 1, 0)


def checked(instance: PackingInstance, packing: Packing | None) -> int | None:
    """The peak of a packing, or None where there is none."""
    if packing is None:
        return None
    broken = violations(instance, packing.offsets, peak=packing.peak, capacity=packing.capacity)
    if broken:
        raise UserError(f"{instance.name}: a method made a packing that is none; {broken[0]}")
    return packing.peak


def table(
    instances: Sequence[PackingInstance], results: Mapping[str, Mapping[str, Any]], methods: Sequence[str]
) -> str:
    """Seconds to fit, or the share by which the peak is above the capacity or bound; and how many fit."""
    rows, fits = [], dict.fromkeys(methods, 0)
    for instance in instances:
        cells = []
        for name in methods:
            peak, seconds = results[instance.name][name]
            target = goal(instance)
            if peak is None:
                cells.append("-")
            elif target is not None and peak <= target:
                fits[name] += 1
                cells.append(f"fits, {seconds:.1f} s")
            else:
                cells.append(f"+{above(instance, peak):.1f}%")
        rows.append([instance.name.split(".")[0], *cells])
    asked = sum(goal(instance) is not None for instance in instances)
    rows.append(["fit in their capacity", *(f"{fits[name]} of {asked}" for name in methods)])
    return markdown(["instance", *methods], rows)


def play_episodes(config: GameConfig) -> None:
    """Random games on all instances in turn, by both kinds of placements; each is validated."""
    instances, kinds = chosen(config), list(Placements)
    for episode in range(config.episodes):
        instance = instances[episode % len(instances)]
        rules = PackingRules(instance, placements=kinds[episode // len(instances) % len(kinds)])
        buffers, state = np.empty(rules.length, dtype=np.int64), rules.start()
        draws = np.random.default_rng((config.seed, episode)).random(rules.length)
        assert play(rules, state, draws, buffers) == rules.length
        packing = packing_of(instance, rules.offsets(buffers).tolist())
        assert checked(instance, packing) == state[-1], (instance.name, episode)
    print(f"{config.episodes} random games on {len(instances)} instances: all packings valid")


def play(rules: PackingRules, state: np.ndarray, draws: np.ndarray, buffers: np.ndarray) -> int:
    return play_randomly(
        rules.first, rules.last, rules.size, rules.twin, state, rules.num_sections, rules.limit,
        int(rules.placements), draws, buffers,
    )  # fmt: skip


def measure_speed(config: GameConfig) -> None:
    print("| instance | random play, steps/s | batches of 64, steps/s | depth-first search, nodes/s |")
    print("|---|---|---|---|")
    for instance in chosen(config):
        print(
            f"| {instance.name.split('.')[0]} | {' | '.join(f'{speed:,.0f}' for speed in speeds(instance))} |"
        )


def speeds(instance: PackingInstance) -> tuple[float, float, float]:
    """Steps a second of a processor, in a compiled loop and in batches; nodes of the search."""
    rules = PackingRules(instance)
    buffers, draws = np.empty(rules.length, dtype=np.int64), np.random.default_rng(0).random(rules.length)
    play(rules, rules.start(), draws, buffers)
    started, games = time.process_time(), 0
    while time.process_time() - started < 0.5:
        play(rules, rules.start(), draws, buffers)
        games += 1
    single = games * len(buffers) / (time.process_time() - started)
    states = np.repeat(rules.start()[None], 64, axis=0)
    started = time.process_time()
    for buffer in buffers:
        rules.legal_mask(states)
        rules.step(states, np.full(64, buffer))
    batched = 64 * len(buffers) / (time.process_time() - started)
    result = fit(instance, instance.lower_bound, 2, config=PackingSearchConfig(workers=1))
    return single, batched, result.nodes / result.seconds
