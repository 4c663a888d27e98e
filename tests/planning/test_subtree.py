"""Going on from an action with what is already known below it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planning import PlanningError, Resume, TreeOptions, beam_search, gumbel_muzero, muzero
from planning.table_model import random_table
from tests.planning.worlds import RecordingModel, nim_world, subset_world

EXACT = TreeOptions(precision="float64")


@pytest.mark.parametrize("compiled", [True, False])
def test_a_resumed_search_is_a_fresh_one_of_as_many_simulations(compiled):
    """Below a root pUCT knows nothing of what is above, so that both grow the same tree."""
    options = replace(EXACT, compiled=compiled)
    model = random_table(np.random.default_rng(0), 200, 4, end_rate=0.1, illegal_rate=0.2)
    states = np.arange(12)
    first = muzero(model, states, num_simulations=60, options=options)
    alive = model.discount[states, first.action] != 0
    states = states[alive]
    first = muzero(model, states, num_simulations=60, options=options)
    second = muzero(model, None, num_simulations=40, options=options, resume=Resume(first, first.action))
    following = model.next_state[states, first.action]
    done = first.visit_counts[np.arange(len(states)), first.action] - 1
    for row, state in enumerate(following):
        fresh = muzero(model, np.array([state]), num_simulations=int(done[row]) + 40, options=options)
        np.testing.assert_array_equal(fresh.visit_counts[0], second.visit_counts[row])
        np.testing.assert_allclose(fresh.root_q_value[0], second.root_q_value[row], rtol=1e-12)
        np.testing.assert_allclose(fresh.root_value[0], second.root_value[row], rtol=1e-12)
        assert fresh.action[0] == second.action[row]
        mine, theirs = second.tree, fresh.tree
        used = theirs.visits[0] > 0
        count = int((mine.visits[row] > 0).sum())
        assert count == used.sum()
        # Rows are numbered breadth first, but the states are the same, as often visited.
        ours = sorted(zip(mine.node[row], mine.depth[row], mine.visits[row], mine.score[row], strict=True))
        fresh_rows = zip(theirs.node[0], theirs.depth[0], theirs.visits[0], theirs.score[0], strict=True)
        kept = [values for values in ours if values[2] > 0]
        expected = sorted(values for values in fresh_rows if values[2] > 0)
        np.testing.assert_allclose(np.array(kept), np.array(expected), rtol=1e-12)


def test_a_kept_tree_has_the_same_links():
    model = random_table(np.random.default_rng(1), 100, 3, illegal_rate=0.2)
    first = gumbel_muzero(model, np.arange(6), num_simulations=50, options=EXACT)
    tree = gumbel_muzero(
        model, None, num_simulations=1, options=EXACT, resume=Resume(first, first.action)
    ).tree
    for row in range(6):
        for node in range(1, int(tree.num_nodes[row])):
            parent, action = tree.parent[row, node], tree.action[row, node]
            assert tree.children[row, parent, action] == node
            assert tree.depth[row, node] == tree.depth[row, parent] + 1
            assert model.next_state[tree.node[row, parent], action] == tree.node[row, node]


def test_only_what_is_new_is_evaluated():
    model = RecordingModel(random_table(np.random.default_rng(2), 100, 4))
    first = muzero(model, np.arange(5), num_simulations=50)
    model.steps = []
    second = muzero(model, None, num_simulations=20, resume=Resume(first, first.action))
    assert model.evaluations == 5 * 20
    kept = first.visit_counts[np.arange(5), first.action]
    np.testing.assert_array_equal(second.visit_counts.sum(axis=1), kept - 1 + 20)


def test_an_action_that_was_never_tried_is_evaluated():
    model = random_table(np.random.default_rng(3), 100, 8)
    first = gumbel_muzero(model, np.arange(4), num_simulations=6, max_num_considered_actions=2, options=EXACT)
    untried = first.visit_counts.argmin(axis=1)
    action = np.where(np.arange(4) % 2, untried, first.action)
    second = muzero(model, None, num_simulations=30, options=EXACT, resume=Resume(first, action))
    for row in (1, 3):
        state = model.next_state[row, untried[row]]
        fresh = muzero(model, np.array([state]), num_simulations=30, options=EXACT)
        np.testing.assert_array_equal(fresh.visit_counts[0], second.visit_counts[row])
    assert (second.visit_counts[::2].sum(axis=1) > 30).all()


def test_a_gumbel_search_halves_over_its_new_visits():
    model = random_table(np.random.default_rng(4), 200, 4)
    first = gumbel_muzero(model, np.arange(10), num_simulations=64, options=EXACT)
    second = gumbel_muzero(model, None, num_simulations=8, options=EXACT, resume=Resume(first, first.action))
    old = first.tree.edge_visits[np.arange(10), first.tree.children[np.arange(10), 0, first.action]]
    new = np.sort(second.visit_counts - np.maximum(old, 0), axis=1)
    np.testing.assert_array_equal(new, np.tile([1, 1, 3, 3], (10, 1)))


@pytest.mark.parametrize("compiled", [True, False])
def test_merged_states_stay_merged(compiled):
    options = replace(EXACT, merge_equal_states=True, compiled=compiled)
    model = subset_world(np.random.default_rng(5), 6, 4)
    first = muzero(model, np.array([0]), num_simulations=200, options=options)
    second = muzero(model, None, num_simulations=100, options=options, resume=Resume(first, first.action))
    tree = second.tree
    held = np.flatnonzero((tree.visits[0] > 0) & (tree.state[0] == np.arange(tree.visits.shape[1])))
    inner = held[tree.kind[0, held] != 2]
    names = list(zip(tree.node[0, inner], tree.depth[0, inner], strict=True))
    assert len(set(names)) == len(names)
    assert len(inner) < (tree.visits[0] > 0).sum()


def test_a_game_is_played_on_one_tree():
    model = nim_world(7)
    result = muzero(model, np.array([7]), num_simulations=600, options=EXACT)
    stones, turn = 7, 0
    while True:
        stones -= int(result.action[0]) + 1
        turn += 1
        if stones <= 3:
            break
        if turn % 2 == 1:
            assert stones % 4 == 0, "the first player leaves no way to win"
        result = muzero(model, None, num_simulations=400, options=EXACT, resume=Resume(result, result.action))
        assert result.tree.node[0, 0] == stones
    assert turn >= 2


def test_what_cannot_be_resumed_is_named():
    model = random_table(np.random.default_rng(6), 20, 3, illegal_rate=0.4)
    beam = beam_search(model, np.arange(2), beam_width=2, horizon=2)
    with pytest.raises(PlanningError, match="only a tree search can be resumed"):
        muzero(model, None, num_simulations=5, resume=Resume(beam, beam.action))
    result = muzero(model, np.arange(20), num_simulations=5)
    with pytest.raises(PlanningError, match="the tree to resume is float32, not float64"):
        muzero(model, None, num_simulations=5, options=EXACT, resume=Resume(result, result.action))
    illegal = int(np.flatnonzero(~model.legal_mask.all(axis=1))[0])
    action = result.action.copy()
    action[illegal] = model.legal_mask[illegal].argmin()
    with pytest.raises(PlanningError, match=f"action {action[illegal]} is illegal at root {illegal}"):
        muzero(model, None, num_simulations=5, resume=Resume(result, action))
    nim = nim_world(3)
    ended = muzero(nim, np.array([3]), num_simulations=50)
    with pytest.raises(PlanningError, match="action 2 ended the episode of root 0"):
        muzero(nim, None, num_simulations=5, resume=Resume(ended, ended.action))


def test_actions_that_cannot_be_resumed_are_named():
    model = random_table(np.random.default_rng(7), 20, 3)
    result = muzero(model, np.arange(4), num_simulations=5)
    for action, sentence in (
        (result.action[:3], r"resume.action has shape \(3,\); give one for each of 4 roots"),
        (np.array([0, 3, 0, 0]), "resume.action is 3 at root 1; actions go from 0 to 2"),
        (np.array([0, 0, -1, 0]), "resume.action is -1 at root 2; actions go from 0 to 2"),
    ):
        with pytest.raises(PlanningError, match=sentence):
            muzero(model, None, num_simulations=5, resume=Resume(result, action))
    wide = random_table(np.random.default_rng(8), 20, 4)
    with pytest.raises(PlanningError, match="the tree to resume has 3 actions, the model has 4"):
        muzero(wide, None, num_simulations=5, resume=Resume(result, result.action))
