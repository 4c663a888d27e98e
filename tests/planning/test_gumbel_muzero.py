"""Gumbel search: sequential halving, the improved policy, and what it considers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning import PlanningError, RootNoise, TreeOptions, gumbel_muzero
from planning.gumbel_muzero import considered_visits, scaled_q_values
from planning.table_model import random_table
from tests.planning.worlds import RecordingModel

EXACT = TreeOptions(precision="float64")


def test_halving_as_worked_out_by_hand():
    # 4 actions in 2 phases of 8 simulations each: twice 4 actions, then 4 times 2.
    assert considered_visits(4, 16)[4].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert considered_visits(4, 5)[1].tolist() == [0, 1, 2, 3, 4]
    assert considered_visits(3, 7)[3].tolist() == [0, 0, 0, 1, 1, 2, 2]


@given(considered=st.integers(2, 20), simulations=st.integers(1, 200))
def test_halving_spends_every_simulation_on_an_action_that_is_there(considered, simulations):
    visits = np.zeros(considered, dtype=int)
    for wanted in considered_visits(considered, simulations)[considered]:
        candidates = np.flatnonzero(visits == wanted)
        assert len(candidates), "some action has been visited as often as the schedule says"
        visits[candidates[0]] += 1
    assert visits.sum() == simulations
    assert (np.diff(visits) <= 0).all()


def test_no_more_actions_are_considered_than_asked():
    model = random_table(np.random.default_rng(0), 30, 8, illegal_rate=0.3)
    for most in (1, 3, 8):
        result = gumbel_muzero(model, np.arange(30), num_simulations=40, max_num_considered_actions=most)
        expected = np.minimum(model.legal_mask.sum(axis=1), most)
        np.testing.assert_array_equal((result.visit_counts > 0).sum(axis=1), expected)


def test_without_noise_the_policys_best_are_considered():
    model = random_table(np.random.default_rng(1), 30, 8)
    result = gumbel_muzero(
        model, np.arange(30), num_simulations=8, max_num_considered_actions=3, gumbel_scale=0.0
    )
    best = np.sort(np.argsort(-model.prior_logits, axis=1)[:, :3], axis=1)
    np.testing.assert_array_equal(np.nonzero(result.visit_counts)[1].reshape(30, 3), best)


def test_actions_are_considered_as_often_as_the_policy_takes_them():
    """One considered action, drawn by Gumbel noise, is a sample of the policy."""
    model = random_table(np.random.default_rng(2), 1, 5)
    states = np.zeros(20_000, dtype=np.int64)
    result = gumbel_muzero(model, states, num_simulations=1, max_num_considered_actions=1, seed=3)
    weight = np.exp(model.prior_logits[0])
    share = np.bincount(result.action, minlength=5) / len(states)
    np.testing.assert_allclose(share, weight / weight.sum(), atol=0.012)


def test_given_noise_is_used_as_it_is():
    model = random_table(np.random.default_rng(3), 10, 5)
    wanted = np.random.default_rng(4).integers(5, size=10)
    noise = np.where(np.arange(5) == wanted[:, None], 1000.0, 0.0)
    result = gumbel_muzero(model, np.arange(10), num_simulations=20, noise=RootNoise(policy=noise))
    np.testing.assert_array_equal(result.action, wanted)


def test_the_improved_policy_is_better_than_the_models():
    """Its expected Q-value under exact Q-values is at least the prior's: policy improvement."""
    model = random_table(np.random.default_rng(5), 100, 6, discount=0.0)
    result = gumbel_muzero(
        model, np.arange(100), num_simulations=32, gumbel_scale=0.0,
        options=TreeOptions(precision="float64", mctx_semantics=True),
    )  # fmt: skip
    prior = result.tree.prior[:, 0]
    ours = (result.action_weights * model.reward).sum(axis=1)
    theirs = (prior * model.reward).sum(axis=1)
    assert (ours >= theirs - 1e-12).all()
    assert (ours > theirs + 0.1).mean() > 0.9


def test_nothing_to_consider_is_an_error():
    model = random_table(np.random.default_rng(6), 5, 3)
    with pytest.raises(PlanningError, match="max_num_considered_actions is 0; it must be at least 1"):
        gumbel_muzero(model, np.arange(5), num_simulations=5, max_num_considered_actions=0)


@pytest.mark.parametrize("compiled", [True, False])
def test_early_stop_leaves_out_a_search_whose_outcome_is_foregone(compiled):
    """A policy surer than any Q-value could outweigh needs one simulation; the choice is the same."""
    table = random_table(np.random.default_rng(6), 60, 5, illegal_rate=0.2)
    model = RecordingModel(replace(table, prior_logits=6 * table.prior_logits))
    full = replace(EXACT, compiled=compiled)
    settings = {"num_simulations": 12, "seed": 3, "maxvisit_init": 20.0}
    slow = gumbel_muzero(model, np.arange(60), options=full, **settings)
    asked, model.steps = model.evaluations, []
    fast = gumbel_muzero(model, np.arange(60), options=replace(full, early_stop=True), **settings)
    np.testing.assert_array_equal(slow.action, fast.action)
    simulations = fast.visit_counts.sum(axis=1)
    assert 10 < (simulations == 1).sum() < 60
    assert (np.isin(simulations, (1, 12))).all()
    assert model.evaluations < asked
    # Without rescaling Q-values may be of any size: nothing is foregone.
    unscaled = gumbel_muzero(
        model, np.arange(60), options=replace(full, early_stop=True), rescale_values=False, **settings
    )
    assert (unscaled.visit_counts.sum(axis=1) == 12).sum() > 40


def test_the_policy_of_other_searches_is_made_the_same_way():
    model = random_table(np.random.default_rng(6), 50, 6, illegal_rate=0.2)
    result = gumbel_muzero(model, np.arange(50), num_simulations=20, seed=1, options=EXACT)
    roots = model.root(np.arange(50))
    visits = np.maximum(result.tree.edge_visits[:, 0], 0)
    weight = np.exp(roots.prior_logits + scaled_q_values(roots, result.root_q_value, visits))
    weight = np.where(roots.legal_mask, weight, 0)
    np.testing.assert_allclose(result.action_weights, weight / weight.sum(axis=1, keepdims=True), atol=1e-9)
