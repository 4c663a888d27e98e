"""Beam search against exhaustive enumeration, hand-made worlds and itself one root at a time."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning import PlanningError, beam_search, best_path
from planning.beam import BeamLimits
from planning.model import BoundedModel
from planning.table_model import TableModel, random_table
from tests.planning.worlds import RecordingModel

WIDE = 10_000


def enumerate_best(model: TableModel, state: int, horizon: int) -> tuple[float, list[int]]:
    """Best score and path of all legal paths; written without any of the search's arithmetic."""
    best = (-np.inf, [])
    for action in np.flatnonzero(model.legal_mask[state]):
        following = int(model.next_state[state, action])
        discount = model.discount[state, action]
        if discount == 0:
            future, path = 0.0, []
        elif horizon == 1:
            future, path = model.value[following], []
        else:
            future, path = enumerate_best(model, following, horizon - 1)
        score = model.reward[state, action] + discount * future
        if score > best[0]:
            best = (float(score), [int(action), *path])
    return best


@pytest.mark.parametrize("horizon", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_wide_beam_is_exhaustive(seed, horizon):
    model = random_table(np.random.default_rng(seed), 30, 3, end_rate=0.2, illegal_rate=0.3)
    states = np.arange(30)
    result = beam_search(model, states, beam_width=WIDE, horizon=horizon)
    for state in range(30):
        score, path = enumerate_best(model, state, horizon)
        actions, nodes = best_path(result, state)
        assert actions.tolist() == path
        assert result.action[state] == path[0]
        np.testing.assert_allclose(result.root_value[state], score, atol=1e-12)
        assert result.tree.node[state, nodes[0]] == state


def enumerate_mixture(
    model: TableModel, state: int, horizon: int, trace_decay: float, path: tuple[float, float] = (0.0, 1.0)
) -> float:
    """Best mixture of the estimates of depth 0, 1, ... along all legal paths, from the definition."""
    reward, discount = path
    best = -np.inf
    for action in np.flatnonzero(model.legal_mask[state]):
        following = int(model.next_state[state, action])
        now = reward + discount * model.q_value[state, action]
        after = reward + discount * model.reward[state, action], discount * model.discount[state, action]
        last = horizon == 1 or after[1] == 0
        later = after[0] + after[1] * model.value[following]
        if not last:
            later = enumerate_mixture(model, following, horizon - 1, trace_decay, after)
        best = max(best, (1 - trace_decay) * now + trace_decay * later)
    return best


@pytest.mark.parametrize("trace_decay", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_estimates_along_a_path_are_mixed(horizon, trace_decay):
    model = random_table(np.random.default_rng(horizon), 30, 3, end_rate=0.2, illegal_rate=0.3)
    result = beam_search(model, np.arange(30), beam_width=WIDE, horizon=horizon, trace_decay=trace_decay)
    expected = [enumerate_mixture(model, state, horizon, trace_decay) for state in range(30)]
    # A path that ended early has spent less of its weight on later steps; it stays what it was when it ended.
    np.testing.assert_allclose(result.root_value, expected, atol=1e-12)


def test_without_trust_in_the_model_the_root_decides():
    model = random_table(np.random.default_rng(0), 20, 6, illegal_rate=0.5)
    result = beam_search(model, np.arange(20), beam_width=3, horizon=2, trace_decay=0.0)
    expected = np.where(model.legal_mask, model.q_value, -np.inf).argmax(axis=1)
    np.testing.assert_array_equal(result.action, expected)


@pytest.mark.parametrize("trace_decay", [-0.1, 1.1, float("nan")])
def test_a_trace_decay_outside_its_range_is_refused(trace_decay):
    with pytest.raises(PlanningError, match="trace_decay"):
        beam_search(chain(ends=False), np.array([0]), beam_width=1, horizon=1, trace_decay=trace_decay)


def test_horizon_zero_takes_the_best_legal_q_value():
    model = random_table(np.random.default_rng(0), 20, 6, illegal_rate=0.5)
    result = beam_search(model, np.arange(20), beam_width=2, horizon=0)
    expected = np.where(model.legal_mask, model.q_value, -np.inf).argmax(axis=1)
    np.testing.assert_array_equal(result.action, expected)
    assert result.tree.num_nodes.tolist() == [1] * 20
    assert best_path(result, 3)[0].tolist() == []


def chain(ends: bool) -> TableModel:
    """Action 0 pays 5 and leads to 1 a step, action 1 pays 1 and leads to 3 a step.

    With `ends`, action 0 ends the episode.
    """
    return TableModel(
        next_state=np.array([[1, 2], [1, 1], [2, 2]]),
        reward=np.array([[5.0, 1.0], [1.0, 1.0], [3.0, 3.0]]),
        discount=np.array([[0.0 if ends else 1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]),
        value=np.array([0.0, 10.0, 0.0]),
        q_value=np.zeros((3, 2)),
        prior_logits=np.zeros((3, 2)),
        legal_mask=np.ones((3, 2), dtype=bool),
    )


def test_predicted_end_cuts_the_future_and_stays_a_candidate():
    open_result = beam_search(chain(ends=False), np.array([0]), beam_width=4, horizon=3)
    assert open_result.action[0] == 0
    assert open_result.root_value[0] == 5 + 1 + 1 + 10
    # One step ahead the end is worth 5 and the other action 1; three steps ahead that one reaches 7.
    short = beam_search(chain(ends=True), np.array([0]), beam_width=4, horizon=1)
    assert short.action[0] == 0
    assert short.root_value[0] == 5
    long = beam_search(chain(ends=True), np.array([0]), beam_width=4, horizon=3)
    assert long.action[0] == 1
    assert long.root_value[0] == 7
    middle = beam_search(chain(ends=True), np.array([0]), beam_width=4, horizon=2)
    assert middle.action[0] == 0
    assert best_path(middle, 0)[0].tolist() == [0]


def test_ended_nodes_are_never_expanded():
    model = random_table(np.random.default_rng(1), 40, 4, end_rate=0.5)
    result = beam_search(model, np.arange(40), beam_width=3, horizon=4)
    tree = result.tree
    for row in range(40):
        parents = tree.parent[row, 1 : tree.num_nodes[row]]
        inner = parents[parents > 0]
        assert (tree.discount[row, inner] != 0).all()


def test_search_stops_when_every_path_has_ended():
    model = RecordingModel(random_table(np.random.default_rng(2), 10, 3, end_rate=1.0))
    result = beam_search(model, np.arange(10), beam_width=2, horizon=5)
    assert len(model.steps) == 1
    table = model.model
    order = np.argsort(-table.q_value, axis=1)[:, :2]
    best = np.take_along_axis(table.reward, order, axis=1).max(axis=1)
    np.testing.assert_allclose(result.root_value, best)


def test_state_without_legal_actions_is_kept_at_its_value():
    model = replace(chain(ends=False), legal_mask=np.array([[True, True], [False, False], [True, True]]))
    result = beam_search(model, np.array([0]), beam_width=4, horizon=3)
    assert best_path(result, 0)[0].tolist() == [0]
    assert result.root_value[0] == 15


def test_each_depth_is_one_call_over_all_roots():
    model = RecordingModel(random_table(np.random.default_rng(3), 30, 5))
    result = beam_search(model, np.arange(7), beam_width=3, horizon=3)
    assert len(model.steps) == 3
    assert len(model.steps[0][1]) == 7 * 3
    assert result.tree.num_nodes.tolist() == [1 + 3 + 9 + 9] * 7


def test_rows_follow_beam_order_then_q_order():
    model = random_table(np.random.default_rng(4), 50, 6)
    result = beam_search(model, np.arange(5), beam_width=3, horizon=2)
    tree = result.tree
    for row in range(5):
        first, second = tree.score[row, 1:4], tree.parent[row, 4:13]
        beam_order = 1 + np.argsort(-first, kind="stable")
        assert second.tolist() == np.repeat(beam_order, 3).tolist()
        for parent in (0, 1, 2, 3):
            children = np.flatnonzero(tree.parent[row, : tree.num_nodes[row]] == parent)
            by_q = np.argsort(-model.q_value[tree.node[row, parent]], kind="stable")
            assert tree.action[row, children].tolist() == by_q[:3].tolist()


def test_equal_scores_keep_the_earlier_node_and_equal_q_the_lower_action():
    model = TableModel(
        next_state=np.zeros((1, 4), dtype=np.int64),
        reward=np.zeros((1, 4)),
        discount=np.ones((1, 4)),
        value=np.zeros(1),
        q_value=np.zeros((1, 4)),
        prior_logits=np.zeros((1, 4)),
        legal_mask=np.array([[False, True, True, True]]),
    )
    result = beam_search(model, np.array([0]), beam_width=2, horizon=3)
    assert result.tree.action[0].tolist() == [-1, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2]
    assert best_path(result, 0)[0].tolist() == [1, 1, 1]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    width=st.integers(1, 5),
    horizon=st.integers(0, 4),
    end_rate=st.sampled_from([0.0, 0.3]),
)
def test_batch_equals_singles_and_masks_hold(seed, width, horizon, end_rate):
    model = random_table(np.random.default_rng(seed), 25, 4, end_rate=end_rate, illegal_rate=0.4)
    states = np.random.default_rng(seed + 1).integers(25, size=6)
    batch = beam_search(model, states, beam_width=width, horizon=horizon)
    for row, state in enumerate(states):
        single = beam_search(model, states[row : row + 1], beam_width=width, horizon=horizon)
        nodes = single.tree.num_nodes[0]
        assert batch.tree.num_nodes[row] == nodes
        for field in fields(single.tree):
            if field.name != "num_nodes":
                one, many = getattr(single.tree, field.name), getattr(batch.tree, field.name)
                np.testing.assert_array_equal(one[0, :nodes], many[row, :nodes])
        for name in ("action", "root_value", "root_q_value", "visit_counts", "best_node"):
            np.testing.assert_array_equal(getattr(single, name)[0], getattr(batch, name)[row])
        parent, action = batch.tree.parent[row, 1:nodes], batch.tree.action[row, 1:nodes]
        assert model.legal_mask[batch.tree.node[row, parent], action].all()
        assert model.legal_mask[state, batch.action[row]]
        assert (batch.visit_counts[row][~model.legal_mask[state]] == 0).all()
        assert np.isneginf(batch.root_q_value[row][~model.legal_mask[state]]).all()
        assert batch.visit_counts[row].sum() == nodes - 1


def test_root_q_values_are_the_latest_scores_of_each_first_action():
    model = random_table(np.random.default_rng(5), 40, 3)
    result = beam_search(model, np.arange(40), beam_width=WIDE, horizon=3)
    for state in range(40):
        for action in range(3):
            following = model.next_state[state, action]
            score, _ = enumerate_best(model, following, 2)
            expected = model.reward[state, action] + model.discount[state, action] * score
            np.testing.assert_allclose(result.root_q_value[state, action], expected, atol=1e-12)


def test_bad_arguments_and_bad_models_are_named():
    model = random_table(np.random.default_rng(6), 5, 3)
    roots = np.arange(5)
    with pytest.raises(PlanningError, match="beam_width is 0; it must be at least 1"):
        beam_search(model, roots, beam_width=0, horizon=1)
    with pytest.raises(PlanningError, match="horizon is -1; it must be 0 or more"):
        beam_search(model, roots, beam_width=1, horizon=-1)
    blocked = replace(model, legal_mask=np.arange(5)[:, None] != np.full((1, 3), 3))
    with pytest.raises(PlanningError, match="root 3 has no legal action"):
        beam_search(blocked, roots, beam_width=1, horizon=1)
    with pytest.raises(PlanningError, match="0 rows"):
        beam_search(model, roots[:0], beam_width=1, horizon=1)
    negative = replace(model, discount=np.full((5, 3), -1.0))
    with pytest.raises(
        PlanningError, match=r"discount is -1 at root 0, action \d of node 0, depth 1.*\[0, 1\]"
    ):
        beam_search(negative, roots, beam_width=1, horizon=1)


def test_nan_is_named_by_node_depth_and_field():
    model = random_table(np.random.default_rng(7), 5, 3)
    for field in ("value", "q_value", "prior_logits"):
        broken = getattr(model, field).copy()
        broken[3] = np.nan
        with pytest.raises(PlanningError, match=f"{field} is nan at root 3, depth 0"):
            beam_search(replace(model, **{field: broken}), np.arange(5), beam_width=2, horizon=1)
    reward = model.reward.copy()
    reward[2] = np.nan
    with pytest.raises(PlanningError, match=r"reward is nan at root 2, action \d of node 0, depth 1"):
        beam_search(replace(model, reward=reward), np.arange(5), beam_width=2, horizon=1)


def test_nan_at_illegal_actions_is_no_matter():
    model = random_table(np.random.default_rng(8), 5, 3, illegal_rate=0.5)
    hidden = replace(model, q_value=np.where(model.legal_mask, model.q_value, np.nan))
    plain = beam_search(model, np.arange(5), beam_width=2, horizon=2)
    np.testing.assert_array_equal(
        plain.action, beam_search(hidden, np.arange(5), beam_width=2, horizon=2).action
    )


def test_a_model_that_answers_with_another_batch_is_refused():
    class Short(RecordingModel):
        def step(self, parent, action):
            return super().step(parent[1:], action[1:])

    model = Short(random_table(np.random.default_rng(9), 5, 3))
    with pytest.raises(PlanningError, match="asked for 10 states of 3 actions"):
        beam_search(model, np.arange(5), beam_width=2, horizon=1)


def plain_beam(model, state, beam_width, horizon):
    """The search written plainly for one root, every step evaluated: (score, path) of what is kept last."""
    kept = [(float(model.value[state]), 0.0, 1.0, [], int(state))]
    for _ in range(horizon):
        following = []
        for score, reward, discount, path, place in kept:
            legal = np.flatnonzero(model.legal_mask[place])
            if discount == 0 or not len(legal):
                following.append((score, reward, discount, path, place))
        for _, reward, discount, path, place in kept:
            legal = np.flatnonzero(model.legal_mask[place])
            if discount == 0:
                continue
            for action in sorted(legal, key=lambda a: (-model.q_value[place, a], a))[:beam_width]:
                path_reward = reward + discount * model.reward[place, action]
                path_discount = discount * model.discount[place, action]
                reached = int(model.next_state[place, action])
                score = path_reward + path_discount * model.value[reached]
                following.append((score, path_reward, path_discount, [*path, int(action)], reached))
        kept = sorted(following, key=lambda entry: -entry[0])[:beam_width]
    return kept[0][0], kept[0][3]


class Bounded(RecordingModel):
    """A table model that knows the bounds of its returns."""

    @property
    def return_bounds(self):
        table = self.model
        returns = (table.reward + table.discount * table.value[table.next_state])[table.legal_mask]
        return float(returns.min()), float(returns.max())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    states=st.sampled_from([3, 12, 40]),
    width=st.integers(1, 5),
    horizon=st.integers(1, 5),
    decay=st.sampled_from([0.2, 0.6, 1.0]),
)
def test_sparing_work_leaves_the_plain_search_as_it_is(seed, states, width, horizon, decay):
    model = random_table(np.random.default_rng(seed), states, 4, end_rate=0.1, illegal_rate=0.3)
    model = replace(model, discount=model.discount * decay)
    roots = np.arange(3)
    spared = beam_search(Bounded(model), roots, beam_width=width, horizon=horizon)
    unbounded = beam_search(RecordingModel(model), roots, beam_width=width, horizon=horizon)
    for row in roots:
        score, path = plain_beam(model, row, width, horizon)
        for result in (spared, unbounded):
            np.testing.assert_allclose(result.root_value[row], score, atol=1e-12)
            assert best_path(result, row)[0].tolist() == path


def test_a_bound_drops_steps_that_cannot_reach_the_beam():
    model = chain(ends=False)
    assert isinstance(Bounded(model), BoundedModel)
    # From state 0, action 1 leads to 0 + 1; action 0 to 5 + 10, which nothing else comes near.
    model = replace(model, discount=np.full((3, 2), 0.1), value=np.array([0.0, 0.5, 0.0]))
    spared, all_steps = Bounded(model), RecordingModel(model)
    result = beam_search(spared, np.array([0]), beam_width=1, horizon=3)
    assert result.action[0] == beam_search(all_steps, np.array([0]), beam_width=1, horizon=3).action[0]
    spared, all_steps = Bounded(model), RecordingModel(model)
    results = [beam_search(m, np.array([0]), beam_width=2, horizon=3) for m in (spared, all_steps)]
    assert results[0].root_value[0] == results[1].root_value[0]
    assert spared.evaluations < all_steps.evaluations


def test_equal_states_are_stepped_once():
    model = RecordingModel(chain(ends=False))
    result = beam_search(model, np.array([0]), beam_width=4, horizon=3)
    # States 1 and 2 lead to themselves: two states and two actions a depth, whatever the nodes.
    assert [len(action) for _, action in model.steps] == [2, 4, 4]
    assert result.tree.num_nodes[0] == 1 + 2 + 4 + 8


def test_a_limit_of_nodes_is_kept_and_the_answer_is_that_of_the_depth_reached():
    model = random_table(np.random.default_rng(11), 200, 5, end_rate=0.1)
    states = np.arange(20)
    shallow = beam_search(model, states, beam_width=3, horizon=1)
    for nodes in (0, 1, 2, 3, 7, 12, 1000):
        limited = beam_search(model, states, beam_width=3, horizon=3, limits=BeamLimits(nodes=nodes))
        assert (limited.tree.num_nodes - 1 <= nodes).all()
        if nodes == 3:
            np.testing.assert_array_equal(limited.action, shallow.action)
    whole = beam_search(model, states, beam_width=3, horizon=3)
    np.testing.assert_array_equal(limited.action, whole.action)
    greedy = beam_search(model, states, beam_width=3, horizon=0)
    none = beam_search(model, states, beam_width=3, horizon=3, limits=BeamLimits(nodes=0))
    np.testing.assert_array_equal(none.action, greedy.action)


def test_without_time_the_answer_is_that_of_the_root():
    model = RecordingModel(random_table(np.random.default_rng(12), 50, 4))
    none = beam_search(model, np.arange(9), beam_width=2, horizon=3, limits=BeamLimits(seconds=0.0))
    assert model.steps == []
    np.testing.assert_array_equal(
        none.action, beam_search(model, np.arange(9), beam_width=2, horizon=0).action
    )
    much = beam_search(model, np.arange(9), beam_width=2, horizon=3, limits=BeamLimits(seconds=1e6))
    whole = beam_search(model, np.arange(9), beam_width=2, horizon=3)
    np.testing.assert_array_equal(much.action, whole.action)


def test_confident_roots_are_not_searched():
    model = random_table(np.random.default_rng(13), 60, 4, illegal_rate=0.5)
    states = np.arange(60)
    legal = np.where(model.legal_mask, model.q_value, -np.inf)
    ordered = np.sort(legal, axis=1)
    sure = ordered[:, -1] - ordered[:, -2] >= 0.8
    result = beam_search(model, states, beam_width=2, horizon=2, limits=BeamLimits(confident_gap=0.8))
    whole = beam_search(model, states, beam_width=2, horizon=2)
    assert sure.any()
    assert not sure.all()
    assert (result.tree.num_nodes[sure] == 1).all()
    np.testing.assert_array_equal(result.action[sure], legal.argmax(axis=1)[sure])
    np.testing.assert_array_equal(result.action[~sure], whole.action[~sure])


def test_limits_below_zero_are_refused():
    with pytest.raises(PlanningError, match=r"seconds is -1\.0; it must be 0 or more"):
        BeamLimits(seconds=-1.0)
