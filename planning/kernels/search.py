"""The compiled tree search: one call takes in the model's answers and names the next questions."""

from __future__ import annotations

import math

import numpy as np

from planning.compiled import kernel, parallel_kernel, part, prange, prefetch
from planning.kernels.choose import completed_q_values, gumbel_root_slot, larger
from planning.kernels.tree import back_up, clear_row, descend, expand
from planning.layout import (
    ANSWER,
    ASKED_ACTION,
    ASKED_PARENT,
    DEPTH,
    EARLY_STOP,
    END_ROW,
    FIRST_ROW,
    GUMBEL,
    IDLE,
    LEAF_ACTION,
    LEAF_DEPTH,
    LINE_WORDS,
    MEAN,
    NEXT_ACTION,
    NEXT_ROW,
    NO_ROW,
    NUM_CONSIDERED,
    NUM_LEGAL,
    NUM_TRIED,
    OLD_VISITS,
    PROBLEM,
    RAW,
    ROOT_PRIOR,
    RULE,
    SCRATCH,
    SLOT_ACTION,
    SLOT_CHILD,
    SLOT_PRIOR,
    SLOT_Q_VALUE,
    SLOT_VISITS,
    SLOT_WORDS,
    SLOTS,
    STATE,
    VISITS,
)


@part
def is_decided(ints, first, root, state, switches):
    """Whether the simulations still to come cannot change the choice of the root at row `first`."""
    if state[NEXT_ROW, root] == state[FIRST_ROW, root]:
        return False  # at least one simulation, so that there are visits to weigh
    if ints[first, NUM_LEGAL] == 1:
        return True
    if switches[RULE] == GUMBEL:
        return state[NUM_CONSIDERED, root] == 1
    most, second = 0, 0
    for slot in range(ints[first, NUM_TRIED]):
        visits = ints[first, SLOTS + slot * SLOT_WORDS + SLOT_VISITS]
        if visits > most:
            most, second = visits, most
        elif visits > second:
            second = visits
    return most > second + state[END_ROW, root] - state[NEXT_ROW, root]


