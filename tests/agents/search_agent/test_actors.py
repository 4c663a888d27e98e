"""Rounds of self-play by several processes."""

import numpy as np

from agents.search_agent.actors import play_round
from agents.search_agent.self_play import PlayConfig
from datasets.executor import Here, LocalProcesses


def test_processes_play_the_games_of_one(games, network):
    config = PlayConfig(num_simulations=3)
    alone = play_round(Here(), games[0], network, config, count=3, seed=4)
    shared = play_round(LocalProcesses(2), games[0], network, config, count=3, seed=4)
    assert len({tuple(episode.actions) for episode in alone}) == 3
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        # Rounding of batched sums, which the search's rescaling of values makes larger.
        np.testing.assert_allclose(one.policy, other.policy, atol=1e-2)
