"""The rules against the validator, against replay, and against exhaustive search."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from agents.games.jobshop.rules import JobShopRules, Schedules, play_randomly
from agents.games.jobshop.solution import schedule_of
from agents.games.jobshop.validator import violations
from agents.games.state_table import StateTable
from tests.agents.games.jobshop.shops import random_shop, square_shop


def random_play(rules: JobShopRules, seed: int) -> tuple[np.ndarray, int]:
    jobs = np.empty(rules.length, dtype=np.int64)
    makespan = play_randomly(
        rules.machine,
        rules.duration,
        rules.num_operations,
        rules.start(),
        int(rules.schedules),
        np.random.default_rng(seed).random(rules.length),
        jobs,
    )
    return jobs, int(makespan)


@pytest.mark.parametrize("schedules", list(Schedules))
def test_random_play_gives_only_valid_schedules(schedules):
    for seed in range(40):
        instance = random_shop(seed)
        rules = JobShopRules(instance, schedules)
        for game in range(25):
            jobs, makespan = random_play(rules, game)
            schedule = schedule_of(instance, jobs)
            assert schedule.makespan == makespan
            assert violations(instance, schedule.starts, makespan) == []
            assert makespan >= instance.lower_bound


def best_makespan(rules: JobShopRules, state: np.ndarray) -> int:
    legal = np.nonzero(rules.legal_mask(state[None])[0])[0]
    if not len(legal):
        return int(state[-1])
    after = np.repeat(state[None], len(legal), axis=0)
    rules.step(after, legal)
    return min(best_makespan(rules, child) for child in after)


def test_active_schedules_hold_an_optimum_and_non_delay_schedules_may_not():
    missed = 0
    for seed in range(12):
        instance = square_shop(seed, num_jobs=3, num_machines=3)
        best = {
            kind: best_makespan(JobShopRules(instance, kind), JobShopRules(instance).start())
            for kind in Schedules
        }
        orders = set(permutations([0, 0, 0, 1, 1, 1, 2, 2, 2]))
        optimum = min(schedule_of(instance, np.array(order)).makespan for order in orders)
        assert best[Schedules.SEMI_ACTIVE] == best[Schedules.ACTIVE] == optimum
        assert best[Schedules.NON_DELAY] >= optimum
        missed += best[Schedules.NON_DELAY] > optimum
    assert missed > 0


def test_a_restored_snapshot_goes_on_like_a_replay():
    for seed in range(30):
        rules = JobShopRules(random_shop(seed))
        jobs, _ = random_play(rules, seed)
        state, snapshots = rules.start()[None], []
        for job in jobs:
            snapshots.append(state.copy())
            rules.step(state, np.array([job]))
        for place in (0, len(jobs) // 2, len(jobs) - 1):
            restored = snapshots[place]
            for job in jobs[place:]:
                rules.step(restored, np.array([job]))
            assert np.array_equal(restored, state)
        assert rules.done(state)[0]
        assert not rules.legal_mask(state).any()


def test_handles_are_shared_by_equal_states_only():
    rules = JobShopRules(random_shop(3), Schedules.SEMI_ACTIVE)
    table, seen = StateTable(rules.width, np.int32, capacity=2), {}
    visited = 0
    for seed in range(60):
        jobs, _ = random_play(rules, seed)
        state = rules.start()[None]
        for job in jobs:
            rules.step(state, np.array([job]))
            handle = int(table.insert(state)[0])
            assert seen.setdefault(handle, state.tobytes()) == state.tobytes()
            visited += 1
    assert len(table) == len(seen) == len(set(seen.values())) < visited


def test_the_table_tells_states_apart_that_share_a_place():
    table = StateTable(2, capacity=4)
    rows = np.array([[i // 50, i % 50] for i in range(2000)])
    assert np.array_equal(table.insert(rows), np.arange(2000))
    assert np.array_equal(table.insert(rows[::-1]), np.arange(2000)[::-1])
    assert np.array_equal(table.states(np.array([5, 1999])), rows[[5, 1999]])
