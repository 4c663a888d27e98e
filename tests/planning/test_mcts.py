"""The published tree search and its corrections, on worlds made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planning import PlanningError, TreeOptions, mcts
from planning.table_model import TableModel, random_table
from tests.planning.worlds import RecordingModel

EXACT = TreeOptions(precision="float64")


def two_doors(illegal: bool = False) -> TableModel:
    """Action 0 pays -3 and leads to a state worth -1; action 1 pays 2, to -4; action 2 is not allowed."""
    return TableModel(
        next_state=np.array([[1, 2, 0], [1, 1, 1], [2, 2, 2]]),
        reward=np.array([[-3.0, 2.0, 0.0], [0.0] * 3, [0.0] * 3]),
        discount=np.ones((3, 3)),
        value=np.zeros(3),
        q_value=np.array([[0.0, 0.0, 9.0], [-1.0] * 3, [-4.0] * 3]),
        prior_logits=np.zeros((3, 3)),
        legal_mask=np.array([[True, True, not illegal], [True] * 3, [True] * 3]),
    )


def test_the_choice_counts_the_reward_and_legal_actions_only():
    model = two_doors(illegal=True)
    fixed = mcts(model, np.array([0]), num_simulations=12, horizon=2, options=EXACT)
    assert fixed.action[0] == 1
    np.testing.assert_allclose(fixed.root_q_value[0, :2], [-4, -2])
    # As published: states at -1 and -4, and 0 for what was never tried, be it illegal.
    published = mcts(
        model, np.array([0]), num_simulations=12, horizon=2, published_semantics=True, options=EXACT
    )
    assert published.action[0] == 2


def test_the_first_simulation_takes_the_highest_legal_action():
    model = RecordingModel(random_table(np.random.default_rng(0), 20, 6, illegal_rate=0.4))
    mcts(model, np.arange(20), num_simulations=1, horizon=3)
    last = 5 - model.model.legal_mask[:, ::-1].argmax(axis=1)
    np.testing.assert_array_equal(model.steps[0][1], last)


@pytest.mark.parametrize(("horizon", "depth"), [(0, 1), (1, 1), (2, 1), (3, 2), (5, 4)])
def test_paths_are_one_step_shorter_than_the_horizon(horizon, depth):
    model = random_table(np.random.default_rng(1), 20, 3)
    tree = mcts(model, np.arange(5), num_simulations=60, horizon=horizon).tree
    assert tree.depth.max() == depth


def test_values_and_policy_are_made_of_q_values():
    model = random_table(np.random.default_rng(2), 20, 4, illegal_rate=0.3)
    legal = model.legal_mask
    highest = np.where(legal, model.q_value, -np.inf).max(axis=1)
    mean = np.where(legal, model.q_value, 0).sum(axis=1) / legal.sum(axis=1)
    for use_mean, expected in ((False, highest), (True, mean)):
        tree = mcts(
            model,
            np.arange(20),
            num_simulations=10,
            horizon=4,
            temperature=0.5,
            use_mean=use_mean,
            options=EXACT,
        ).tree
        np.testing.assert_allclose(tree.value[:, 1], expected[tree.node[:, 1]])
        weight = np.where(legal, np.exp(model.q_value / 0.5), 0)
        np.testing.assert_allclose(tree.prior[:, 0], weight / weight.sum(axis=1, keepdims=True))


def test_actions_of_no_weight_are_never_tried():
    model = random_table(np.random.default_rng(3), 10, 3)
    model = replace(model, q_value=np.tile([0.0, 1.0, -40.0], (10, 1)))
    tree = mcts(model, np.arange(10), num_simulations=50, horizon=4, options=EXACT).tree
    assert (np.maximum(tree.edge_visits, 0)[:, :, 2] == 0).all()


def test_choice_by_count():
    model = random_table(np.random.default_rng(4), 20, 4)
    result = mcts(model, np.arange(20), num_simulations=30, horizon=4, use_count=True)
    np.testing.assert_array_equal(result.action, result.visit_counts.argmax(axis=1))


def test_settings_that_do_not_go_together_are_named():
    model = random_table(np.random.default_rng(5), 5, 3)
    with pytest.raises(PlanningError, match="temperature is 0; it must be above 0"):
        mcts(model, np.arange(5), num_simulations=5, horizon=2, temperature=0)
    with pytest.raises(PlanningError, match="with mcts it needs use_count"):
        mcts(model, np.arange(5), num_simulations=5, horizon=2, options=TreeOptions(early_stop=True))
