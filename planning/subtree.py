"""Keeping what a search found out below the action that was taken.

Letters: B roots, R kept rows, A actions. See `layout` for the records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.base import SearchResult, Tree
from planning.checks import check_evaluation
from planning.export import GrownTrees, unpack
from planning.layout import (
    ACTION,
    CHANCE,
    DEPTH,
    DISCOUNT,
    END,
    KIND,
    MEAN,
    NO_ROW,
    NUM_LEGAL,
    NUM_TRIED,
    OLD_VISITS,
    PARENT,
    RAW,
    REWARD,
    SLOT_CHILD,
    SLOT_VISITS,
    SLOT_WORDS,
    SLOTS,
    STATE,
    VISITS,
    Buffers,
    allocate,
)
from planning.model import Evaluation, PlanningError, PlanningModel
from planning.options import TreeOptions
from planning.plain.tree import find_states


@dataclass(frozen=True)
class Roots:
    """B trees with nothing but their roots, or with what an earlier search left."""

    buffers: Buffers
    logits: Float[np.ndarray, "B A"]
    """The model's policy as it gave it, illegal actions included."""
    legal_mask: Bool[np.ndarray, "B A"]
    """True where an action is allowed."""
    tried: Bool[np.ndarray, "B A"]
    """True where an earlier search tried an action."""


@dataclass(frozen=True)
class Resume:
    """Go on from the state that an action of an earlier search led to, with all that is known of it.

    The model must not have been asked for new roots in between, or its handles are void. Where the
    search never tried the action, the model is asked for its state.
    """

    result: SearchResult[Tree]
    """What the earlier search returned."""
    action: Int[np.ndarray, "B"]
    """Actions taken since, one a root; at a chance node, the outcome that came about."""

    def roots(
        self, model: PlanningModel, num_simulations: int, max_depth: int | None, options: TreeOptions
    ) -> Roots:
        """The trees to search on in.

        Raises:
            PlanningError: the earlier search was no tree search, of another precision or of another
                model, or an action is missing, illegal or ended the episode.
        """
        if not isinstance(self.result.searched, GrownTrees):
            raise PlanningError("only a tree search can be resumed; this result is of another search")
        old, action = self.result.searched.buffers, np.asarray(self.action)
        if action.shape != (len(old.work),):
            raise PlanningError(
                f"resume.action has shape {action.shape}; give one for each of {len(old.work)} roots"
            )
        if model.num_actions != old.num_actions:
            raise PlanningError(
                f"the tree to resume has {old.num_actions} actions, the model has {model.num_actions}"
            )
        for root in np.flatnonzero((action < 0) | (action >= old.num_actions)):
            raise PlanningError(
                f"resume.action is {action[root]} at root {root}; actions go from 0 to {old.num_actions - 1}"
            )
        if old.floats.dtype != options.dtype:
            raise PlanningError(f"the tree to resume is {old.floats.dtype}, not {options.precision}")
        rows, every = old.root_rows, np.arange(len(action))
        edges = unpack(old, rows, every)
        for root in np.flatnonzero(edges.visits[every, action] < 0):
            raise PlanningError(f"action {action[root]} is illegal at root {root}")
        child = edges.child[every, action]
        kept = _kept_rows(old, child)
        buffers = allocate(
            kept.used,
            model.num_actions,
            num_simulations,
            max_depth,
            options.dtype,
            options.merge_equal_states,
        )
        _copy(old, buffers, kept)
        roots = _roots_of(buffers, old, child)
        new = np.flatnonzero(child == NO_ROW)
        if len(new):
            evaluation = self._step(model, old, new)
            write_roots(buffers, evaluation, new)
            roots.logits[new], roots.legal_mask[new] = evaluation.prior_logits, evaluation.legal_mask
        for root in np.flatnonzero(buffers.ints[buffers.root_rows, KIND] == END):
            raise PlanningError(f"action {action[root]} ended the episode of root {root}")
        if options.merge_equal_states:
            _register(buffers, kept)
        return roots

    def _step(self, model: PlanningModel, old: Buffers, roots: Int[np.ndarray, " R"]) -> Evaluation:
        """Ask the model for what the search never tried."""
        action = np.asarray(self.action)[roots]
        evaluation = model.step(old.handles[old.root_rows[roots]], action)
        check_evaluation(
            evaluation,
            len(roots),
            model.num_actions,
            lambda row: f"root {roots[row]}, action {action[row]} of node 0, depth 1",
        )
        ends = (evaluation.discount == 0) | ~evaluation.legal_mask.any(axis=1)
        for row in np.flatnonzero(ends):
            raise PlanningError(f"action {action[row]} ended the episode of root {roots[row]}")
        return evaluation


def write_roots(buffers: Buffers, evaluation: Evaluation, roots: Int[np.ndarray, " R"]) -> None:
    """Write states as the roots of some trees; the policy there is left to the search."""
    rows = buffers.root_rows[roots]
    record = np.zeros((len(rows), buffers.ints.shape[1]), dtype=buffers.ints.dtype)
    record[:, PARENT] = record[:, ACTION] = NO_ROW
    record[:, VISITS] = 1
    record[:, STATE] = rows
    record[:, NUM_LEGAL] = evaluation.legal_mask.sum(axis=1)
    if evaluation.is_chance is not None:
        record[evaluation.is_chance, KIND] = CHANCE
    buffers.ints[rows] = record
    buffers.floats[rows, DISCOUNT] = 1
    buffers.floats[rows, RAW] = buffers.floats[rows, MEAN] = evaluation.value
    buffers.handles[rows] = evaluation.node


