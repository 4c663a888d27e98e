"""Compiled steps of one simulation: walk down, take in the model's answer, carry its value up.

`floats`, `ints` and `handles` hold the rows of all trees (see `layout`); `path` is one root's.
"""

from __future__ import annotations

import math

import numpy as np

from planning.compiled import part
from planning.kernels.choose import choose_slot
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


@part
def descend(floats, ints, path, first, root, state, work, exploration, sequence, switches, constants):
    """Walk from row `first`, the root, to an untried action or to a state that is not to be gone past.

    Returns:
        Edges walked, and the row of the state reached; NO_ROW if the model must be asked for it.
    """
    row, depth = first, 0
    while True:
        if switches[MERGE]:
            refresh_q_values(floats, ints, row)
        slot = choose_slot(
            floats, ints, row, depth == 0, root, state, work, exploration, sequence, switches, constants
        )
        path[depth, 0] = row
        path[depth, 1] = slot
        depth += 1
        if slot == ints[row, NUM_TRIED]:
            return depth, NO_ROW
        row = ints[ints[row, SLOTS + slot * SLOT_WORDS + SLOT_CHILD], STATE]
        if ints[row, KIND] == END or depth >= switches[MAX_DEPTH]:
            return depth, row


@part
def refresh_q_values(floats, ints, row):
    """Bring a state's Q-values up to date with states that were visited by other ways."""
    for slot in range(ints[row, NUM_TRIED]):
        at = SLOTS + slot * SLOT_WORDS
        child = ints[row, at + SLOT_CHILD]
        mean = floats[ints[child, STATE], MEAN]
        floats[row, at + SLOT_Q_VALUE] = floats[child, REWARD] + floats[child, DISCOUNT] * mean


@part
def back_up(floats, ints, path, depth, target, root, work, switches):
    """Carry a return from a path's end to its root; each state's mean takes it in."""
    one = floats.dtype.type(1)
    for step in range(depth - 1, -1, -1):
        row = path[step, 0]
        at = SLOTS + path[step, 1] * SLOT_WORDS
        child = ints[row, at + SLOT_CHILD]
        mean = floats[ints[child, STATE], MEAN]
        reward, discount = floats[child, REWARD], floats[child, DISCOUNT]
        target = reward + discount * target
        visits = floats.dtype.type(ints[row, VISITS])
        floats[row, MEAN] = (floats[row, MEAN] * visits + target) / (visits + one)
        ints[row, VISITS] += 1
        ints[row, at + SLOT_VISITS] += 1
        floats[row, at + SLOT_Q_VALUE] = reward + discount * mean
        if ints[child, STATE] != child:
            floats[child, MEAN] = mean
            ints[child, VISITS] = ints[row, at + SLOT_VISITS]
    if switches[RULE] == UCB:
        for step in range(depth):
            row = path[step, 0]
            note_mean(floats[row, MEAN], root, work)
        child = ints[path[depth - 1, 0], SLOTS + path[depth - 1, 1] * SLOT_WORDS + SLOT_CHILD]
        note_mean(floats[ints[child, STATE], MEAN], root, work)


@part
def note_mean(mean, root, work):
    """Widen the extremes of a tree."""
    if mean < work[root, ROOT_SCORE, 0]:
        work[root, ROOT_SCORE, 0] = mean
    if mean > work[root, ROOT_SCORE, 1]:
        work[root, ROOT_SCORE, 1] = mean


@part
def expand(
    floats, ints, handles, states_by_hash, path, depth, row, root, state_action, work, switches,
    handle, reward, discount, value, prior_logits, legal_mask, is_chance,
):  # fmt: skip
    """Write the model's answer into a new row and give it a slot at its parent.

    Returns:
        False if the answer cannot be used.
    """
    if not (math.isfinite(reward) and math.isfinite(value) and -1 <= discount <= 1):
        return False
    parent = path[depth - 1, 0]
    ints[row, PARENT], ints[row, ACTION], ints[row, DEPTH] = parent, state_action, depth
    ints[row, VISITS], ints[row, KIND] = 1, CHANCE if is_chance else DECISION
    floats[row, REWARD], floats[row, DISCOUNT] = reward, discount
    floats[row, RAW], floats[row, MEAN] = value, value
    handles[row] = handle
    add_slot(floats, ints, parent, state_action, row, root, work, switches)
    num_legal = write_keys(floats, ints, row, prior_logits, legal_mask, switches)
    if num_legal == 0 or (discount == 0 and not switches[EXPAND_ENDS]):
        ints[row, KIND] = END
    ints[row, STATE] = row
    # An end may come about in any state, so its handle says nothing: it is never merged.
    if switches[MERGE] and ints[row, KIND] != END:
        ints[row, STATE] = find_state(ints, handles, states_by_hash[root], row, depth)
        floats[row, MEAN] = floats[ints[row, STATE], MEAN]
    return num_legal >= 0


