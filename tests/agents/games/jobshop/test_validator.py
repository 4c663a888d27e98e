"""The validator refuses every kind of broken schedule and names what is broken."""

from __future__ import annotations

import numpy as np
import pytest

from agents.games.jobshop.heuristics import Rule, play_rule
from agents.games.jobshop.instance import instance_from_json
from agents.games.jobshop.solution import schedule_of
from agents.games.jobshop.validator import violations
from tests.agents.games.jobshop.shops import square_shop

SHOP = instance_from_json({"jobs": [[[0, 3], [1, 2]], [[1, 4], [0, 1]]]}, "test", "shop")
GOOD = [[0, 4], [0, 4]]


def test_a_valid_schedule_has_no_violation():
    assert violations(SHOP, GOOD, makespan=6) == []


@pytest.mark.parametrize(
    ("starts", "makespan", "invariant", "detail"),
    [
        ([[0, 4]], None, "complete", "1 jobs"),
        ([[0], [0, 4]], None, "complete", "job 0 has 1 starts and 2 operations"),
        ([[0, 4, 6], [0, 4]], None, "complete", "job 0 has 3 starts"),
        ([[-1, 4], [0, 4]], None, "time", "starts at -1"),
        ([[0.5, 4], [0, 4]], None, "time", "starts at 0.5"),
        ([[0, 2], [4, 9]], None, "precedence", "operation 1 of job 0 starts at 2"),
        ([[0, 3], [0, 4]], None, "machine", "machine 1 runs operation 0 of job 1 until 4"),
        (GOOD, 5, "makespan", "said to be 5"),
    ],
)
def test_what_is_broken_is_named(starts, makespan, invariant, detail):
    found = violations(SHOP, starts, makespan)
    assert [violation.invariant for violation in found] == [invariant]
    assert detail in str(found[0])


def test_an_operation_inside_a_longer_one_is_found_behind_a_short_one():
    shop = instance_from_json({"jobs": [[[0, 9]], [[0, 1]], [[0, 1]]]}, "test", "shop")
    assert len(violations(shop, [[0], [1], [4]])) == 2


MUTATIONS = (
    "start earlier",
    "swap two on a machine",
    "drop an operation",
    "move to another's start",
    "wrong makespan",
)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutated_schedules_are_refused(mutation):
    """Schedules of rules leave no operation room to start earlier, so each of these breaks an invariant."""
    for seed in range(50):
        instance, rng = square_shop(seed), np.random.default_rng(seed)
        jobs = play_rule(instance, Rule(seed % len(Rule))).jobs
        schedule = schedule_of(instance, jobs)
        starts, makespan = [list(times) for times in schedule.starts], schedule.makespan
        job, place = int(rng.integers(instance.num_jobs)), int(rng.integers(instance.num_machines))
        if mutation == "start earlier":
            if starts[job][place] == 0:
                continue
            starts[job][place] -= 1
        elif mutation == "swap two on a machine":
            other = (job + 1) % instance.num_jobs
            twin = int(np.nonzero(instance.machine[other] == instance.machine[job, place])[0][0])
            if instance.duration[other, twin] == instance.duration[job, place]:
                continue
            starts[job][place], starts[other][twin] = starts[other][twin], starts[job][place]
        elif mutation == "drop an operation":
            del starts[job][place]
        elif mutation == "move to another's start":
            other = (job + 1) % instance.num_jobs
            twin = int(np.nonzero(instance.machine[other] == instance.machine[job, place])[0][0])
            starts[job][place] = starts[other][twin]
        else:
            makespan += int(rng.choice([-1, 1]))
        assert violations(instance, starts, makespan), (mutation, seed)
