"""Playing by the policy alone."""

import time

import numpy as np
import pytest

from agents.search_agent.guide import NetworkGuide
from agents.search_agent.policy_play import play_policy


def test_at_temperature_0_the_likeliest_legal_moves_are_made(games, network):
    game = games[0]
    ((actions, total),) = play_policy(game, network, [0.0], seed=0)
    positions, guide, sum_of_rewards = game.start(1), NetworkGuide(network, game), 0.0
    for action in actions:
        logits = np.where(game.legal_mask(positions), guide.prior_logits(positions), -np.inf)
        assert action == logits.argmax()
        positions, rewards, done = game.step(positions, np.array([action]))
        sum_of_rewards += rewards[0]
    assert done[0]
    assert total == pytest.approx(sum_of_rewards)


def test_draws_differ_by_temperature_and_repeat(games, network):
    played = play_policy(games[1], network, [0.0, 0.0, 1.0, 1.0], seed=3)
    again = play_policy(games[1], network, [0.0, 0.0, 1.0, 1.0], seed=3)
    for one, two in zip(played, again, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(played[0][0], played[1][0])
    assert not np.array_equal(played[2][0], played[3][0])


def test_games_that_are_not_over_in_time_are_given_up(games, network):
    assert play_policy(games[0], network, [0.0], seed=0, deadline=time.perf_counter() - 1) == []
