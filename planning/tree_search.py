"""What all tree searches do the same way: begin, grow, and hand over the tree.

Letters: B roots, M rows of a tree, A actions. See `layout` for the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from planning import kernels, kernels_numpy
from planning.base import SearchResult, SearchTree
from planning.checks import check_evaluation, check_roots, check_shapes
from planning.compiled import HAS_NUMBA, get_num_threads, set_num_threads
from planning.layout import (
    ACTION,
    ASKED_ACTION,
    ASKED_PARENT,
    BLOCKED,
    CHANCE,
    DECISION,
    DEPTH,
    DISCOUNT,
    EARLY_STOP,
    EDGE_VISITS,
    EXPAND_ENDS,
    KIND,
    LEAF_DEPTH,
    MAX_DEPTH,
    MEAN,
    MERGE,
    NEXT_ROW,
    NO_ROW,
    NUM_SWITCHES,
    PARENT,
    PRIOR,
    PROBLEM,
    RAW,
    REWARD,
    RULE,
    SLOT,
    STATE,
    UNLIMITED,
    VISITS,
    Buffers,
    allocate,
)
from planning.model import Evaluation, PlanningModel
from planning.options import TreeOptions, check_budget
from planning.subtree import Resume, Roots


@dataclass(frozen=True)
class Rule:
    """How a search chooses: the tables and numbers that the kernels read."""

    switches: Int[np.ndarray, " S"]
    """See `layout`."""
    constants: Float[np.ndarray, " C"]
    """See `layout`."""
    exploration: Float[np.ndarray, " N"]
    """Weight of the prior by number of visits."""
    sequence: Int[np.ndarray, "K N"]
    """Visits of the root actions to consider, by number of considered actions and simulation."""


def begin(
    model: PlanningModel,
    observation: Any,
    num_simulations: int,
    max_depth: int | None,
    options: TreeOptions,
    resume: Resume | None,
) -> Roots:
    """Make the trees that a search starts from: bare roots, or what `resume` keeps.

    Raises:
        PlanningError: for a search without a simulation to make, or a root that cannot be searched.
    """
    check_budget(num_simulations, max_depth, options)
    if resume is not None:
        return resume.roots(model, num_simulations, max_depth, options)
    evaluation = model.root(observation)
    check_roots(evaluation, model.num_actions)
    rows = np.ones(len(evaluation.node), dtype=np.int64)
    buffers = allocate(
        rows, model.num_actions, num_simulations, max_depth, options.dtype, options.merge_equal_states
    )
    write_root(buffers, evaluation)
    logits = evaluation.prior_logits.astype(options.dtype)
    return Roots(buffers, logits, np.array(evaluation.legal_mask, dtype=bool))


def write_root(buffers: Buffers, evaluation: Evaluation) -> None:
    """Fill row 0 of each tree, all but the priors."""
    floats, ints = buffers.floats[:, 0], buffers.ints[:, 0]
    num_actions = buffers.num_actions
    floats[:] = 0
    floats[:, DISCOUNT] = 1
    floats[:, RAW] = floats[:, MEAN] = evaluation.value
    ints[:, (PARENT, ACTION)] = NO_ROW
    ints[:, (DEPTH, STATE)] = 0
    ints[:, VISITS] = 1
    ints[:, KIND] = (
        DECISION if evaluation.is_chance is None else np.where(evaluation.is_chance, CHANCE, DECISION)
    )
    ints[:, EDGE_VISITS:-num_actions] = np.where(evaluation.legal_mask, 0, BLOCKED)
    ints[:, -num_actions:] = NO_ROW
    buffers.handles[:, 0] = evaluation.node


def write_root_prior(buffers: Buffers, prior: Float[np.ndarray, "B A"]) -> None:
    """Set the policy that the search follows at the root."""
    buffers.floats[:, 0, PRIOR : PRIOR + buffers.num_actions] = prior


def tree_switches(rule: int, max_depth: int | None, options: TreeOptions) -> np.ndarray:
    """The switches that every rule shares; the Gumbel rule sets two more."""
    switches = np.zeros(NUM_SWITCHES, dtype=np.int64)
    switches[RULE] = rule
    switches[MAX_DEPTH] = UNLIMITED if max_depth is None else max_depth
    switches[EXPAND_ENDS] = options.mctx_semantics
    switches[MERGE] = options.merge_equal_states
    switches[EARLY_STOP] = options.early_stop
    return switches


def search_result(
    buffers: Buffers, action: Int[np.ndarray, "B"], weights: Float[np.ndarray, "B A"], options: TreeOptions
) -> SearchResult:
    """The decision and the trees, as read-only views of the buffers; nothing of them is copied."""
    num_actions = buffers.num_actions
    visits = buffers.ints[:, 0, EDGE_VISITS:-num_actions]
    root_value = buffers.floats[:, 0, MEAN]
    searched = np.where(visits > 0, buffers.floats[:, 0, PRIOR + num_actions :], root_value[:, None])
    best_node = np.zeros(len(action), dtype=np.int64)
    kernel_module(options).best_rows(buffers.ints, action, best_node)
    return SearchResult(
        action=action,
        action_weights=weights,
        root_value=root_value.copy(),
        root_q_value=np.where(visits < 0, -np.inf, searched),
        visit_counts=np.maximum(visits, 0),
        best_node=best_node,
        tree=finished_tree(buffers),
    )


def kernel_module(options: TreeOptions) -> ModuleType:
    """The compiled kernels or their twins."""
    return kernels if HAS_NUMBA and options.compiled else kernels_numpy


def masked_softmax(
    logits: Float[np.ndarray, "B A"], legal_mask: Bool[np.ndarray, "B A"]
) -> Float[np.ndarray, "B A"]:
    """Probabilities over the legal actions; 0 for the others."""
    shifted = np.where(legal_mask, logits, -np.inf)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def grow(model: PlanningModel, roots: Roots, rule: Rule, options: TreeOptions) -> None:
    """Run all simulations, one call of the model for each round of all roots.

    Raises:
        PlanningError: for an answer of the model that cannot be used.
    """
    module = kernel_module(options)
    in_threads = module is kernels and options.num_threads > 1
    threads_before = get_num_threads()
    if in_threads:
        set_num_threads(options.num_threads)
    try:
        _grow(model, roots.buffers, rule, kernels.advance_in_threads if in_threads else module.advance)
    finally:
        if in_threads:
            set_num_threads(threads_before)


def _grow(model: PlanningModel, buffers: Buffers, rule: Rule, advance: Any) -> None:
    search = (
        buffers.floats, buffers.ints, buffers.handles, buffers.path, buffers.state, buffers.work,
        buffers.states_by_hash, rule.exploration, rule.sequence, rule.switches, rule.constants,
    )  # fmt: skip
    parents, actions = buffers.state[ASKED_PARENT], buffers.state[ASKED_ACTION]
    batch, rows, evaluation, arrays = len(parents), 0, None, ()
    waiting = advance(*search, *_no_answer(buffers))
    while waiting > 0:
        if waiting == batch:
            answer = model.step(parents, actions)
        else:
            answer = model.step(parents[:waiting], actions[:waiting])
        # A model that answers in the same arrays again needs no second look at them.
        if answer is not evaluation or waiting != rows:
            arrays, shared = _answer_arrays(buffers, answer, waiting)
            evaluation, rows = answer if shared else None, waiting
        waiting = advance(*search, *arrays)
        if waiting < 0:
            _refuse_answer(buffers, answer, arrays)


def _no_answer(buffers: Buffers) -> tuple[np.ndarray, ...]:
    """What `advance` is given before anything has been asked."""
    numbers, edges = np.zeros(1, dtype=buffers.floats.dtype), np.zeros((1, buffers.num_actions))
    flags = np.zeros(1, dtype=bool)
    return (
        np.zeros(1, dtype=np.int64), numbers, numbers, numbers, edges.astype(numbers.dtype),
        edges.astype(bool), flags,
    )  # fmt: skip


def _answer_arrays(
    buffers: Buffers, evaluation: Evaluation, rows: int
) -> tuple[tuple[np.ndarray, ...], bool]:
    """An answer's arrays in the types that the kernels are compiled for.

    Returns:
        The arrays, and whether they are the model's own rather than copies.
    """
    check_shapes(evaluation, rows, buffers.num_actions)
    dtype = buffers.floats.dtype
    is_chance = np.zeros(rows, dtype=bool) if evaluation.is_chance is None else evaluation.is_chance
    given = (
        evaluation.node, evaluation.reward, evaluation.discount, evaluation.value,
        evaluation.prior_logits, evaluation.legal_mask, is_chance,
    )  # fmt: skip
    kinds = (np.int64, dtype, dtype, dtype, dtype, np.bool_, np.bool_)
    arrays = tuple(np.ascontiguousarray(array, kind) for array, kind in zip(given, kinds, strict=True))
    return arrays, all(array is own for array, own in zip(arrays, given, strict=True))


def _refuse_answer(buffers: Buffers, evaluation: Evaluation, arrays: tuple[np.ndarray, ...]) -> None:
    """Say what is wrong with an answer that the kernels could not use."""
    state, path = buffers.state, buffers.path

    def describe(slot: int) -> str:
        root = int(np.flatnonzero((state[PROBLEM] == 1) & (state[SLOT] == slot))[0])
        depth = int(state[LEAF_DEPTH, root])
        node, action = path[root, depth - 1]
        return f"root {root}, action {action} of node {node}, depth {depth}"

    # In the tree's own precision: a number may be finite in the model's and infinite here.
    read = replace(evaluation, **dict(zip(_READ, arrays[1:5], strict=True)))
    check_evaluation(read, len(arrays[0]), buffers.num_actions, describe)
    raise AssertionError("an answer was refused that has nothing wrong with it")


_READ = ("reward", "discount", "value", "prior_logits")


def finished_tree(buffers: Buffers) -> SearchTree:
    """The searched trees as read-only views of the buffers; nothing is copied."""
    floats, ints, num_actions = buffers.floats, buffers.ints, buffers.num_actions
    clear_unused_rows(buffers)
    views = {
        "num_nodes": buffers.state[NEXT_ROW],
        "parent": ints[:, :, PARENT],
        "action": ints[:, :, ACTION],
        "depth": ints[:, :, DEPTH],
        "node": buffers.handles,
        "reward": floats[:, :, REWARD],
        "discount": floats[:, :, DISCOUNT],
        "value": floats[:, :, RAW],
        "score": floats[:, :, MEAN],
        "q_value": floats[:, :, PRIOR + num_actions :],
        "visits": ints[:, :, VISITS],
        "state": ints[:, :, STATE],
        "kind": ints[:, :, KIND],
        "prior": floats[:, :, PRIOR : PRIOR + num_actions],
        "edge_visits": ints[:, :, EDGE_VISITS:-num_actions],
        "children": ints[:, :, -num_actions:],
    }
    for view in views.values():
        view.flags.writeable = False
    return SearchTree(**views)


def clear_unused_rows(buffers: Buffers) -> None:
    """Empty the rows behind a search that stopped early or had less to reuse than others."""
    unused = np.arange(buffers.floats.shape[1]) >= buffers.state[NEXT_ROW][:, None]
    if unused.any():
        buffers.floats[unused] = 0
        ints = np.full(buffers.ints.shape[2], NO_ROW, dtype=np.int32)
        ints[[DEPTH, VISITS, KIND]] = 0
        ints[EDGE_VISITS : -buffers.num_actions] = 0
        buffers.ints[unused] = ints
        buffers.handles[unused] = NO_ROW
