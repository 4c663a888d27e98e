"""Searches that let equal states share what was found out below them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planning import TreeOptions, best_path, gumbel_muzero, muzero
from planning.table_model import TableModel, random_table
from tests.planning.test_tree_search import assert_same
from tests.planning.worlds import RecordingModel, optimal_values, subset_world

EXACT = TreeOptions(precision="float64")
MERGED = replace(EXACT, merge_equal_states=True)
both_searches = pytest.mark.parametrize("search", [muzero, gumbel_muzero])


def unfolded(model: TableModel, depth: int) -> TableModel:
    """The same world in which no two ways lead to the same state: states become the ways to them."""
    actions, ways, origin = model.num_actions, [0], [0]
    next_way = []
    for _ in range(depth):
        children = [int(model.next_state[state, action]) for state in origin for action in range(actions)]
        first = len(ways)
        next_way += [list(range(first + actions * i, first + actions * (i + 1))) for i in range(len(origin))]
        ways, origin = ways + children, children
    next_way += [[way] * actions for way in range(len(next_way), len(ways))]
    way = np.array(ways)
    return TableModel(
        next_state=np.array(next_way),
        reward=model.reward[way],
        discount=model.discount[way],
        value=model.value[way],
        q_value=model.q_value[way],
        prior_logits=model.prior_logits[way],
        legal_mask=model.legal_mask[way],
    )


@both_searches
def test_without_equal_states_merging_changes_nothing(search):
    model = unfolded(random_table(np.random.default_rng(0), 10, 3, end_rate=0.1), 6)
    settings = {"num_simulations": 40, "max_depth": 6}
    assert_same(
        search(model, np.array([0]), options=EXACT, **settings),
        search(model, np.array([0]), options=MERGED, **settings),
    )


@both_searches
def test_merged_rows_are_equal_states_of_equal_depth(search):
    model = random_table(np.random.default_rng(1), 6, 4)
    tree = search(model, np.arange(6), num_simulations=80, options=MERGED).tree
    row, node = np.nonzero(tree.visits > 0)
    shared = tree.state[row, node]
    assert (shared != node).any()
    np.testing.assert_array_equal(tree.node[row, node], tree.node[row, shared])
    np.testing.assert_array_equal(tree.depth[row, node], tree.depth[row, shared])
    np.testing.assert_array_equal(tree.score[row, shared], tree.score[row, tree.state[row, shared]])
    for tree_row in range(6):
        held = np.unique(shared[row == tree_row])
        names = set(zip(tree.node[tree_row, held], tree.depth[tree_row, held], strict=True))
        assert len(names) == len(held), "a state is held by one row"


@both_searches
def test_ends_are_never_merged(search):
    """A transition may end the episode in a state in which another one does not."""
    model = random_table(np.random.default_rng(2), 4, 4, end_rate=0.5)
    tree = search(model, np.arange(4), num_simulations=60, options=MERGED).tree
    ended = (tree.discount == 0) & (tree.visits > 0)
    assert ended.any()
    row, node = np.nonzero(ended)
    np.testing.assert_array_equal(tree.state[row, node], node)


def test_merging_evaluates_fewer_states_for_the_same_knowledge():
    """Until the optimum is known at the root, on a game in which the order of moves does not matter."""
    plain_total = merged_total = 0
    for seed in range(10):
        model = subset_world(np.random.default_rng(seed), 6, 4)
        best = optimal_values(model, 4)[0]

        def needed(options: TreeOptions, model: TableModel = model, best: float = best) -> int:
            for simulations in range(20, 1200, 20):
                recorded = RecordingModel(model)
                result = muzero(
                    recorded, np.array([0]), num_simulations=simulations, options=options, pb_c_init=3.0
                )
                if result.root_q_value[0].max() > 0.9 * best:
                    return recorded.evaluations
            return 1200

        plain_total += needed(EXACT)
        merged_total += needed(MERGED)
    assert merged_total < 0.8 * plain_total


@both_searches
def test_values_of_merged_states_stay_in_bounds(search):
    model = subset_world(np.random.default_rng(3), 6, 4)
    best = optimal_values(model, 4)[0]
    result = search(model, np.array([0]), num_simulations=500, options=MERGED)
    visited = result.tree.edge_visits > 0
    assert result.tree.q_value[visited].max() <= best + 1e-9
    assert result.tree.q_value[visited].min() >= 0
    np.testing.assert_array_equal(result.visit_counts.sum(axis=1), 500)


@both_searches
def test_the_plan_begins_with_the_action_and_follows_the_world(search):
    """Where states are shared, a row's parent may lie on another way than the one that is planned."""
    model = random_table(np.random.default_rng(4), 5, 4)
    result = search(model, np.tile(np.arange(5), 8), num_simulations=60, seed=1, options=MERGED)
    tree, shared = result.tree, 0
    for row in range(40):
        actions, nodes = best_path(result, row)
        assert actions[0] == result.action[row]
        assert nodes[0] == 0
        assert nodes[-1] == result.best_node[row]
        states = tree.node[row, nodes]
        np.testing.assert_array_equal(model.next_state[states[:-1], actions], states[1:])
        np.testing.assert_array_equal(tree.depth[row, nodes], np.arange(len(nodes)))
        shared += (tree.parent[row, nodes[1:]] != nodes[:-1]).sum()
    assert shared, "some plan passes a state that was first reached by another way"
