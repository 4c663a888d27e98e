"""What is drawn from the replay is what was played."""

import numpy as np
import pytest

from agents.search_agent.replay import Replay
from agents.search_agent.self_play import PlayConfig, play


@pytest.fixture
def filled(games, network):
    replay = Replay(capacity=10_000)
    for place, game in enumerate(games):
        episodes = play(game, network, PlayConfig(num_simulations=2), count=2, seed=place)
        replay.add(place, episodes)
    return replay


def test_play_reaches_the_end_and_returns_add_up(games, network):
    episodes = play(games[0], network, PlayConfig(num_simulations=4), count=3, seed=1)
    shop = games[0].instance
    for episode in episodes:
        assert len(episode.actions) == shop.total_operations
        assert (np.bincount(episode.actions, minlength=shop.num_jobs) == shop.num_operations).all()
        assert episode.returns[0] == pytest.approx(episode.total)
        assert games[0].score(episode.total) >= shop.lower_bound
        np.testing.assert_allclose(episode.policy.sum(axis=1), 1, atol=1e-5)
    assert len({tuple(episode.actions) for episode in episodes}) > 1


def test_a_game_is_the_same_beside_any_number_of_others(games, network):
    config = PlayConfig(num_simulations=4)
    few, many = (play(games[0], network, config, count=count, seed=1) for count in (1, 3))
    assert (few[0].actions == many[0].actions).all()


def test_learned_dynamics_play_legally(games, network):
    config = PlayConfig(dynamics="learned", num_simulations=4)
    episode = play(games[0], network, config, count=1, seed=1)[0]
    assert len(episode.actions) == games[0].instance.total_operations


def test_samples_are_places_of_episodes(filled):
    sample = filled.sample(64, 3, np.random.default_rng(0))
    for row in range(64):
        _, episode = filled._episodes[sample.drawn[row]]
        starts = np.nonzero(np.isclose(episode.returns, sample.returns[row, 0]))[0]
        assert len(starts)
        count = int(sample.going[row].sum())
        fits = [
            start
            for start in starts
            if (
                episode.actions[start : start + 3]
                == sample.actions[row, : len(episode.actions[start : start + 3])]
            ).all()
            and min(4, len(episode.actions) - start) == count
        ]
        assert fits
        seen = episode.observation.overall
        assert any(np.array_equal(seen[start], sample.observation.overall[row]) for start in fits)
        assert not sample.returns[row, count:].any()


def test_old_episodes_go_first(games, network):
    replay = Replay(capacity=games[0].instance.total_operations * 2)
    episodes = play(games[0], network, PlayConfig(num_simulations=1), count=5, seed=0)
    replay.add(0, episodes)
    assert len(replay) == 2 * games[0].instance.total_operations
    assert [held for _, held in replay._episodes] == episodes[-2:]


def test_arrays_bring_everything_back(filled):
    other = Replay(capacity=10_000)
    other.restore(filled.arrays())
    first, second = (replay.sample(16, 2, np.random.default_rng(4)) for replay in (filled, other))
    np.testing.assert_array_equal(first.observation.actions, second.observation.actions)
    np.testing.assert_array_equal(first.policy, second.policy)
