"""The compiled tree search: one call takes in the model's answers and names the next questions.

All kernels work on the arrays of `layout.Buffers`. `kernels_numpy` holds the plain twin of
`advance`, which is the oracle in tests and serves where Numba is missing.
"""

from __future__ import annotations

import math

import numpy as np

from planning.choice_kernels import (
    chance_action,
    completed_q_values,
    gumbel_action,
    gumbel_root_action,
    puct_action,
    ucb_action,
)
from planning.compiled import njit, prange
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
    END,
    END_ROW,
    EPSILON,
    EXPAND_ENDS,
    FIRST_ROW,
    GUMBEL,
    IDLE,
    KIND,
    LEAF_DEPTH,
    MAX_DEPTH,
    MEAN,
    MERGE,
    NEXT_ROW,
    NO_ROW,
    NUM_CONSIDERED,
    OLD_VISITS,
    PARENT,
    PRIOR,
    PROBLEM,
    PUCT,
    RAW,
    REWARD,
    ROOT_SCORE,
    RULE,
    SCRATCH,
    SLOT,
    STATE,
    UCB,
    VISITS,
)

HASH_DEPTH, HASH_FACTOR = 0x1E3779B97F4A7C15, 0x2545F4914F6CDD1D
"""Odd numbers that spread handles over buckets; both fit int64."""

WAITING = 0
"""Slot of a root that waits for an answer, until `advance` has numbered the waiting roots."""


@njit(cache=True, nogil=True)
def choose(floats, ints, is_root, root, state, work, exploration, sequence, switches, constants):
    """The action that the search tries next at one node."""
    num_actions = work.shape[1]
    if ints[KIND] == CHANCE:
        return chance_action(floats, ints, num_actions)
    if switches[RULE] == PUCT:
        return puct_action(floats, ints, num_actions, exploration, constants[EPSILON])
    if switches[RULE] == UCB:
        lowest, highest = work[ROOT_SCORE, 0], work[ROOT_SCORE, 1]
        return ucb_action(floats, ints, num_actions, exploration, lowest, highest)
    if is_root:
        simulation = state[NEXT_ROW, root] - state[FIRST_ROW, root]
        visits = sequence[state[NUM_CONSIDERED, root], simulation]
        return gumbel_root_action(floats, ints, num_actions, visits, switches, constants, work)
    return gumbel_action(floats, ints, num_actions, switches, constants, work[SCRATCH])


@njit(cache=True, nogil=True)
def refresh_q_values(floats, ints, row, num_actions):
    """Bring a node's Q-values up to date with states that were visited by other ways."""
    for action in range(num_actions):
        if ints[row, EDGE_VISITS + action] > 0:
            child = ints[row, EDGE_VISITS + num_actions + action]
            mean = floats[ints[child, STATE], MEAN]
            floats[row, PRIOR + num_actions + action] = floats[child, REWARD] + floats[child, DISCOUNT] * mean


@njit(cache=True, nogil=True)
def descend(floats, ints, path, root, state, work, exploration, sequence, switches, constants):
    """Walk from the root to an edge without a row, or to a state that is not to be gone past.

    Returns:
        Depth and row of the state reached, NO_ROW if the model must be asked for it.
    """
    num_actions = work.shape[1]
    row, depth = 0, 0
    while True:
        if switches[MERGE]:
            refresh_q_values(floats, ints, row, num_actions)
        action = choose(
            floats[row], ints[row], depth == 0, root, state, work, exploration, sequence, switches, constants
        )
        path[depth, 0] = row
        path[depth, 1] = action
        depth += 1
        child = ints[row, EDGE_VISITS + num_actions + action]
        if child == NO_ROW:
            return depth, NO_ROW
        row = ints[child, STATE]
        if ints[row, KIND] == END or depth >= switches[MAX_DEPTH]:
            return depth, row


@njit(cache=True, nogil=True)
def back_up(floats, ints, path, depth, target, work, switches):
    """Carry a return from a path's end to its root; each state's mean takes it in."""
    num_actions = work.shape[1]
    for step in range(depth - 1, -1, -1):
        row, action = path[step, 0], path[step, 1]
        child = ints[row, EDGE_VISITS + num_actions + action]
        mean = floats[ints[child, STATE], MEAN]
        reward, discount = floats[child, REWARD], floats[child, DISCOUNT]
        target = reward + discount * target
        visits = ints[row, VISITS]
        floats[row, MEAN] = (floats[row, MEAN] * floats.dtype.type(visits) + target) / floats.dtype.type(
            visits + 1
        )
        ints[row, VISITS] = visits + 1
        ints[row, EDGE_VISITS + action] += 1
        floats[row, PRIOR + num_actions + action] = reward + discount * mean
        if ints[child, STATE] != child:
            floats[child, MEAN] = mean
            ints[child, VISITS] = ints[row, EDGE_VISITS + action]
    if switches[RULE] == UCB:
        for step in range(depth):
            row = path[step, 0]
            note_mean(floats[row, MEAN], work)
        row = path[depth - 1, 0]
        child = ints[row, EDGE_VISITS + num_actions + path[depth - 1, 1]]
        note_mean(floats[ints[child, STATE], MEAN], work)


