"""Plain twins of the steps in `kernels.tree`, for R roots at once.

Every function takes whole arrays where its twin takes one root's; `roots` are the trees to work on,
and `rows` one row of each.
"""

from __future__ import annotations

import numpy as np

from planning.layout import (
    ACTION,
    CHANCE,
    DECISION,
    DEPTH,
    DISCOUNT,
    END,
    EXPAND_ENDS,
    HASH_DEPTH,
    HASH_FACTOR,
    KIND,
    MAX_DEPTH,
    MEAN,
    MERGE,
    NEXT_ACTION,
    NEXT_PRIOR,
    NO_ROW,
    NUM_LEGAL,
    NUM_TRIED,
    PARENT,
    RAW,
    REWARD,
    ROOT_PRIOR,
    ROOT_SCORE,
    RULE,
    SLOT_ACTION,
    SLOT_CHILD,
    SLOT_PRIOR,
    SLOT_Q_VALUE,
    SLOT_VISITS,
    SLOT_WORDS,
    SLOTS,
    STATE,
    UCB,
    UCB_LOWEST_PRIOR,
    UNTRIED_PRIOR,
    VISITS,
)
from planning.plain.choose import choose_action, unpack


def descend(floats, ints, path, roots, rows, state, work, exploration, sequence, switches, constants):
    """Walk from R roots to untried actions, or to states that are not to be gone past.

    Returns:
        Edges walked, rows reached (NO_ROW where the model must be asked) and last actions, each [R].
    """
    reached, last_action = np.full(len(roots), NO_ROW), np.zeros(len(roots), dtype=np.int64)
    depths, walking, depth = np.zeros(len(roots), dtype=np.int64), np.arange(len(roots)), 0
    while len(walking):
        trees = roots[walking]
        if switches[MERGE]:
            refresh_q_values(floats, ints, rows, trees, work)
        edges = unpack(floats, ints, rows, trees, work)
        action = choose_action(
            floats, ints, rows, trees, edges, state, work, exploration, sequence, switches, constants
        )
        slot, child = (field[np.arange(len(rows)), action] for field in (edges.slot, edges.child))
        path[trees, depth, 0], path[trees, depth, 1] = rows, slot
        depth += 1
        depths[walking], last_action[walking] = depth, action
        walking = walking[child != NO_ROW]
        rows = ints[child[child != NO_ROW], STATE].astype(np.int64)
        stops = (ints[rows, KIND] == END) | (depth >= switches[MAX_DEPTH])
        reached[walking[stops]] = rows[stops]
        walking, rows = walking[~stops], rows[~stops]
    return depths, reached, last_action


def refresh_q_values(floats, ints, rows, roots, work):
    """Twin of `kernels.tree.refresh_q_values`."""
    for slot in range(work.shape[2]):
        at, using = SLOTS + slot * SLOT_WORDS, rows[ints[rows, NUM_TRIED] > slot]
        child = ints[using, at + SLOT_CHILD]
        mean = floats[ints[child, STATE], MEAN]
        floats[using, at + SLOT_Q_VALUE] = floats[child, REWARD] + floats[child, DISCOUNT] * mean


def back_up(floats, ints, path, roots, depths, target, work, switches):
    """Carry returns [R] from the paths' ends to their roots; each state's mean takes them in."""
    for step in range(int(depths.max(initial=0)) - 1, -1, -1):
        on = depths > step
        row, at = path[roots[on], step, 0], SLOTS + path[roots[on], step, 1] * SLOT_WORDS
        child = ints[row, at + SLOT_CHILD]
        mean = floats[ints[child, STATE], MEAN]
        reward, discount = floats[child, REWARD], floats[child, DISCOUNT]
        target[on] = reward + discount * target[on]
        visits = ints[row, VISITS].astype(floats.dtype)
        floats[row, MEAN] = (floats[row, MEAN] * visits + target[on]) / (visits + 1)
        ints[row, VISITS] += 1
        ints[row, at + SLOT_VISITS] += 1
        floats[row, at + SLOT_Q_VALUE] = reward + discount * mean
        shared = ints[child, STATE] != child
        floats[child[shared], MEAN] = mean[shared]
        ints[child[shared], VISITS] = ints[row, at + SLOT_VISITS][shared]
    if switches[RULE] == UCB:
        note_means(floats, ints, path, roots, depths, work)


def note_means(floats, ints, path, roots, depths, work):
    """Widen the extremes of each tree by the means along its path."""
    for step in range(int(depths.max(initial=0))):
        tree = roots[depths > step]
        row, at = path[tree, step, 0], SLOTS + path[tree, step, 1] * SLOT_WORDS
        for mean in (floats[row, MEAN], floats[ints[ints[row, at + SLOT_CHILD], STATE], MEAN]):
            work[tree, ROOT_SCORE, 0] = np.minimum(work[tree, ROOT_SCORE, 0], mean)
            work[tree, ROOT_SCORE, 1] = np.maximum(work[tree, ROOT_SCORE, 1], mean)


