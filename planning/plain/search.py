"""Plain twins of the entry points in `kernels.search`: the same searches, all roots at once."""

from __future__ import annotations

import numpy as np

from planning.layout import (
    ANSWER,
    ASKED_ACTION,
    ASKED_PARENT,
    EARLY_STOP,
    END_ROW,
    FIRST_ROW,
    GUMBEL,
    IDLE,
    LEAF_ACTION,
    LEAF_DEPTH,
    MEAN,
    NEXT_ROW,
    NO_ROW,
    NUM_CONSIDERED,
    NUM_LEGAL,
    OLD_VISITS,
    PROBLEM,
    RAW,
    RULE,
    SLOTS,
    STATE,
    VISITS,
)
from planning.plain import choose
from planning.plain.tree import back_up, clear_rows, descend, expand


def are_decided(floats, ints, rows, roots, state, work, switches):
    """Twin of `kernels.search.is_decided` for R roots."""
    started = state[NEXT_ROW, roots] > state[FIRST_ROW, roots]
    single = ints[rows, NUM_LEGAL] == 1
    if switches[RULE] == GUMBEL:
        return started & (single | (state[NUM_CONSIDERED, roots] == 1))
    visits = np.sort(np.maximum(choose.unpack(floats, ints, rows, roots, work).visits, 0), axis=1)
    second = visits[:, -2] if visits.shape[1] > 1 else np.zeros(len(rows), dtype=np.int64)
    remaining = state[END_ROW, roots] - state[NEXT_ROW, roots]
    return started & (single | (visits[:, -1] > second + remaining))


def simulate(floats, ints, handles, path, roots, state, work, exploration, sequence, switches, constants):
    """Run simulations at R roots until the model has to be asked or all are done."""
    size = len(handles) // state.shape[1]
    while True:
        roots = roots[state[NEXT_ROW, roots] < state[END_ROW, roots]]
        if switches[EARLY_STOP] and len(roots):
            decided = are_decided(floats, ints, roots * size, roots, state, work, switches)
            state[END_ROW, roots[decided]] = state[NEXT_ROW, roots[decided]]
            roots = roots[~decided]
        if not len(roots):
            return
        depths, rows, action = descend(
            floats, ints, path, roots, roots * size, state, work, exploration, sequence, switches, constants
        )
        asks = rows == NO_ROW
        state[ANSWER, roots[asks]] = 0
        state[LEAF_DEPTH, roots[asks]] = depths[asks]
        state[LEAF_ACTION, roots[asks]] = action[asks]
        roots, depths, rows = roots[~asks], depths[~asks], rows[~asks]
        ints[rows, VISITS] += 1
        back_up(floats, ints, path, roots, depths, floats[rows, RAW], work, switches)
        clear_rows(ints, handles, state[NEXT_ROW, roots])
        state[NEXT_ROW, roots] += 1


def advance(
    floats, ints, handles, path, state, work, states_by_hash, exploration, sequence, switches, constants,
    node, reward, discount, value, prior_logits, legal_mask, is_chance, first_root, end_root,
):  # fmt: skip
    """Twin of `kernels.search.advance`."""
    roots = first_root + np.flatnonzero(state[ANSWER, first_root:end_root] != IDLE)
    answer, rows, depths = state[ANSWER, roots], state[NEXT_ROW, roots], state[LEAF_DEPTH, roots]
    usable = expand(
        floats, ints, handles, states_by_hash, path, depths, rows, roots, state[LEAF_ACTION, roots], work,
        switches, node[answer], reward[answer], discount[answer], value[answer], prior_logits[answer],
        legal_mask[answer], is_chance[answer],
    )  # fmt: skip
    if not usable.all():
        state[PROBLEM, roots[~usable]] = 1
        return -1
    back_up(floats, ints, path, roots, depths, floats[rows, MEAN], work, switches)
    state[NEXT_ROW, roots] += 1
    taking_part = np.arange(first_root, end_root)
    state[ANSWER, taking_part] = IDLE
    simulate(
        floats, ints, handles, path, taking_part, state, work, exploration, sequence, switches, constants
    )
    waiting = taking_part[state[ANSWER, taking_part] != IDLE]
    parent = path[waiting, state[LEAF_DEPTH, waiting] - 1, 0]
    state[ASKED_PARENT, : len(waiting)] = handles[parent]
    state[ASKED_ACTION, : len(waiting)] = state[LEAF_ACTION, waiting]
    state[ANSWER, waiting] = np.arange(len(waiting))
    return len(waiting)


def best_rows(floats, ints, root_rows, work, action, out):
    """Twin of `kernels.search.best_rows`."""
    roots, rows, wanted = np.arange(len(action)), root_rows, action
    out[:] = root_rows
    while len(roots):
        child = choose.unpack(floats, ints, rows, roots, work).child[np.arange(len(rows)), wanted]
        roots, child = roots[child != NO_ROW], child[child != NO_ROW]
        out[roots] = child
        rows = ints[child, STATE]
        visits = choose.unpack(floats, ints, rows, roots, work).visits
        onward = (visits > 0).any(axis=1)
        roots, rows, wanted = roots[onward], rows[onward], visits[onward].argmax(axis=1)


def improved_policy(floats, ints, root_rows, work, switches, constants, weights, actions):
    """Twin of `kernels.search.improved_policy`."""
    edges = choose.unpack(floats, ints, root_rows, np.arange(len(root_rows)), work)
    numbers = floats[root_rows, :SLOTS]
    weights[:] = choose.improved_policy(numbers, edges, switches, constants)
    slots = np.minimum(edges.slot, work.shape[2] - 1)
    old = np.where(edges.visits > 0, np.take_along_axis(work[:, OLD_VISITS], slots, axis=1), 0)
    most = np.maximum(edges.visits - old, 0).max(axis=1)
    score = choose.gumbel_root_score(numbers, edges, most, work, switches, constants)
    actions[:] = np.where(edges.visits < 0, -np.inf, score).argmax(axis=1)