@dataclass(frozen=True)
class _Kept:
    """Rows of the old trees that are still of use, breadth first in each tree."""

    tree: Int[np.ndarray, " R"]
    old: Int[np.ndarray, " R"]
    """Old row of an edge."""
    state: Int[np.ndarray, " R"]
    """Old row of the state that it leads to."""
    place: Int[np.ndarray, " R"]
    """New row, counted from the root of its tree."""
    depth: Int[np.ndarray, " R"]
    used: Int[np.ndarray, "B"]
    """Rows of each tree; at least one, for a root that is not known yet."""


def _kept_rows(old: Buffers, child: Int[np.ndarray, "B"]) -> _Kept:
    """Follow all slots from the new roots on.

    A state that can be reached by several ways is reached by all of them at the same depth.
    """
    tree = np.flatnonzero(child != NO_ROW)
    row, place, used = child[tree], np.zeros(len(tree), dtype=np.int64), np.ones(len(child), dtype=np.int64)
    levels, slots = [], SLOTS + SLOT_CHILD + SLOT_WORDS * np.arange(old.num_actions)
    while len(tree):
        state = old.ints[row, STATE].astype(np.int64)
        levels.append((tree, row, state, place, np.full(len(tree), len(levels))))
        first = np.sort(np.unique(state, return_index=True)[1])
        tree, state = tree[first], state[first]
        is_used = np.arange(old.num_actions) < old.ints[state, NUM_TRIED, None]
        row = old.ints[state[:, None], slots][is_used].astype(np.int64)
        tree = np.repeat(tree, is_used.sum(axis=1))
        place = used[tree] + np.arange(len(tree)) - np.searchsorted(tree, tree)
        used = used + np.bincount(tree, minlength=len(used))
    empty = np.zeros(0, dtype=np.int64)
    columns = zip(*levels, strict=True) if levels else [(empty,)] * 5
    trees, rows, states, places, depths = (np.concatenate(column) for column in columns)
    return _Kept(trees, rows, states, places, depths, used)


def _copy(old: Buffers, new: Buffers, kept: _Kept) -> None:
    """Write the kept rows under their new numbers."""
    row = new.root_rows[kept.tree] + kept.place
    new_row = np.full(len(old.floats), NO_ROW)
    new_row[kept.old] = row
    # The first way to a state holds it; the others point to that row.
    holder, first = np.full(len(old.floats), NO_ROW), np.unique(kept.state, return_index=True)[1]
    holder[kept.state[first]] = row[first]
    source = np.where(holder[kept.state] == row, kept.state, kept.old)
    new.ints[row] = old.ints[source]
    for column in (REWARD, DISCOUNT):
        new.floats[row, column] = old.floats[kept.old, column]
    new.ints[row, ACTION] = old.ints[kept.old, ACTION]
    new.ints[row, DEPTH] = kept.depth
    new.ints[row, STATE] = holder[kept.state]
    is_root = kept.depth == 0
    new.ints[row, PARENT] = np.where(is_root, NO_ROW, holder[old.ints[kept.old, PARENT]])
    for slot in range(new.num_actions):
        at = SLOTS + slot * SLOT_WORDS + SLOT_CHILD
        using = row[(new.ints[row, NUM_TRIED] > slot) & (new.ints[row, STATE] == row)]
        new.ints[using, at] = new_row[new.ints[using, at]]
    new.handles[row] = old.handles[source]
    roots = row[is_root]
    new.ints[roots, ACTION] = NO_ROW
    new.floats[roots, REWARD], new.floats[roots, DISCOUNT] = 0, 1
    visits = new.ints[:, SLOTS + SLOT_VISITS : SLOTS + SLOT_WORDS * new.num_actions : SLOT_WORDS]
    tried = np.arange(new.num_actions) < new.ints[roots, NUM_TRIED, None]
    new.work[kept.tree[is_root], OLD_VISITS] = np.where(tried, visits[roots], 0)


def _roots_of(buffers: Buffers, old: Buffers, child: Int[np.ndarray, "B"]) -> Roots:
    """What is known of the new roots; blank where they were never tried."""
    known, shape = np.flatnonzero(child != NO_ROW), (len(child), buffers.num_actions)
    logits = np.zeros(shape, dtype=buffers.floats.dtype)
    legal_mask, tried = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    edges = unpack(old, old.ints[child[known], STATE], known)
    legal_mask[known], tried[known] = edges.visits >= 0, edges.child != NO_ROW
    with np.errstate(divide="ignore"):
        logits[known] = np.log(edges.prior)
    return Roots(buffers, logits, legal_mask, tried)


def _register(buffers: Buffers, kept: _Kept) -> None:
    """Make the kept states known to the search for equal ones, one state a tree at a time."""
    row = buffers.root_rows[kept.tree] + kept.place
    holds = (buffers.ints[row, STATE] == row) & (buffers.ints[row, KIND] != END)
    for place in range(int(kept.used.max())):
        now = holds & (kept.place == place)
        find_states(
            buffers.ints, buffers.handles, buffers.states_by_hash, kept.tree[now], row[now], kept.depth[now]
        )
