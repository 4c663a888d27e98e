"""The environment is a Gymnasium environment of the same rules."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.games.packing.environment import PackingEnvironment
from agents.games.packing.validator import violations
from datasets.errors import UserError
from tests.agents.games.packing.buffers import instance_of, random_instance


def play(environment: PackingEnvironment, rng: np.random.Generator) -> tuple[float, dict]:
    _, info = environment.reset()
    total, ended = 0.0, False
    while not ended:
        _, reward, ended, _, info = environment.step(rng.choice(np.nonzero(info["action_mask"])[0]))
        total += reward
    return total, info


def test_episodes_end_in_valid_packings_and_return_minus_their_peak():
    for seed in range(10):
        instance = random_instance(seed)
        environment = PackingEnvironment(instance)
        total, info = play(environment, np.random.default_rng(seed))
        packing = environment.solution()
        assert total == -packing.peak == -info["peak"]
        assert violations(instance, packing.offsets, peak=packing.peak) == []


def test_a_lost_game_costs_the_buffers_left_and_has_no_solution():
    outcomes = set()
    for seed in range(40):
        instance = random_instance(seed)
        environment = PackingEnvironment(instance, capacity=instance.lower_bound + 1)
        total, info = play(environment, np.random.default_rng(seed))
        outcomes.add(info["lost"])
        if info["lost"]:
            assert total == -(~environment.rules.placed(environment.snapshot()[0][None])).sum()
            with pytest.raises(UserError, match="not placed"):
                environment.solution()
        else:
            assert total == 0
            assert environment.solution().peak <= instance.lower_bound + 1
    assert outcomes == {True, False}


def test_gymnasium_accepts_the_environment():
    check_env(PackingEnvironment(instance_of([(0, 3, 4)])), skip_render_check=True)


def test_a_restored_snapshot_is_the_moment_it_was_taken():
    environment = PackingEnvironment(random_instance(1))
    _, info = environment.reset()
    first = int(np.nonzero(info["action_mask"])[0][0])
    snapshot = environment.snapshot()
    again, reward, *_ = environment.step(first)
    environment.restore(snapshot)
    repeated, repeated_reward, *_ = environment.step(first)
    assert reward == repeated_reward
    assert all(np.array_equal(again[name], repeated[name]) for name in again)
    with pytest.raises(UserError, match="may not be placed"):
        environment.step(first)
