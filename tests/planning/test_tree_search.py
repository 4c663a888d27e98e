"""What holds of every tree that the tree searches grow, whatever the rule."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning import SearchResult, SearchTree, TreeOptions, best_path, gumbel_muzero, mcts, muzero
from planning.layout import END
from planning.table_model import TableModel, random_table
from tests.planning.worlds import RecordingModel, nim_world, optimal_q_values, optimal_values, subset_world

EXACT = TreeOptions(precision="float64")


def pu(model: Any, states: Any, simulations: int, **settings: Any) -> SearchResult[SearchTree]:
    return muzero(model, states, num_simulations=simulations, **settings)


def gumbel(model: Any, states: Any, simulations: int, **settings: Any) -> SearchResult[SearchTree]:
    return gumbel_muzero(model, states, num_simulations=simulations, **settings)


def ucb(model: Any, states: Any, simulations: int, **settings: Any) -> SearchResult[SearchTree]:
    settings.pop("seed", None)
    horizon = (settings.pop("max_depth", None) or simulations) + 1
    return mcts(model, states, num_simulations=simulations, horizon=horizon, **settings)


SEARCHES = {"muzero": pu, "gumbel_muzero": gumbel, "mcts": ucb}
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def assert_same(one: SearchResult[SearchTree], other: SearchResult[SearchTree], exact: bool = True) -> None:
    """The same decisions and the same trees, node for node."""
    for field in fields(SearchTree):
        ours, theirs = getattr(one.tree, field.name), getattr(other.tree, field.name)
        if exact or ours.dtype.kind in "biu":
            np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=field.name)
    for name in ("action", "visit_counts", "best_node"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("root_value", "root_q_value", "action_weights"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    search=st.sampled_from(list(SEARCHES.values())),
    simulations=st.integers(1, 40),
    max_depth=st.sampled_from([None, 1, 3]),
    options=st.builds(
        TreeOptions,
        precision=st.just("float64"),
        merge_equal_states=st.booleans(),
        mctx_semantics=st.booleans(),
    ),
)
def test_laws_of_every_tree(seed, search, simulations, max_depth, options):
    rng = np.random.default_rng(seed)
    model = random_table(rng, 30, 4, end_rate=0.2, illegal_rate=0.3)
    states = rng.integers(30, size=5)
    result = search(model, states, simulations, max_depth=max_depth, options=options, seed=seed)
    tree = result.tree
    legal = model.legal_mask[states]
    # Masks.
    assert legal[np.arange(5), result.action].all()
    assert (result.visit_counts[~legal] == 0).all()
    assert (result.action_weights[~legal] == 0).all()
    np.testing.assert_allclose(result.action_weights.sum(axis=1), 1)
    assert np.isneginf(result.root_q_value[~legal]).all()
    used = tree.visits > 0
    used[:, 0] = True
    row, node = np.nonzero(used & (tree.parent >= 0))
    parent_state = tree.node[row, tree.parent[row, node]]
    assert model.legal_mask[parent_state, tree.action[row, node]].all()
    np.testing.assert_array_equal(
        model.next_state[parent_state, tree.action[row, node]], tree.node[row, node]
    )
    # Counts.
    assert (result.visit_counts.sum(axis=1) == simulations).all()
    own = 0 if search is ucb else 1
    assert (tree.visits[:, 0] == simulations + own).all()
    below = np.maximum(tree.edge_visits, 0).sum(axis=2)
    inner = used & (below > 0) & (np.arange(used.shape[1]) > 0)
    assert (tree.visits == 1 + below)[inner].all()
    # Depth and ends.
    if max_depth is not None:
        assert tree.depth.max() <= max_depth
    assert not (below > 0)[tree.kind == END].any()
    if not options.mctx_semantics:
        assert (tree.kind[row, node] == END)[tree.discount[row, node] == 0].all()
    # Values.
    highest = max(np.abs(model.value).max(), np.abs(model.q_value).max())
    bound = np.abs(model.reward).max() / (1 - 0.97) + highest
    assert np.abs(tree.score[used]).max() <= bound
    visited = tree.edge_visits > 0
    assert np.abs(tree.q_value[visited]).max() <= bound
    actions, nodes = best_path(result, 0)
    assert actions[0] == result.action[0]
    assert nodes[0] == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    search=st.sampled_from(list(SEARCHES.values())),
    simulations=st.integers(1, 40),
    max_depth=st.sampled_from([None, 2]),
    merge=st.booleans(),
    precision=st.sampled_from(["float64"]),
)
def test_compiled_kernels_grow_the_trees_of_their_plain_twins(
    seed, search, simulations, max_depth, merge, precision
):
    rng = np.random.default_rng(seed)
    model = random_table(rng, 25, 4, end_rate=0.15, illegal_rate=0.3)
    states = rng.integers(25, size=4)
    compiled, plain = (
        search(
            model, states, simulations, max_depth=max_depth, seed=seed,
            options=TreeOptions(precision=precision, merge_equal_states=merge, compiled=compiled),
        )
        for compiled in (True, False)
    )  # fmt: skip
    assert_same(compiled, plain, exact=False)


@every_search
def test_a_batch_is_its_roots_searched_alone(search):
    model = random_table(np.random.default_rng(0), 50, 5, end_rate=0.1, illegal_rate=0.2)
    states = np.arange(6)
    batch = search(model, states, 30, seed=7, options=EXACT)
    for row in range(6):
        single = search(model, states[row : row + 1], 30, seed=7 + row, options=EXACT)
        for field in fields(SearchTree):
            ours, theirs = getattr(batch.tree, field.name)[row], getattr(single.tree, field.name)[0]
            np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
        assert batch.action[row] == single.action[0]


@every_search
def test_threads_and_groups_change_nothing(search):
    model = random_table(np.random.default_rng(1), 50, 5, end_rate=0.1, illegal_rate=0.2)
    states = np.arange(11)
    plain = search(model, states, 30, seed=7)
    threads = TreeOptions(num_threads=2)
    assert_same(plain, search(model, states, 30, seed=7, options=threads))
    assert_same(plain, search(model, states, 30, seed=7, options=TreeOptions(max_batch=4)))


def test_another_seed_is_another_search():
    model = random_table(np.random.default_rng(2), 50, 5)
    one, other = (gumbel(model, np.arange(20), 8, seed=seed) for seed in (0, 100))
    assert (one.action != other.action).any()


@every_search
def test_roots_wait_for_each_other_in_one_call_and_ends_ask_nothing(search):
    model = RecordingModel(random_table(np.random.default_rng(3), 40, 3, end_rate=0.4))
    result = search(model, np.arange(8), 25, options=EXACT)
    made = (result.tree.visits[:, 1:] > 0).sum(axis=1)
    assert model.evaluations == made.sum()
    assert made.min() < 25
    # A root that has come to an end goes on by itself: rounds are as many as the longest search needs.
    assert len(model.steps) == made.max()


@every_search
def test_mctx_semantics_goes_on_past_ends(search):
    model = random_table(np.random.default_rng(4), 40, 3, end_rate=0.4)
    states = np.arange(8)
    result = search(model, states, 25, options=replace(EXACT, mctx_semantics=True))
    tree = result.tree
    ended = (tree.discount == 0) & (tree.visits > 0)
    assert (np.maximum(tree.edge_visits, 0).sum(axis=2) > 0)[ended].any()


@pytest.mark.parametrize("search", [pu, ucb], ids=["muzero", "mcts"])
def test_enough_simulations_find_what_exhaustive_search_finds(search):
    for seed in range(10):
        model = subset_world(np.random.default_rng(seed), 4, 3)
        optimal = optimal_q_values(model, 3)[0]
        result = search(model, np.array([0]), 2000, options=EXACT)
        assert optimal[result.action[0]] > optimal.max() - 0.03
        # Along the best path the means approach the optimum from below.
        assert optimal.max() - 0.2 < result.root_q_value[0].max() <= optimal.max() + 1e-9


@every_search
def test_exact_values_make_one_step_enough(search):
    for seed in range(10):
        model = subset_world(np.random.default_rng(seed), 5, 3)
        model = replace(model, value=optimal_values(model, 3), q_value=optimal_q_values(model, 3))
        optimal = optimal_q_values(model, 3)[0]
        settings = {"gumbel_scale": 0.0} if search is gumbel else {}
        result = search(model, np.array([0]), 100, max_depth=1, options=EXACT, **settings)
        assert result.action[0] == optimal.argmax()
        np.testing.assert_allclose(result.root_q_value[0].max(), optimal.max())


def test_turns_of_two_players():
    model = nim_world(10)
    states = np.arange(1, 11)
    result = pu(model, states, 800, options=EXACT)
    for row, stones in enumerate(states):
        if stones % 4:
            assert result.action[row] + 1 == stones % 4
            assert result.root_value[row] > 0
        else:
            assert result.root_value[row] < 0


@every_search
def test_early_stop_keeps_the_choice_and_saves_evaluations(search):
    model = RecordingModel(random_table(np.random.default_rng(5), 60, 3))
    settings: dict[str, Any] = {"use_count": True} if search is ucb else {}
    full = search(model, np.arange(30), 60, options=EXACT, **settings)
    asked, model.steps = model.evaluations, []
    short = search(model, np.arange(30), 60, options=replace(EXACT, early_stop=True), **settings)
    np.testing.assert_array_equal(full.action, short.action)
    if search is gumbel:
        assert model.evaluations == asked  # as long as two actions are considered, nothing is decided
    else:
        assert model.evaluations < asked
        assert (short.tree.visits[:, 0] >= short.tree.num_nodes - 1).all()


@every_search
def test_one_legal_action_is_decided_at_once(search):
    model = random_table(np.random.default_rng(6), 20, 3)
    single = replace(model, legal_mask=np.arange(3) == np.full((20, 1), 2))
    recorded = RecordingModel(single)
    settings: dict[str, Any] = {"use_count": True} if search is ucb else {}
    result = search(recorded, np.arange(4), 50, options=replace(EXACT, early_stop=True), **settings)
    assert (result.action == 2).all()
    assert recorded.evaluations == 4


def test_single_precision_is_the_default_and_close_to_double():
    model = random_table(np.random.default_rng(7), 50, 5)
    single, double = pu(model, np.arange(8), 50), pu(model, np.arange(8), 50, options=EXACT)
    assert single.tree.score.dtype == np.float32
    np.testing.assert_array_equal(single.visit_counts, double.visit_counts)
    np.testing.assert_allclose(single.root_value, double.root_value, rtol=1e-5)


def test_a_model_of_another_precision_is_read_afresh_each_time():
    """Answers in reused arrays that need conversion must not be read from an old copy."""
    model = random_table(np.random.default_rng(8), 50, 5, dtype=np.float32)
    wide = TableModel(
        **{
            field.name: getattr(model, field.name).astype(np.float64)
            if field.name in ("reward", "discount", "value", "q_value", "prior_logits")
            else getattr(model, field.name)
            for field in fields(TableModel)
            if field.init
        }
    )
    assert_same(pu(model, np.arange(8), 40), pu(wide, np.arange(8), 40))


def test_priors_of_a_kept_tree_are_the_models():
    model = random_table(np.random.default_rng(9), 50, 4, illegal_rate=0.3)
    tree = pu(model, np.arange(5), 30, options=EXACT).tree
    row, node = np.nonzero(tree.visits > 0)
    legal = model.legal_mask[tree.node[row, node]]
    weight = np.where(legal, np.exp(model.prior_logits[tree.node[row, node]]), 0)
    np.testing.assert_allclose(tree.prior[row, node], weight / weight.sum(axis=1, keepdims=True), rtol=1e-12)
    assert ((tree.edge_visits[row, node] < 0) == ~legal).all()