@part
def simulate(floats, ints, handles, path, root, state, work, exploration, sequence, switches, constants):
    """Run simulations at one root until the model has to be asked or all are done."""
    first = root * (len(handles) // state.shape[1])
    while state[NEXT_ROW, root] < state[END_ROW, root]:
        if switches[EARLY_STOP] and is_decided(ints, first, root, state, switches):
            state[END_ROW, root] = state[NEXT_ROW, root]
            break
        depth, row = descend(
            floats, ints, path, first, root, state, work, exploration, sequence, switches, constants
        )
        if row == NO_ROW:
            state[ANSWER, root] = 0  # numbered by `advance` when all roots have come this far
            state[LEAF_DEPTH, root] = depth
            state[LEAF_ACTION, root] = ints[path[depth - 1, 0], NEXT_ACTION]
            return
        # The model has already said what it has to say about this state.
        ints[row, VISITS] += 1
        back_up(floats, ints, path, depth, floats[row, RAW], root, work, switches)
        clear_row(floats, ints, handles, state[NEXT_ROW, root])
        state[NEXT_ROW, root] += 1
    state[ANSWER, root] = IDLE


@part
def fetch_path(floats, path, state, root):
    """Ask for the records that the next root's answer will be backed up through."""
    if state[ANSWER, root] != IDLE:
        for step in range(state[LEAF_DEPTH, root]):
            prefetch(floats, path[root, step, 0], 0)
            prefetch(floats, path[root, step, 0], LINE_WORDS)


@part
def take_in(
    floats, ints, handles, path, state, work, states_by_hash, exploration, sequence, switches, constants,
    node, reward, discount, value, prior_logits, legal_mask, is_chance, root,
):  # fmt: skip
    """Take in one root's answer, if it waits for one, and go on until it has a question or is done."""
    answer, root_path = state[ANSWER, root], path[root]
    if answer != IDLE:
        row, depth = state[NEXT_ROW, root], state[LEAF_DEPTH, root]
        usable = expand(
            floats, ints, handles, states_by_hash, root_path, depth, row, root,
            state[LEAF_ACTION, root], work, switches, node[answer], reward[answer], discount[answer],
            value[answer], prior_logits[answer], legal_mask[answer], is_chance[answer],
        )  # fmt: skip
        if not usable:
            state[PROBLEM, root] = 1
            return
        back_up(floats, ints, root_path, depth, floats[row, MEAN], root, work, switches)
        state[NEXT_ROW, root] += 1
    simulate(floats, ints, handles, root_path, root, state, work, exploration, sequence, switches, constants)


@part
def collect_questions(handles, path, state, first_root, end_root):
    """Number the waiting roots and write down what to ask for them."""
    waiting = 0
    for root in range(first_root, end_root):
        if state[PROBLEM, root]:
            return -1
        if state[ANSWER, root] != IDLE:
            state[ASKED_PARENT, waiting] = handles[path[root, state[LEAF_DEPTH, root] - 1, 0]]
            state[ASKED_ACTION, waiting] = state[LEAF_ACTION, root]
            state[ANSWER, root] = waiting
            waiting += 1
    return waiting


@kernel
def advance(
    floats, ints, handles, path, state, work, states_by_hash, exploration, sequence, switches, constants,
    node, reward, discount, value, prior_logits, legal_mask, is_chance, first_root, end_root,
):  # fmt: skip
    """Take in one answer a waiting root, and go on until each root has a question or is done.

    The first eleven arguments are the search's, the next seven an `Evaluation`'s arrays; only the
    roots from `first_root` up to `end_root` take part. On return the first entries of
    `state[ASKED_PARENT]` and `state[ASKED_ACTION]` are what to ask next.

    Returns:
        How many roots wait for an answer; -1 if an answer is unusable, marked in `state[PROBLEM]`.
    """
    for root in range(first_root, end_root):
        if root + 1 < end_root:
            fetch_path(floats, path, state, root + 1)
        take_in(
            floats, ints, handles, path, state, work, states_by_hash, exploration, sequence, switches,
            constants, node, reward, discount, value, prior_logits, legal_mask, is_chance, root,
        )  # fmt: skip
    return collect_questions(handles, path, state, first_root, end_root)


@parallel_kernel
def advance_in_threads(
    floats, ints, handles, path, state, work, states_by_hash, exploration, sequence, switches, constants,
    node, reward, discount, value, prior_logits, legal_mask, is_chance, first_root, end_root,
):  # fmt: skip
    """`advance` with the roots shared out to threads."""
    for root in prange(first_root, end_root):
        if root + 1 < end_root:
            fetch_path(floats, path, state, root + 1)
        take_in(
            floats, ints, handles, path, state, work, states_by_hash, exploration, sequence, switches,
            constants, node, reward, discount, value, prior_logits, legal_mask, is_chance, root,
        )  # fmt: skip
    return collect_questions(handles, path, state, first_root, end_root)


@kernel
def unpack_into(floats, ints, rows, roots, work, prior, q_value, visits, child, slot):
    """Spread the records of R states, one in each of the trees `roots`, over their actions [R, A]."""
    num_actions = work.shape[2]
    for place in range(len(rows)):
        row, root, tried = rows[place], roots[place], ints[rows[place], NUM_TRIED]
        is_root = ints[row, DEPTH] == 0
        for action in range(num_actions):
            key = floats[row, SLOTS + num_actions * SLOT_WORDS + action]
            is_open = key > -np.inf
            prior[place, action] = work[root, ROOT_PRIOR, action] if is_root else key if is_open else 0.0
            q_value[place, action] = 0
            visits[place, action] = 0 if is_open else -1
            child[place, action] = NO_ROW
            slot[place, action] = tried
        for used in range(tried):
            at = SLOTS + used * SLOT_WORDS
            action = ints[row, at + SLOT_ACTION]
            if not is_root:
                prior[place, action] = floats[row, at + SLOT_PRIOR]
            q_value[place, action] = floats[row, at + SLOT_Q_VALUE]
            visits[place, action] = ints[row, at + SLOT_VISITS]
            child[place, action] = ints[row, at + SLOT_CHILD]
            slot[place, action] = used


@kernel
def best_rows(floats, ints, root_rows, work, action, out):
    """Follow the most visited actions from each root's chosen one on; `out` [B] gets the last rows.

    Of equally often visited actions the lowest is followed.
    """
    for root in range(len(action)):
        row, wanted, out[root] = root_rows[root], action[root], root_rows[root]
        while wanted != NO_ROW:
            found = NO_ROW
            for slot in range(ints[row, NUM_TRIED]):
                at = SLOTS + slot * SLOT_WORDS
                if ints[row, at + SLOT_ACTION] == wanted:
                    found = ints[row, at + SLOT_CHILD]
            if found == NO_ROW:
                break
            out[root] = found
            row = ints[found, STATE]
            most, wanted = 0, NO_ROW
            for slot in range(ints[row, NUM_TRIED]):
                at = SLOTS + slot * SLOT_WORDS
                visits, tried_action = ints[row, at + SLOT_VISITS], ints[row, at + SLOT_ACTION]
                if visits > most or (visits == most and visits > 0 and tried_action < wanted):
                    most, wanted = visits, tried_action


@kernel
def improved_policy(floats, ints, root_rows, work, switches, constants, weights, actions):
    """What the Gumbel search concludes at each root: its policy, and the action it takes.

    `weights` [B, A] gets the softmax of logits plus completed Q-values, `actions` [B] the best of the
    most visited actions by noise, logits and completed Q-values.
    """
    num_actions = work.shape[2]
    for root in range(len(actions)):
        row, scratch = root_rows[root], work[root, SCRATCH]
        _, untried = completed_q_values(floats, ints, row, num_actions, switches, constants, scratch)
        has_untried = ints[row, NEXT_ACTION] != NO_ROW
        most, highest = 0, untried if has_untried else scratch[0]
        for slot in range(ints[row, NUM_TRIED]):
            visits = ints[row, SLOTS + slot * SLOT_WORDS + SLOT_VISITS]
            most = larger(most, visits - int(work[root, OLD_VISITS, slot]))
            if scratch[slot] > highest:
                highest = scratch[slot]
        untried = math.exp(untried - highest) if has_untried else 0.0
        for action in range(num_actions):
            weights[root, action] = work[root, ROOT_PRIOR, action] * untried
        for slot in range(ints[row, NUM_TRIED]):
            action = ints[row, SLOTS + slot * SLOT_WORDS + SLOT_ACTION]
            weights[root, action] = work[root, ROOT_PRIOR, action] * math.exp(scratch[slot] - highest)
        total = 0.0
        for action in range(num_actions):
            total += weights[root, action]
        for action in range(num_actions):
            weights[root, action] /= total
        best = gumbel_root_slot(floats, ints, row, most, root, work, switches, constants)
        actions[root] = ints[row, SLOTS + best * SLOT_WORDS + SLOT_ACTION]
