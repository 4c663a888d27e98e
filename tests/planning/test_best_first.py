"""Best-first search against exhaustive enumeration, and its budgets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning import PlanningError, beam_search, best_first_search, best_path
from planning.table_model import random_table
from tests.planning.worlds import RecordingModel, optimal_values, subset_world


@pytest.mark.parametrize("slack", [0.0, 0.3])
def test_values_that_never_underestimate_give_the_optimum(slack):
    for seed in range(10):
        model = subset_world(np.random.default_rng(seed), 5, 4)
        best = optimal_values(model, 4)
        noise = slack * np.random.default_rng(100 + seed).uniform(size=len(best))
        model = RecordingModel(replace(model, value=np.where(model.legal_mask.any(axis=1), best + noise, 0)))
        result = best_first_search(model, np.array([0]), budget=10_000)
        np.testing.assert_allclose(result.root_value[0], best[0])
        rewards = [
            model.model.reward[result.tree.node[0, row], action]
            for action, row in zip(*best_path(result, 0), strict=False)
        ]
        np.testing.assert_allclose(sum(rewards), best[0])
        exhaustive = 5 + 5 * 4 + 5 * 4 * 3 + 5 * 4 * 3 * 2
        assert model.evaluations < exhaustive
        if slack == 0:
            assert model.evaluations == 5 + 4 + 3 + 2, "perfect values lead straight to the goal"


def test_worthless_values_give_the_optimum_when_all_is_searched():
    """With values far too high, nothing is complete before everything above it is expanded."""
    for seed in range(5):
        model = subset_world(np.random.default_rng(seed), 4, 3)
        best = optimal_values(model, 3)
        model = replace(model, value=np.where(model.legal_mask.any(axis=1), 100.0, 0))
        result = best_first_search(model, np.array([0]), budget=10_000)
        np.testing.assert_allclose(result.root_value[0], best[0])
        assert result.tree.num_nodes[0] == 1 + 4 + 4 * 3 + 4 * 3 * 2


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    budget=st.integers(0, 60),
    branching=st.sampled_from([None, 1, 2]),
    horizon=st.sampled_from([None, 1, 3]),
)
def test_budgets_and_laws(seed, budget, branching, horizon):
    model = random_table(np.random.default_rng(seed), 25, 4, end_rate=0.2, illegal_rate=0.3)
    states = np.random.default_rng(seed + 1).integers(25, size=5)
    options = {"budget": budget, "branching": branching, "horizon": horizon}
    batch = best_first_search(model, states, **options)
    tree = batch.tree
    assert (tree.num_nodes - 1 <= budget).all()
    if horizon is not None:
        assert tree.depth.max() <= horizon
    for row, state in enumerate(states):
        single = best_first_search(model, states[row : row + 1], **options)
        count = int(single.tree.num_nodes[0])
        assert tree.num_nodes[row] == count
        np.testing.assert_array_equal(single.tree.node[0], tree.node[row, :count])
        np.testing.assert_array_equal(single.tree.score[0], tree.score[row, :count])
        np.testing.assert_array_equal(single.root_q_value[0], batch.root_q_value[row])
        assert single.action[0] == batch.action[row]
        assert model.legal_mask[state, batch.action[row]]
        parent, action = tree.parent[row, 1:count], tree.action[row, 1:count]
        assert model.legal_mask[tree.node[row, parent], action].all()
        assert (tree.discount[row, parent[parent > 0]] != 0).all()
        if branching is not None:
            assert np.bincount(parent, minlength=1).max() <= branching
        leaves = np.setdiff1d(np.arange(count), parent)
        assert tree.score[row, leaves].max() == batch.root_value[row]


def test_a_horizon_of_one_is_a_wide_beam_of_one():
    model = random_table(np.random.default_rng(1), 30, 5, illegal_rate=0.3)
    beam = beam_search(model, np.arange(30), beam_width=5, horizon=1)
    best = best_first_search(model, np.arange(30), budget=100, horizon=1)
    np.testing.assert_array_equal(beam.action, best.action)
    np.testing.assert_array_equal(beam.root_q_value, best.root_q_value)


def test_a_budget_of_tokens():
    model = random_table(np.random.default_rng(2), 30, 3)
    result = best_first_search(model, np.arange(30), budget=37 * 10 + 36, node_cost=37)
    assert (result.tree.num_nodes == 11).all()


def test_no_budget_is_the_models_own_choice():
    model = random_table(np.random.default_rng(3), 30, 3, illegal_rate=0.3)
    result = best_first_search(model, np.arange(30), budget=0)
    np.testing.assert_array_equal(
        result.action, np.where(model.legal_mask, model.q_value, -np.inf).argmax(axis=1)
    )


def test_roots_share_each_call():
    model = RecordingModel(random_table(np.random.default_rng(4), 30, 3))
    result = best_first_search(model, np.arange(8), budget=30)
    assert len(model.steps) == 10
    assert result.tree.num_nodes.tolist() == [31] * 8


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"budget": -1}, "budget is -1; it must be at least 0"),
        ({"budget": 5, "node_cost": 0}, "node_cost is 0; it must be at least 1"),
        ({"budget": 5, "branching": 0}, "branching is 0; it must be at least 1"),
        ({"budget": 5, "horizon": -1}, "horizon is -1; it must be at least 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, sentence):
    with pytest.raises(PlanningError, match=sentence):
        best_first_search(random_table(np.random.default_rng(5), 5, 3), np.arange(5), **settings)
