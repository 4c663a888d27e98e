"""What all tree searches do the same way: begin, grow, and conclude.

Letters: B roots, A actions. See `layout` for the arrays.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from planning import kernels, plain
from planning.base import SearchResult, SearchTree
from planning.checks import check_evaluation, check_roots, check_shapes
from planning.compiled import HAS_NUMBA, threads
from planning.export import GrownTrees, unpack
from planning.layout import (
    ANSWER,
    ASKED_ACTION,
    ASKED_PARENT,
    EARLY_STOP,
    EXPAND_ENDS,
    LEAF_ACTION,
    LEAF_DEPTH,
    MAX_DEPTH,
    MEAN,
    MERGE,
    NEXT_ACTION,
    NEXT_PRIOR,
    NO_ROW,
    NUM_SWITCHES,
    PROBLEM,
    ROOT_PRIOR,
    RULE,
    SLOT_WORDS,
    SLOTS,
    UNLIMITED,
    Buffers,
    allocate,
)
from planning.model import Evaluation, PlanningModel
from planning.options import TreeOptions, check_budget
from planning.subtree import Resume, Roots, write_roots


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


def kernel_module(options: TreeOptions) -> ModuleType:
    """The compiled kernels or their twins."""
    return kernels if HAS_NUMBA and options.compiled else plain


def tree_switches(rule: int, max_depth: int | None, options: TreeOptions) -> Int[np.ndarray, " S"]:
    """The switches that every rule shares; the Gumbel rule sets two more."""
    switches = np.zeros(NUM_SWITCHES, dtype=np.int64)
    switches[RULE] = rule
    switches[MAX_DEPTH] = max_depth or UNLIMITED
    switches[EXPAND_ENDS] = options.mctx_semantics
    switches[MERGE] = options.merge_equal_states
    switches[EARLY_STOP] = options.early_stop
    return switches


def begin(
    model: PlanningModel,
    observation: Any,
    num_simulations: int,
    max_depth: int | None,
    options: TreeOptions,
    resume: Resume | None = None,
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
    rows_used = np.ones(len(evaluation.node), dtype=np.int64)
    buffers = allocate(
        rows_used, model.num_actions, num_simulations, max_depth, options.dtype, options.merge_equal_states
    )
    write_roots(buffers, evaluation, np.arange(len(rows_used)))
    logits = evaluation.prior_logits.astype(options.dtype)
    legal_mask = np.array(evaluation.legal_mask, dtype=bool)
    return Roots(buffers, logits, legal_mask, np.zeros_like(legal_mask))


def set_root_policy(
    roots: Roots, prior: Float[np.ndarray, "B A"], order: Float[np.ndarray, "B A"] | None = None
) -> None:
    """Set the policy that the search follows at the roots.

    Args:
        roots: the trees.
        prior: probabilities, 0 where illegal.
        order: untried actions are tried in descending order of this, `prior` if None.
    """
    buffers, rows, every = roots.buffers, roots.buffers.root_rows, np.arange(len(prior))
    first = SLOTS + SLOT_WORDS * buffers.num_actions
    untried = roots.legal_mask & ~roots.tried
    keys = np.where(untried, prior if order is None else order, -np.inf)
    following = keys.argmax(axis=1)
    buffers.work[:, ROOT_PRIOR] = prior
    buffers.floats[rows, first : first + buffers.num_actions] = keys
    buffers.floats[rows, NEXT_PRIOR] = prior[every, following]
    buffers.ints[rows, NEXT_ACTION] = np.where(untried.any(axis=1), following, NO_ROW)


def masked_softmax(
    logits: Float[np.ndarray, "B A"], legal_mask: Bool[np.ndarray, "B A"]
) -> Float[np.ndarray, "B A"]:
    """Probabilities over the legal actions; 0 for the others."""
    shifted = np.where(legal_mask, logits, -np.inf)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def grow(model: PlanningModel, buffers: Buffers, rule: Rule, options: TreeOptions) -> None:
    """Run all simulations, one call of the model for each round of all roots.

    Raises:
        PlanningError: for an answer of the model that cannot be used.
    """
    module = kernel_module(options)
    in_threads = module is kernels and options.num_threads > 1
    advance = kernels.advance_in_threads if in_threads else module.advance
    batch = len(buffers.work)
    size = options.max_batch or batch
    # Only a search in threads starts any.
    with threads(options.num_threads) if in_threads else nullcontext():
        for first_root in range(0, batch, size):
            _grow(model, buffers, rule, advance, first_root, min(first_root + size, batch))


def _grow(
    model: PlanningModel, buffers: Buffers, rule: Rule, advance: Any, first_root: int, end_root: int
) -> None:
    search = (
        buffers.floats, buffers.ints, buffers.handles, buffers.path, buffers.state, buffers.work,
        buffers.states_by_hash, rule.exploration, rule.sequence, rule.switches, rule.constants,
    )  # fmt: skip
    parents, actions = (buffers.state[row, : end_root - first_root] for row in (ASKED_PARENT, ASKED_ACTION))
    rows, evaluation, arrays = 0, None, ()
    waiting = advance(*search, *_no_answer(buffers), first_root, end_root)
    while waiting > 0:
        if waiting == len(parents):
            answer = model.step(parents, actions)
        else:
            answer = model.step(parents[:waiting], actions[:waiting])
        # A model that answers in the same arrays again needs no second look at them.
        if answer is not evaluation or waiting != rows:
            arrays, shared = _answer_arrays(buffers, answer, waiting)
            evaluation, rows = answer if shared else None, waiting
        waiting = advance(*search, *arrays, first_root, end_root)
        if waiting < 0:
            _refuse_answer(buffers, answer, arrays)


def _no_answer(buffers: Buffers) -> tuple[np.ndarray, ...]:
    """What `advance` is given before anything has been asked."""
    numbers = np.zeros(1, dtype=buffers.floats.dtype)
    edges = np.zeros((1, buffers.num_actions), dtype=numbers.dtype)
    flags = np.zeros(1, dtype=bool)
    return np.zeros(1, dtype=np.int64), numbers, numbers, numbers, edges, edges.astype(bool), flags


def _answer_arrays(
    buffers: Buffers, evaluation: Evaluation, rows: int
) -> tuple[tuple[np.ndarray, ...], bool]:
    """An answer's arrays in the types that the kernels are compiled for.

    Returns:
        The arrays, and whether they are the model's own rather than copies.
    """
    check_shapes(evaluation, rows, buffers.num_actions)
    is_chance = np.zeros(rows, dtype=bool) if evaluation.is_chance is None else evaluation.is_chance
    given = (
        evaluation.node, evaluation.reward, evaluation.discount, evaluation.value,
        evaluation.prior_logits, evaluation.legal_mask, is_chance,
    )  # fmt: skip
    dtype = buffers.floats.dtype
    kinds = (np.int64, dtype, dtype, dtype, dtype, np.bool_, np.bool_)
    arrays = tuple(np.ascontiguousarray(array, kind) for array, kind in zip(given, kinds, strict=True))
    return arrays, all(array is own for array, own in zip(arrays, given, strict=True))


_READ = ("reward", "discount", "value", "prior_logits")


def _refuse_answer(buffers: Buffers, evaluation: Evaluation, arrays: tuple[np.ndarray, ...]) -> None:
    """Say what is wrong with an answer that the kernels could not use."""
    state, path = buffers.state, buffers.path

    def describe(answer: int) -> str:
        root = int(np.flatnonzero((state[PROBLEM] == 1) & (state[ANSWER] == answer))[0])
        depth = int(state[LEAF_DEPTH, root])
        node = path[root, depth - 1, 0] - buffers.root_rows[root]
        return f"root {root}, action {state[LEAF_ACTION, root]} of node {node}, depth {depth}"

    # In the tree's own precision: a number may be finite in the model's and infinite here.
    read = replace(evaluation, **dict(zip(_READ, arrays[1:5], strict=True)))
    check_evaluation(read, len(arrays[0]), buffers.num_actions, describe)
    raise AssertionError("an answer was refused that has nothing wrong with it")


def root_edges(buffers: Buffers) -> plain.Edges:
    """The actions of the roots."""
    return unpack(buffers, buffers.root_rows, np.arange(len(buffers.work)))


def search_result(
    buffers: Buffers,
    action: Int[np.ndarray, "B"],
    weights: Float[np.ndarray, "B A"],
    edges: plain.Edges,
    options: TreeOptions,
) -> SearchResult[SearchTree]:
    """The decision, with the trees behind it."""
    rows = buffers.root_rows
    root_value = buffers.floats[rows, MEAN]
    searched = np.where(edges.visits > 0, edges.q_value, root_value[:, None])
    best_row = np.empty(len(action), dtype=np.int64)
    kernel_module(options).best_rows(buffers.floats, buffers.ints, rows, buffers.work, action, best_row)
    return SearchResult(
        action=action,
        action_weights=weights,
        root_value=root_value,
        root_q_value=np.where(edges.visits < 0, -np.inf, searched),
        visit_counts=np.maximum(edges.visits, 0),
        best_node=best_row - rows,
        searched=GrownTrees(buffers),
    )