@part
def write_keys(floats, ints, row, prior_logits, legal_mask, switches):
    """Fill a new row's keys with the softmax of the legal logits.

    Returns:
        Number of legal actions, or -1 if their logits are no distribution.
    """
    num_actions = len(prior_logits)
    first = SLOTS + num_actions * SLOT_WORDS
    num_legal, highest = 0, floats.dtype.type(-np.inf)
    for action in range(num_actions):
        if legal_mask[action]:
            num_legal += 1
            if prior_logits[action] > highest:
                highest = prior_logits[action]
    total = floats.dtype.type(0)
    for action in range(num_actions):
        if legal_mask[action]:
            weight = math.exp(prior_logits[action] - highest)
            floats[row, first + action] = weight
            total += weight
    for action in range(num_actions):
        prior = floats[row, first + action] / total if legal_mask[action] else -np.inf
        if switches[RULE] == UCB and prior < UCB_LOWEST_PRIOR:
            prior = -np.inf
        floats[row, first + action] = prior
    ints[row, NUM_TRIED] = 0
    ints[row, NUM_LEGAL] = num_legal
    find_next_action(floats, ints, row, num_actions, switches)
    # A NaN or +inf anywhere, or -inf everywhere, makes the sum NaN.
    return num_legal if num_legal == 0 or total >= 1 else -1


@part
def find_next_action(floats, ints, row, num_actions, switches):
    """Look up the untried action of the highest key; of equal ones the lowest, or by UCB the highest.

    The keys' sum is UNTRIED_PRIOR where keys are priors; a root, where they need not be, does not read
    it. It is summed anew each time: what is left of 1 after subtractions would not be exact enough to
    be weighed against the tried actions.
    """
    first = SLOTS + num_actions * SLOT_WORDS
    best_key, best_action = floats.dtype.type(-np.inf), NO_ROW
    total = floats.dtype.type(0)
    for action in range(num_actions):
        key = floats[row, first + action]
        if key == -np.inf:
            continue
        total += key
        if key > best_key or (key == best_key and switches[RULE] == UCB):
            best_key, best_action = key, action
    ints[row, NEXT_ACTION] = best_action
    floats[row, NEXT_PRIOR] = best_key
    floats[row, UNTRIED_PRIOR] = total


@part
def add_slot(floats, ints, row, action, child, root, work, switches):
    """Enter a row's new child in the next slot."""
    num_actions, slot = work.shape[2], ints[row, NUM_TRIED]
    at = SLOTS + slot * SLOT_WORDS
    ints[row, at + SLOT_ACTION] = action
    ints[row, at + SLOT_VISITS] = 0
    ints[row, at + SLOT_CHILD] = child
    floats[row, at + SLOT_PRIOR] = floats[row, NEXT_PRIOR]
    ints[row, NUM_TRIED] = slot + 1
    floats[row, SLOTS + num_actions * SLOT_WORDS + action] = -np.inf
    find_next_action(floats, ints, row, num_actions, switches)
    if ints[row, DEPTH] == 0 and ints[row, NEXT_ACTION] != NO_ROW:
        floats[row, NEXT_PRIOR] = work[root, ROOT_PRIOR, ints[row, NEXT_ACTION]]


@part
def find_state(ints, handles, states_by_hash, row, depth):
    """The row of an equal state at the same depth; `row` itself, now registered, if there is none.

    States of different depths are kept apart, so that a path can never meet itself.
    """
    mask = len(states_by_hash) - 1
    mixed = (handles[row] + depth * HASH_DEPTH) * HASH_FACTOR
    bucket = (mixed ^ (mixed >> 29)) & mask
    while states_by_hash[bucket] != NO_ROW:
        other = states_by_hash[bucket]
        if handles[other] == handles[row] and ints[other, DEPTH] == depth:
            return other
        bucket = (bucket + 1) & mask
    states_by_hash[bucket] = row
    return row


@part
def clear_row(floats, ints, handles, row):
    """Mark a row that its simulation did not need."""
    for word in range(SLOTS):
        ints[row, word] = 0
    ints[row, DEPTH] = ints[row, NUM_LEGAL] = 0
    ints[row, PARENT] = ints[row, ACTION] = ints[row, STATE] = NO_ROW
    handles[row] = NO_ROW
