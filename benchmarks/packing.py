"""Offset packing: all methods on all instances under equal time.

    python -m benchmarks.packing                                 # table and plot, 120 s each
    python -m benchmarks.packing --task ablation --seconds 20    # what each part of the search is worth
    python -m benchmarks.packing --task episodes                 # 10,000 random games, each validated
    python -m benchmarks.packing --task speed                    # steps a second

Instances whose name is one letter are to fit in their capacity; of the others the peak is made small, as
their stated capacity is only a lower bound. Every packing is validated. Results are kept in a JSON file
after each instance, from which a run that was stopped goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

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
from datasets.errors import UserError, run_command
from datasets.files import replace_file
from planning import beam_search, best_path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Config:
    """What is run."""

    task: Literal["compare", "ablation", "episodes", "speed"] = "compare"
    """What to do; see above."""
    folder: Path = FOLDER.parent.parent / "shared" / "games" / "packing"
    """Where the instances lie, as `NAME.CAPACITY.csv`."""
    instances: tuple[str, ...] = ()
    """Their names without the capacity; all by default."""
    methods: tuple[str, ...] = ()
    """Names of the methods to compare, as in the table; all by default."""
    seconds: float = 120.0
    """Time of each method on each instance."""
    workers: int = 2
    """Threads of each method that uses several."""
    episodes: int = 10_000
    """Random games."""
    out: Path = FOLDER / "packing.json"
    """Where results are kept; the plot lies beside it."""


Method = Callable[[PackingInstance, Config], Packing | None]


def goal(instance: PackingInstance) -> int | None:
    """The capacity that is to be fitted, or None if the peak is to be made small."""
    return instance.capacity if len(instance.name.split(".")[0]) == 1 else None


def by_heuristic(heuristic: Heuristic) -> Method:
    return lambda instance, _: play_heuristic(instance, heuristic)


def by_search(settings: PackingSearchConfig, *, uniform: bool = False) -> Method:
    def search(instance: PackingInstance, config: Config) -> Packing | None:
        own, capacity = replace(settings, workers=config.workers), goal(instance)
        guide = UniformGuide(instance.num_buffers) if uniform else None
        if capacity is None:
            return minimise(instance, config.seconds, guide, own)
        return fit(instance, capacity, config.seconds, guide, own).packing

    return search


def by_planner(instance: PackingInstance, config: Config) -> Packing:
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


def by_cpsat(instance: PackingInstance, config: Config) -> Packing | None:
    return solve_by_cpsat(instance, config.seconds, goal(instance), config.workers).packing


METHODS: dict[str, Method] = {
    **{heuristic.value: by_heuristic(heuristic) for heuristic in Heuristic},
    "planner's beam": by_planner,
    "search": by_search(PackingSearchConfig()),
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


def chosen_methods(config: Config) -> dict[str, Method]:
    """The methods of the task that are asked for."""
    methods = METHODS if config.task == "compare" else ABLATION
    unknown = set(config.methods) - set(methods)
    if unknown:
        raise UserError(
            f"methods: there is none named {', '.join(sorted(unknown))}; choose from {list(methods)}"
        )
    return {name: method for name, method in methods.items() if not config.methods or name in config.methods}


def chosen(config: Config) -> list[PackingInstance]:
    paths = sorted(
        config.folder.glob("*.csv"), key=lambda path: (len(path.name.split(".")[0]) > 1, path.name)
    )
    found = [path for path in paths if not config.instances or path.name.split(".")[0] in config.instances]
    if not found:
        raise UserError(f"there is none of these instances in {config.folder}; give their --folder")
    return [read_instance(path) for path in found]


def compare(config: Config, methods: dict[str, Method]) -> None:
    """Run what is not in the file yet, print the table, write the plot."""
    instances = chosen(config)
    fit(instances[0], 2 * best_of_heuristics(instances[0]).peak, 60)  # compiles
    kept = json.loads(config.out.read_text()) if config.out.is_file() else {}
    results = kept.setdefault(f"{config.task} {config.seconds:g} s", {})
    for instance in instances:
        row = results.setdefault(instance.name, {})
        for name, method in methods.items():
            if name not in row:
                started = time.perf_counter()
                packing = method(instance, config)
                row[name] = [checked(instance, packing), round(time.perf_counter() - started, 2)]
        found = " ".join(f"{name} {peak} in {seconds} s," for name, (peak, seconds) in row.items())
        print(f"{instance.name}: at least {instance.lower_bound}; {found}", flush=True)
        with replace_file(config.out) as temporary:
            temporary.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(instances, results, list(methods)))
    draw(instances, results, list(methods), config)


def checked(instance: PackingInstance, packing: Packing | None) -> int | None:
    """The peak of a packing, or None where there is none."""
    if packing is None:
        return None
    broken = violations(instance, packing.offsets, peak=packing.peak, capacity=packing.capacity)
    if broken:
        raise UserError(f"{instance.name}: a method made a packing that is none; {broken[0]}")
    return packing.peak


def table(instances: list[PackingInstance], results: dict[str, dict], methods: list[str]) -> str:
    """Seconds to fit, or the share by which the peak is above the capacity or bound; and how many fit."""
    lines = [f"| instance | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    fits = dict.fromkeys(methods, 0)
    for instance in instances:
        cells = []
        for name in methods:
            peak, seconds = results[instance.name][name]
            target = goal(instance)
            if target is not None and peak is not None and peak <= target:
                fits[name] += 1
                cells.append(f"fits, {seconds:.1f} s")
            else:
                cells.append(
                    "-" if peak is None else f"+{100 * (peak / (target or instance.lower_bound) - 1):.1f}%"
                )
        lines.append(f"| {instance.name.split('.')[0]} | {' | '.join(cells)} |")
    asked = sum(goal(instance) is not None for instance in instances)
    lines.append(f"| fit in their capacity | {' | '.join(f'{fits[name]} of {asked}' for name in methods)} |")
    return "\n".join(lines)


def draw(
    instances: list[PackingInstance], results: dict[str, dict], methods: list[str], config: Config
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, name in enumerate(methods):
        peaks = [results[instance.name][name][0] or np.nan for instance in instances]
        bounds = [goal(instance) or instance.lower_bound for instance in instances]
        height = [
            100 * max(peak / bound - 1, 0) if peak == peak else np.nan
            for peak, bound in zip(peaks, bounds, strict=True)
        ]
        axes.plot(np.arange(len(instances)) + 0.05 * (place - len(methods) / 2), height, "o", label=name)
    axes.set_xticks(
        range(len(instances)),
        [instance.name.split(".")[0] for instance in instances],
        rotation=45,
        ha="right",
    )
    axes.set(
        ylabel="above the capacity or the bound, %", title=f"{config.seconds:g} s, {config.workers} threads"
    )
    axes.legend(frameon=False, ncols=3)
    name = "packing.png" if config.task == "compare" else "packing_ablation.png"
    with replace_file(config.out.parent / name) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def play_episodes(config: Config) -> None:
    """Random games on all instances in turn, by both kinds of placements; each is validated."""
    instances, kinds = chosen(config), list(Placements)
    for episode in range(config.episodes):
        instance = instances[episode % len(instances)]
        rules = PackingRules(instance, placements=kinds[episode // len(instances) % len(kinds)])
        buffers, state = np.empty(rules.length, dtype=np.int64), rules.start()
        draws = np.random.default_rng(episode).random(rules.length)
        assert play(rules, state, draws, buffers) == rules.length
        packing = packing_of(instance, rules.offsets(buffers).tolist())
        assert checked(instance, packing) == state[-1], (instance.name, episode)
    print(f"{config.episodes} random games on {len(instances)} instances: all packings valid")


def play(rules: PackingRules, state: np.ndarray, draws: np.ndarray, buffers: np.ndarray) -> int:
    return play_randomly(
        rules.first, rules.last, rules.size, rules.twin, state, rules.num_sections, rules.limit,
        int(rules.placements), draws, buffers,
    )  # fmt: skip


def measure_speed(config: Config) -> None:
    print("| instance | random play, steps/s | batches of 64, steps/s | depth-first search, nodes/s |")
    print("|---|---|---|---|")
    for instance in chosen(config):
        print(
            f"| {instance.name.split('.')[0]} | {' | '.join(f'{speed:,.0f}' for speed in speeds(instance))} |"
        )


def speeds(instance: PackingInstance) -> tuple[float, float, float]:
    """Steps a second with legal masks, in a compiled loop and from Python in batches; nodes of the search."""
    rules = PackingRules(instance)
    buffers, draws = np.empty(rules.length, dtype=np.int64), np.random.default_rng(0).random(rules.length)
    play(rules, rules.start(), draws, buffers)
    started, games = time.perf_counter(), 0
    while time.perf_counter() - started < 0.5:
        play(rules, rules.start(), draws, buffers)
        games += 1
    single = games * len(buffers) / (time.perf_counter() - started)
    states = np.repeat(rules.start()[None], 64, axis=0)
    started = time.perf_counter()
    for buffer in buffers:
        rules.legal_mask(states)
        rules.step(states, np.full(64, buffer))
    batched = 64 * len(buffers) / (time.perf_counter() - started)
    result = fit(instance, instance.lower_bound, 2, config=PackingSearchConfig(workers=1))
    return single, batched, result.nodes / result.seconds


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    if config.task == "episodes":
        play_episodes(config)
    elif config.task == "speed":
        measure_speed(config)
    else:
        compare(config, chosen_methods(config))


if __name__ == "__main__":
    run_command(main)