def expand(
    floats, ints, handles, states_by_hash, path, depths, rows, roots, action, work, switches,
    handle, reward, discount, value, prior_logits, legal_mask, is_chance,
):  # fmt: skip
    """Write the model's answers into new rows and give them slots at their parents.

    Returns:
        Which answers [R] can be used.
    """
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(reward) & np.isfinite(value) & (discount >= -1) & (discount <= 1)
    parent = path[roots, depths - 1, 0]
    ends = ~legal_mask.any(axis=1) | ((discount == 0) & (not switches[EXPAND_ENDS]))
    kind = np.where(ends, END, np.where(is_chance, CHANCE, DECISION))
    header = {PARENT: parent, ACTION: action, DEPTH: depths, VISITS: 1, STATE: rows, KIND: kind}
    for column, values in header.items():
        ints[rows, column] = values
    for column, values in {REWARD: reward, DISCOUNT: discount, RAW: value, MEAN: value}.items():
        floats[rows, column] = values
    handles[rows] = handle
    add_slots(floats, ints, parent, action, rows, roots, work, switches)
    usable &= write_keys(floats, ints, rows, prior_logits, legal_mask, switches)
    if switches[MERGE]:
        row = rows[~ends]
        found = find_states(ints, handles, states_by_hash, roots[~ends], row, depths[~ends])
        ints[row, STATE] = found
        floats[row, MEAN] = floats[found, MEAN]
    return usable


def write_keys(floats, ints, rows, prior_logits, legal_mask, switches):
    """Twin of `kernels.tree.write_keys`; returns which rows [R] have logits that are a distribution."""
    num_actions = prior_logits.shape[1]
    with np.errstate(invalid="ignore"):
        shifted = np.where(legal_mask, prior_logits, -np.inf)
        weight = np.where(legal_mask, np.exp(shifted - shifted.max(axis=1, keepdims=True)), 0)
    total = weight.sum(axis=1, keepdims=True)
    prior = weight / np.where(total >= 1, total, 1)
    hidden = ~legal_mask | ((prior < UCB_LOWEST_PRIOR) & (switches[RULE] == UCB))
    first = SLOTS + num_actions * SLOT_WORDS
    floats[rows, first : first + num_actions] = np.where(hidden, -np.inf, prior)
    ints[rows, NUM_TRIED] = 0
    ints[rows, NUM_LEGAL] = legal_mask.sum(axis=1)
    find_next_actions(floats, ints, rows, num_actions, switches)
    return ~legal_mask.any(axis=1) | (total[:, 0] >= 1)


def find_next_actions(floats, ints, rows, num_actions, switches):
    """Twin of `kernels.tree.find_next_action`."""
    first = SLOTS + num_actions * SLOT_WORDS
    keys = floats[rows, first : first + num_actions]
    best = keys.argmax(axis=1)
    if switches[RULE] == UCB:
        best = num_actions - 1 - keys[:, ::-1].argmax(axis=1)
    key = keys[np.arange(len(rows)), best]
    ints[rows, NEXT_ACTION] = np.where(key > -np.inf, best, NO_ROW)
    floats[rows, NEXT_PRIOR] = key
    floats[rows, UNTRIED_PRIOR] = np.where(keys > -np.inf, keys, 0).sum(axis=1)


def add_slots(floats, ints, rows, action, child, roots, work, switches):
    """Twin of `kernels.tree.add_slot`."""
    num_actions, slot = work.shape[2], ints[rows, NUM_TRIED]
    at, key = SLOTS + slot * SLOT_WORDS, SLOTS + num_actions * SLOT_WORDS + action
    is_root = ints[rows, DEPTH] == 0
    prior = np.where(is_root, work[roots, ROOT_PRIOR, action], floats[rows, key])
    ints[rows, at + SLOT_ACTION] = action
    ints[rows, at + SLOT_VISITS] = 0
    ints[rows, at + SLOT_CHILD] = child
    floats[rows, at + SLOT_PRIOR] = prior
    ints[rows, NUM_TRIED] = slot + 1
    floats[rows, key] = -np.inf
    find_next_actions(floats, ints, rows, num_actions, switches)
    following = ints[rows, NEXT_ACTION]
    root_prior = work[roots, ROOT_PRIOR, np.maximum(following, 0)]
    floats[rows, NEXT_PRIOR] = np.where(is_root & (following != NO_ROW), root_prior, floats[rows, NEXT_PRIOR])


def find_states(ints, handles, states_by_hash, roots, rows, depths):
    """Twin of `kernels.tree.find_state`."""
    mask = states_by_hash.shape[1] - 1
    mixed = (handles[rows] + depths * HASH_DEPTH) * HASH_FACTOR
    bucket, found, searching = (mixed ^ (mixed >> 29)) & mask, rows.copy(), np.arange(len(rows))
    while len(searching):
        row, tree = rows[searching], roots[searching]
        other = states_by_hash[tree, bucket[searching]]
        empty = other == NO_ROW
        states_by_hash[tree[empty], bucket[searching[empty]]] = row[empty]
        equal = ~empty & (handles[other] == handles[row]) & (ints[other, DEPTH] == depths[searching])
        found[searching[equal]] = other[equal]
        searching = searching[~empty & ~equal]
        bucket[searching] = (bucket[searching] + 1) & mask
    return found


def clear_rows(ints, handles, rows):
    """Twin of `kernels.tree.clear_row`."""
    ints[rows, :SLOTS] = 0
    ints[rows, DEPTH] = ints[rows, NUM_LEGAL] = 0
    for column in (PARENT, ACTION, STATE):
        ints[rows, column] = NO_ROW
    handles[rows] = NO_ROW
