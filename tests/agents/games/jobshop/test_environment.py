"""The environment is a Gymnasium environment of the same rules."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.games.jobshop.environment import JobShopEnvironment
from agents.games.jobshop.validator import violations
from datasets.errors import UserError
from tests.agents.games.jobshop.shops import random_shop, square_shop


def play(environment: JobShopEnvironment, rng: np.random.Generator) -> float:
    _, info = environment.reset()
    total, ended = 0.0, False
    while not ended:
        _, reward, ended, _, info = environment.step(rng.choice(np.nonzero(info["action_mask"])[0]))
        total += reward
    return total


def test_episodes_end_in_valid_schedules_and_return_minus_their_makespan():
    for seed in range(10):
        instance = random_shop(seed)
        environment = JobShopEnvironment(instance)
        total = play(environment, np.random.default_rng(seed))
        schedule = environment.solution()
        assert total == -schedule.makespan
        assert violations(instance, schedule.starts, schedule.makespan) == []


def test_gymnasium_accepts_the_environment():
    shop = square_shop(0, num_jobs=1)  # the checker draws actions without the mask
    check_env(JobShopEnvironment(shop), skip_render_check=True)


def test_a_restored_snapshot_is_the_moment_it_was_taken():
    environment = JobShopEnvironment(square_shop(1))
    observation, info = environment.reset()
    snapshot = environment.snapshot()
    first = int(np.nonzero(info["action_mask"])[0][0])
    environment.step(first)
    environment.restore(snapshot)
    again, reward, *_ = environment.step(first)
    environment.restore(snapshot)
    repeated, repeated_reward, *_ = environment.step(first)
    assert reward == repeated_reward
    assert all(np.array_equal(again[name], repeated[name]) for name in observation)


def test_a_job_that_may_not_be_dispatched_is_refused():
    environment = JobShopEnvironment(square_shop(1))
    _, info = environment.reset()
    with pytest.raises(UserError, match="may not be dispatched"):
        environment.step(int(np.nonzero(~info["action_mask"])[0][0]))
    with pytest.raises(UserError, match="not dispatched yet"):
        environment.solution()