@njit(cache=True, nogil=True)
def note_mean(mean, work):
    """Widen the extremes of the tree."""
    work[ROOT_SCORE, 0] = min(work[ROOT_SCORE, 0], mean)
    work[ROOT_SCORE, 1] = max(work[ROOT_SCORE, 1], mean)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def write_edges(floats, ints, row, prior_logits, legal_mask):
    """Fill a new row's priors and links.

    Returns:
        Number of legal actions, or -1 if their logits are no distribution.
    """
    num_actions = len(prior_logits)
    num_legal, highest = 0, prior_logits.dtype.type(-np.inf)
    for action in range(num_actions):
        if legal_mask[action]:
            num_legal += 1
            highest = max(highest, prior_logits[action])
    total = floats.dtype.type(0)
    for action in range(num_actions):
        prior = floats.dtype.type(0)
        if legal_mask[action]:
            prior = math.exp(prior_logits[action] - highest)
        total += prior
        floats[row, PRIOR + action] = prior
        floats[row, PRIOR + num_actions + action] = 0
        ints[row, EDGE_VISITS + action] = 0 if legal_mask[action] else BLOCKED
        ints[row, EDGE_VISITS + num_actions + action] = NO_ROW
    if num_legal == 0:
        return 0
    # A NaN or +inf anywhere, or -inf everywhere, makes the sum NaN.
    if not (total >= 1):
        return -1
    for action in range(num_actions):
        floats[row, PRIOR + action] /= total
    return num_legal


@njit(cache=True, nogil=True)
def expand(
    floats, ints, handles, states_by_hash, path, depth, row, switches,
    handle, reward, discount, value, prior_logits, legal_mask, is_chance,
):  # fmt: skip
    """Write the model's answer into a new row and link it to its parent.

    Returns:
        False if the answer cannot be used.
    """
    num_actions = len(prior_logits)
    if not (math.isfinite(reward) and math.isfinite(value) and -1 <= discount <= 1):
        return False
    parent, action = path[depth - 1, 0], path[depth - 1, 1]
    ints[row, PARENT], ints[row, ACTION], ints[row, DEPTH] = parent, action, depth
    ints[row, VISITS], ints[row, KIND] = 1, CHANCE if is_chance else DECISION
    floats[row, REWARD], floats[row, DISCOUNT] = reward, discount
    floats[row, RAW], floats[row, MEAN] = value, value
    handles[row] = handle
    ints[parent, EDGE_VISITS + num_actions + action] = row
    num_legal = write_edges(floats, ints, row, prior_logits, legal_mask)
    if num_legal == 0 or (discount == 0 and not switches[EXPAND_ENDS]):
        ints[row, KIND] = END
    # An end may come from any state, so its handle says nothing: it is never merged.
    if switches[MERGE] and ints[row, KIND] != END:
        ints[row, STATE] = find_state(ints, handles, states_by_hash, row, depth)
        floats[row, MEAN] = floats[ints[row, STATE], MEAN]
    else:
        ints[row, STATE] = row
    return num_legal >= 0


@njit(cache=True, nogil=True)
def clear_row(floats, ints, handles, row):
    """Mark a row that its simulation did not need."""
    ints[row, PARENT] = ints[row, ACTION] = ints[row, STATE] = NO_ROW
    ints[row, DEPTH] = ints[row, VISITS] = 0
    ints[row, KIND] = DECISION
    handles[row] = NO_ROW
    floats[row, :PRIOR] = 0
    num_actions = (ints.shape[1] - EDGE_VISITS) // 2
    floats[row, PRIOR:] = 0
    ints[row, EDGE_VISITS : EDGE_VISITS + num_actions] = 0
    ints[row, EDGE_VISITS + num_actions :] = NO_ROW


@njit(cache=True, nogil=True)
def is_decided(ints, root, state, num_actions, switches):
    """Whether the simulations still to come cannot change the choice of the root."""
    remaining = state[END_ROW, root] - state[NEXT_ROW, root]
    if state[NEXT_ROW, root] == state[FIRST_ROW, root]:
        return False  # at least one simulation, so that there are visits to weigh
    if switches[RULE] == GUMBEL:
        return state[NUM_CONSIDERED, root] == 1
    most, second = -1, -1
    for action in range(num_actions):
        visits = ints[0, EDGE_VISITS + action]
        if visits > most:
            most, second = visits, most
        elif visits > second:
            second = visits
    # A tie goes to the lower action, so a later action must pass the leader, not only reach it.
    return second < 0 or most > second + remaining


