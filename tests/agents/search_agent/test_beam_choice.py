"""Moves chosen by the beam planner, and what is to be learned from them."""

import numpy as np
import pytest

from agents.search_agent.beam_choice import TriedByPolicy, beam_choice
from agents.search_agent.replay import Replay
from agents.search_agent.self_play import PlayConfig, choose, planning_model, play
from agents.search_agent.train_config import SearchTrainConfig
from agents.search_agent.training import reanalyse
from planning import beam_search
from planning.table_model import TableModel, random_table
from tests.planning.worlds import RecordingModel, optimal_values, subset_world


def decide(model, states, **changes):
    settings = {"beam_width": 3, "horizon": 8, "num_nodes": 20, "gumbel_scale": 0.0} | changes
    seeds = np.arange(len(states))
    return beam_choice(model, states, num_roots=len(states), seeds=seeds, **settings)


def test_without_noise_it_is_the_beams_action():
    model = random_table(np.random.default_rng(0), 40, 6, illegal_rate=0.3)
    states = np.arange(40)
    plain = beam_search(TriedByPolicy(model, np.zeros(6)), states, beam_width=3, horizon=2)
    result = decide(model, states, horizon=2, num_nodes=1000)
    np.testing.assert_array_equal(result.action, plain.action)
    # The most probable actions are tried, and no others.
    best = np.argsort(np.where(model.legal_mask, -model.prior_logits, np.inf), axis=1)
    for row in range(40):
        count = min(3, model.legal_mask[row].sum())
        assert set(np.nonzero(result.visit_counts[row])[0]) == set(best[row, :count])


def test_paths_that_left_the_beam_count_for_no_more_than_the_best():
    """0 leads to 1 and 3, or to 2 and 4, then to the end: 3 looks worse than 4 and better than the end."""
    following = np.array([[1, 2], [3, 3], [4, 4], [5, 5], [5, 5], [5, 5]])
    is_last = (following == 5).astype(np.float64)
    model = TableModel(
        next_state=following,
        reward=0.5 * is_last,
        discount=1 - is_last,
        value=np.array([0.0, 3.0, 3.0, 1.5, 2.0, 0.0]),
        q_value=np.zeros((6, 2)),
        prior_logits=np.zeros((6, 2)),
        legal_mask=np.arange(6)[:, None].repeat(2, axis=1) < 5,
    )
    start = np.zeros(1, dtype=np.int64)
    plain = beam_search(model, start, beam_width=2, horizon=3)
    assert plain.action[0] == 1
    assert plain.root_q_value[0].tolist() == [1.5, 0.5]
    found = decide(model, start, beam_width=2, horizon=3)
    assert found.action[0] == 1
    assert found.root_q_value[0].tolist() == [0.5, 0.5]


def test_as_many_positions_are_looked_at_as_asked():
    recording = RecordingModel(random_table(np.random.default_rng(2), 300, 6))
    for width, nodes in ((1, 7), (2, 16), (4, 16), (3, 37)):
        recording.steps.clear()
        result = decide(recording, np.arange(5), beam_width=width, horizon=50, num_nodes=nodes)
        np.testing.assert_array_equal(result.visit_counts.sum(axis=1), nodes)
        assert recording.evaluations <= 5 * nodes


def test_a_wide_beam_finds_the_optimum_and_teaches_it():
    model = subset_world(np.random.default_rng(3), items=5, picks=3)
    result = decide(model, np.zeros(1, dtype=np.int64), beam_width=60, horizon=3, num_nodes=10_000)
    value = optimal_values(model, 3)
    q_value = model.reward[0] + value[model.next_state[0]]
    assert result.root_value[0] == pytest.approx(value[0])
    assert result.action[0] == q_value.argmax()
    assert result.action_weights[0].argmax() == q_value.argmax()
    assert result.action_weights[0] @ q_value > q_value.mean() + 0.5 * q_value.std()


def test_the_policy_is_that_of_its_formula():
    model = random_table(np.random.default_rng(4), 30, 5)
    result = decide(model, np.arange(30))
    prior = np.exp(model.prior_logits[:30])
    prior /= prior.sum(axis=1, keepdims=True)
    for row in range(30):
        counts, q_value = result.visit_counts[row], result.root_q_value[row].copy()
        tried = counts > 0
        mean = (prior[row] * q_value)[tried].sum() / prior[row][tried].sum()
        q_value[~tried] = (model.value[row] + counts.sum() * mean) / (counts.sum() + 1)
        scaled = (q_value - q_value.min()) / (q_value.max() - q_value.min())
        weight = prior[row] * np.exp(0.1 * (50 + counts.max()) * scaled)
        np.testing.assert_allclose(result.action_weights[row], weight / weight.sum(), atol=1e-9)


def test_with_noise_actions_are_taken_as_the_policy_says():
    """Where all actions are tried, the action is a sample of the improved policy."""
    model = random_table(np.random.default_rng(5), 1, 4)
    states = np.zeros(20_000, dtype=np.int64)
    result = decide(model, states, beam_width=4, num_nodes=8, gumbel_scale=1.0)
    share = np.bincount(result.action, minlength=4) / len(states)
    # Which paths are looked at further depends on the noise a little, and with it the policy.
    np.testing.assert_allclose(share, result.action_weights.mean(axis=0), atol=0.02)
    assert share.max() < 0.99


@pytest.mark.parametrize("dynamics", ["exact", "learned"])
def test_games_are_played_and_searched_again(games, network, tmp_path, dynamics):
    config = PlayConfig(dynamics, planner="beam", num_simulations=6, beam_width=2, horizon=3)
    episodes = play(games[0], network, config, count=3, seed=1)
    assert len({tuple(episode.actions) for episode in episodes}) > 1
    for episode in episodes:
        assert len(episode.actions) == games[0].instance.total_operations
        np.testing.assert_allclose(episode.policy.sum(axis=1), 1)
        assert not episode.policy[~episode.observation.legal_mask].any()
    replay = Replay(1000)
    replay.add(0, episodes)
    training = SearchTrainConfig(game="job-shop", run=tmp_path, play=config, unroll=1)
    again = reanalyse(games[0], network, training, episodes[0], seed=5)
    assert again.shape == episodes[0].policy.shape
    assert (again != episodes[0].policy).any(), "other noise, other searches"


def test_without_noise_games_are_alike(games, network, midgame):
    config = PlayConfig(planner="beam", gumbel_scale=0.0)
    model = planning_model(games[1], network, config)
    first, second = (
        choose(games[1], model, midgame[1], config, seeds) for seeds in (np.arange(4), np.arange(4) + 9)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
