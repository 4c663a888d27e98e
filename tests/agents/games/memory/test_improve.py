"""Local search: valid plans, never worse than its start, all the search's state its own."""

from dataclasses import replace

import numpy as np
import pytest

from agents.games.memory.heuristics import tuned
from agents.games.memory.improve import improve
from agents.games.memory.plans import export_plan
from agents.games.memory.validator import find_violations
from tests.agents.games.memory.programs import random_program


@pytest.mark.parametrize("seed", range(3))
def test_plans_are_valid_and_no_worse_than_the_start(seed):
    program = random_program(seed, steps=40, loop=seed == 1)
    steps = []
    solution = improve(program, 0.4, seed=seed, report=steps.append)
    assert find_violations(program, export_plan(solution)) == []
    assert solution.seconds <= tuned(program, looks_ahead=True).seconds
    times = [step.seconds for step in steps]
    assert times == sorted(times, reverse=True)
    assert not times or times[-1] == solution.seconds


def test_some_program_is_improved():
    gained = [
        tuned(program, looks_ahead=True).seconds / improve(program, 0.4).seconds
        for program in (random_program(seed, steps=40) for seed in range(3))
    ]
    assert np.max(gained) > 1


def test_a_program_that_gains_nothing_keeps_its_plan():
    program = random_program(0)
    busy = tuple(replace(entry, flops=1e12) for entry in program.instructions)
    assert improve(replace(program, instructions=busy), 5.0).share == pytest.approx(1)


@pytest.mark.parametrize("seconds", [0.0, -3.0])
def test_without_time_the_best_setting_is_returned(seconds):
    program = random_program(5)
    # Under each clock the search begins at the best setting; nobody has time to change it.
    assert improve(program, seconds).seconds == pytest.approx(tuned(program, looks_ahead=True).seconds)