@njit(cache=True, nogil=True)
def simulate(floats, ints, handles, path, root, state, work, exploration, sequence, switches, constants):
    """Run simulations at one root until the model has to be asked or all are done."""
    num_actions = work.shape[1]
    while state[NEXT_ROW, root] < state[END_ROW, root]:
        if switches[EARLY_STOP] and is_decided(ints, root, state, num_actions, switches):
            state[END_ROW, root] = state[NEXT_ROW, root]
            break
        depth, row = descend(
            floats, ints, path, root, state, work, exploration, sequence, switches, constants
        )
        if row == NO_ROW:
            state[SLOT, root] = WAITING
            state[LEAF_DEPTH, root] = depth
            return
        # The model has already said what it has to say about this state.
        ints[row, VISITS] += 1
        back_up(floats, ints, path, depth, floats[row, RAW], work, switches)
        clear_row(floats, ints, handles, state[NEXT_ROW, root])
        state[NEXT_ROW, root] += 1
    state[SLOT, root] = IDLE


def _advance(
    floats, ints, handles, path, state, work, states_by_hash, exploration, sequence, switches, constants,
    node, reward, discount, value, prior_logits, legal_mask, is_chance,
):  # fmt: skip
    """Take in one answer a waiting root, and go on until each root has a question or is done.

    The first eleven arguments are the search's, the rest are an `Evaluation`'s arrays. On return
    the first entries of `state[ASKED_PARENT]` and `state[ASKED_ACTION]` are what to ask next.

    Returns:
        How many roots wait for an answer; -1 if an answer is unusable, marked in `state[PROBLEM]`.
    """
    for root in prange(state.shape[1]):
        slot = state[SLOT, root]
        if slot != IDLE:
            row, depth = state[NEXT_ROW, root], state[LEAF_DEPTH, root]
            usable = expand(
                floats[root], ints[root], handles[root], states_by_hash[root], path[root], depth, row,
                switches, node[slot], reward[slot], discount[slot], value[slot], prior_logits[slot],
                legal_mask[slot], is_chance[slot],
            )  # fmt: skip
            if not usable:
                state[PROBLEM, root] = 1
                continue
            back_up(
                floats[root], ints[root], path[root], depth, floats[root, row, MEAN], work[root], switches
            )
            state[NEXT_ROW, root] += 1
        simulate(
            floats[root], ints[root], handles[root], path[root], root, state, work[root],
            exploration, sequence, switches, constants,
        )  # fmt: skip
    waiting = 0
    for root in range(state.shape[1]):
        if state[PROBLEM, root]:
            return -1
        if state[SLOT, root] != IDLE:
            step = state[LEAF_DEPTH, root] - 1
            state[ASKED_PARENT, waiting] = handles[root, path[root, step, 0]]
            state[ASKED_ACTION, waiting] = path[root, step, 1]
            state[SLOT, root] = waiting
            waiting += 1
    return waiting


@njit(cache=True, nogil=True)
def best_rows(ints, action, out):
    """Follow the most visited edges from each root's chosen action on; `out` [B] gets the last row."""
    num_actions = (ints.shape[2] - EDGE_VISITS) // 2
    for root in range(len(action)):
        edge, row = action[root], 0
        while True:
            child = ints[root, row, EDGE_VISITS + num_actions + edge]
            if child == NO_ROW:
                break
            out[root] = child
            row = ints[root, child, STATE]
            most, edge = 0, 0
            for candidate in range(num_actions):
                visits = ints[root, row, EDGE_VISITS + candidate]
                if visits > most:
                    most, edge = visits, candidate
            if most == 0:
                break


@njit(cache=True, nogil=True)
def improved_policy(floats, ints, work, switches, constants, weights, actions):
    """What the Gumbel search concludes at each root: its policy, and the action it takes.

    `weights` [B, A] gets the softmax of logits plus completed Q-values, `actions` [B] the best of the
    most visited actions by noise, logits and completed Q-values.
    """
    num_actions = work.shape[2]
    for root in range(len(actions)):
        row, links, scratch = floats[root, 0], ints[root, 0], work[root, SCRATCH]
        completed_q_values(row, links, num_actions, switches, constants, scratch)
        most, highest = 0, floats.dtype.type(-np.inf)
        for action in range(num_actions):
            if links[EDGE_VISITS + action] >= 0:
                most = max(most, links[EDGE_VISITS + action] - int(work[root, OLD_VISITS, action]))
                highest = max(highest, scratch[action])
        total = 0.0
        for action in range(num_actions):
            legal = links[EDGE_VISITS + action] >= 0
            weights[root, action] = (
                row[PRIOR + action] * math.exp(scratch[action] - highest) if legal else 0.0
            )
            total += weights[root, action]
        for action in range(num_actions):
            weights[root, action] /= total
        actions[root] = gumbel_root_action(row, links, num_actions, most, switches, constants, work[root])


advance = njit(cache=True, nogil=True)(_advance)
advance_in_threads = njit(cache=True, nogil=True, parallel=True)(_advance)
