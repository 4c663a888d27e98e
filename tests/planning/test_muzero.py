"""pUCT search: exploration noise, the final draw, and chance nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planning import PlanningError, RootNoise, TreeOptions, muzero, stochastic_muzero
from planning.layout import CHANCE
from planning.muzero import exploration_weights
from planning.table_model import random_table
from tests.planning.worlds import dice_world

EXACT = TreeOptions(precision="float64")


def test_exploration_weights_are_the_formula():
    weights = exploration_weights(100, 1.25, 19652.0, "float64")
    assert len(weights) == 101
    assert weights[0] == 0
    assert weights[1] == 1.25 + np.log(19654 / 19652)
    assert weights[100] == 10 * (1.25 + np.log(19753 / 19652))


def test_first_choice_is_the_policys():
    model = random_table(np.random.default_rng(0), 20, 6, illegal_rate=0.4)
    result = muzero(model, np.arange(20), num_simulations=1, options=EXACT)
    expected = np.where(model.legal_mask, model.prior_logits, -np.inf).argmax(axis=1)
    np.testing.assert_array_equal(result.action, expected)


def test_noise_is_mixed_into_the_legal_policy():
    model = random_table(np.random.default_rng(1), 20, 6, illegal_rate=0.4)
    noise = np.random.default_rng(2).dirichlet(np.ones(6), size=20)
    result = muzero(
        model,
        np.arange(20),
        num_simulations=3,
        dirichlet_fraction=0.25,
        noise=RootNoise(policy=noise),
        options=EXACT,
    )
    plain = muzero(model, np.arange(20), num_simulations=3, options=EXACT)
    legal_noise = np.where(model.legal_mask, noise, 0)
    legal_noise /= legal_noise.sum(axis=1, keepdims=True)
    expected = 0.75 * plain.tree.prior[:, 0] + 0.25 * legal_noise
    np.testing.assert_allclose(result.tree.prior[:, 0], expected, rtol=1e-12)


def test_drawn_noise_is_a_distribution_over_legal_actions():
    model = random_table(np.random.default_rng(3), 20, 6, illegal_rate=0.4)
    result = muzero(
        model, np.arange(20), num_simulations=2, dirichlet_fraction=1.0, dirichlet_alpha=0.03, seed=5
    )
    prior = result.tree.prior[:, 0]
    np.testing.assert_allclose(prior.sum(axis=1), 1, rtol=1e-6)
    assert (prior[~model.legal_mask] == 0).all()


def test_actions_are_drawn_in_proportion_to_visits():
    model = random_table(np.random.default_rng(4), 1, 4)
    states = np.zeros(20_000, dtype=np.int64)
    cold = muzero(model, states[:1], num_simulations=30)
    assert cold.action[0] == cold.visit_counts[0].argmax()
    for temperature in (1.0, 0.5):
        drawn = muzero(model, states, num_simulations=30, temperature=temperature, seed=1)
        weights = cold.action_weights[0] ** (1 / temperature)
        share = np.bincount(drawn.action, minlength=4) / len(states)
        np.testing.assert_allclose(share, weights / weights.sum(), atol=0.012)


def test_chance_nodes_are_visited_as_likely_as_they_are():
    model = dice_world(np.random.default_rng(5), 3, 5)
    result = muzero(model, np.array([0]), num_simulations=6000, options=EXACT)
    tree = result.tree
    for action in range(3):
        node = tree.children[0, 0, action]
        assert tree.kind[0, node] == CHANCE
        weight = np.where(model.legal_mask[1 + action], np.exp(model.prior_logits[1 + action]), 0)
        probability = weight / weight.sum()
        expected = (probability * model.reward[1 + action]).sum()
        visits = np.maximum(tree.edge_visits[0, node], 0)
        # At each moment an outcome lags its share by less than one visit.
        assert np.abs(visits - visits.sum() * probability).max() < 2
        if visits.sum() > 500:
            assert abs(result.root_q_value[0, action] - expected) < 0.02


def test_a_root_may_be_a_chance_node():
    model = dice_world(np.random.default_rng(6), 3, 5)
    result = muzero(model, np.array([1, 2]), num_simulations=200, options=EXACT)
    weight = np.where(model.legal_mask[1:3], np.exp(model.prior_logits[1:3]), 0)
    share = weight / weight.sum(axis=1, keepdims=True)
    assert np.abs(result.visit_counts - 200 * share).max() < 2


def test_an_action_never_tried_stands_at_the_roots_value():
    model = random_table(np.random.default_rng(7), 5, 6)
    result = muzero(model, np.arange(5), num_simulations=2, options=EXACT)
    for row in range(5):
        assert (result.root_q_value[row][result.visit_counts[row] == 0] == result.root_value[row]).all()


def test_settings_out_of_range_are_named():
    model, states = random_table(np.random.default_rng(8), 5, 3), np.arange(5)
    for settings, sentence in (
        ({"num_simulations": 0}, "num_simulations is 0; it must be at least 1"),
        ({"max_depth": 0}, "max_depth is 0; it must be at least 1"),
        ({"dirichlet_fraction": 1.5}, r"dirichlet_fraction is 1.5; it must be in \[0, 1\]"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan; it must be 0 or more"),
        ({"dirichlet_alpha": 0.0}, "dirichlet_alpha is 0.0; it must be at least 1e-06"),
        ({"pb_c_base": -1.0}, "pb_c_base is -1.0; it must be at least 1e-06"),
        ({"pb_c_init": -1.0}, "pb_c_init is -1.0; it must be at least 0"),
        ({"seed": np.arange(4)}, r"seed has shape \(4,\); give one number, or one for each of 5 roots"),
        ({"options": TreeOptions(precision="float16")}, "precision is 'float16'; it must be 'float32' or"),  # pyright: ignore[reportArgumentType]
        ({"options": TreeOptions(num_threads=0)}, "num_threads is 0; it must be at least 1"),
        ({"options": TreeOptions(max_batch=0)}, "max_batch is 0; it must be at least 1"),
        ({"temperature": 1.0, "options": TreeOptions(early_stop=True)}, "and 0 with early_stop"),
    ):
        with pytest.raises(PlanningError, match=sentence):
            muzero(model, states, **{"num_simulations": 5, **settings})
    blocked = replace(model, legal_mask=(np.arange(5) != 2)[:, None].repeat(3, axis=1))
    with pytest.raises(PlanningError, match="root 2 has no legal action"):
        muzero(blocked, states, num_simulations=5)


@pytest.mark.parametrize(
    ("noise", "sentence"),
    [
        (RootNoise(policy=np.ones((4, 3))), r"noise.policy has shape \(4, 3\); it must have shape \(5, 3\)"),
        (RootNoise(choice=np.ones((5, 2))), r"noise.choice has shape \(5, 2\); it must have shape \(5, 3\)"),
        (RootNoise(policy=np.full((5, 3), np.nan)), "noise.policy is nan at action 0 of root 0"),
    ],
)
def test_noise_that_does_not_fit_is_named(noise, sentence):
    model = random_table(np.random.default_rng(9), 5, 3)
    with pytest.raises(PlanningError, match=sentence):
        muzero(model, np.arange(5), num_simulations=5, dirichlet_fraction=0.5, temperature=1.0, noise=noise)


def test_a_world_without_chance_is_no_stochastic_one():
    with pytest.raises(PlanningError, match="the model's root leaves is_chance None"):
        stochastic_muzero(random_table(np.random.default_rng(10), 5, 3), np.arange(5), num_simulations=5)
    model = dice_world(np.random.default_rng(5), 3, 5)
    one, other = (
        search(model, np.array([0]), num_simulations=50, seed=2) for search in (muzero, stochastic_muzero)
    )
    np.testing.assert_array_equal(one.tree.visits, other.tree.visits)
