"""Compiled rules for choosing an action at one state.

Every rule returns a slot of the state's record; a slot not yet in use stands for the best untried
action. Ties go to the lowest action, except in `ucb_slot`.
"""

from __future__ import annotations

import math

import numpy as np

from planning.compiled import part
from planning.layout import (
    CHANCE,
    EPSILON,
    FIRST_ROW,
    GUMBEL,
    KIND,
    LOWEST_SCORE,
    MEAN,
    MIXED,
    NEXT_ACTION,
    NEXT_PRIOR,
    NEXT_ROW,
    NO_ROW,
    NUM_CONSIDERED,
    NUM_TRIED,
    OLD_VISITS,
    RAW,
    RESCALE,
    ROOT_SCORE,
    RULE,
    SCRATCH,
    SLOT_ACTION,
    SLOT_PRIOR,
    SLOT_Q_VALUE,
    SLOT_VISITS,
    SLOT_WORDS,
    SLOTS,
    TINY,
    UCB,
    UNTRIED_PRIOR,
    VALUE_SCALE,
    VISIT_OFFSET,
    VISITS,
)


@part
def larger(one, other):
    """The larger of two numbers; the builtin compiles to a call of its own."""
    return one if one > other else other


@part
def choose_slot(floats, ints, row, is_root, root, state, work, exploration, sequence, switches, constants):
    """The slot that the search follows next from one state."""
    if ints[row, KIND] == CHANCE:
        return chance_slot(floats, ints, row)
    if switches[RULE] == GUMBEL:
        if is_root:
            simulation = state[NEXT_ROW, root] - state[FIRST_ROW, root]
            visits = sequence[state[NUM_CONSIDERED, root], simulation]
            return gumbel_root_slot(floats, ints, row, visits, root, work, switches, constants)
        return gumbel_slot(floats, ints, row, root, work, switches, constants)
    if switches[RULE] == UCB:
        return ucb_slot(floats, ints, row, exploration, work[root, ROOT_SCORE, 0], work[root, ROOT_SCORE, 1])
    return puct_slot(floats, ints, row, exploration, constants[EPSILON])


@part
def puct_slot(floats, ints, row, exploration, epsilon):
    """Highest normalised Q plus exploration bonus; Schrittwieser et al. 2020 (arXiv 1911.08265).

    Q is scaled to [0, 1] over the node's mean and its visited actions, and is 0 for the others.
    """
    tried = ints[row, NUM_TRIED]
    lowest = highest = floats[row, MEAN]
    for slot in range(tried):
        q_value = floats[row, SLOTS + slot * SLOT_WORDS + SLOT_Q_VALUE]
        if q_value < lowest:
            lowest = q_value
        if q_value > highest:
            highest = q_value
    span = larger(highest - lowest, epsilon)
    bonus = exploration[ints[row, VISITS]]
    best_score, best_slot, best_action = floats.dtype.type(-np.inf), tried, ints[row, NEXT_ACTION]
    if best_action != NO_ROW:
        best_score = bonus * floats[row, NEXT_PRIOR]
    for slot in range(tried):
        at = SLOTS + slot * SLOT_WORDS
        visits, action = ints[row, at + SLOT_VISITS], ints[row, at + SLOT_ACTION]
        score = bonus * floats[row, at + SLOT_PRIOR] / floats.dtype.type(visits + 1)
        score = (floats[row, at + SLOT_Q_VALUE] - lowest) / span + score
        if score > best_score or (score == best_score and action < best_action):
            best_score, best_slot, best_action = score, slot, action
    return best_slot


@part
def chance_slot(floats, ints, row):
    """The outcome whose share of visits lags its probability most; Antonoglou et al. 2022."""
    tried = ints[row, NUM_TRIED]
    best_score, best_slot, best_action = floats.dtype.type(-np.inf), tried, ints[row, NEXT_ACTION]
    if best_action != NO_ROW:
        best_score = floats[row, NEXT_PRIOR]
    for slot in range(tried):
        at = SLOTS + slot * SLOT_WORDS
        visits, action = ints[row, at + SLOT_VISITS], ints[row, at + SLOT_ACTION]
        score = floats[row, at + SLOT_PRIOR] / floats.dtype.type(visits + 1)
        if score > best_score or (score == best_score and action < best_action):
            best_score, best_slot, best_action = score, slot, action
    return best_slot


@part
def ucb_slot(floats, ints, row, exploration, lowest, highest):
    """Prior-weighted UCB over Q-values scaled by the extremes of the whole tree; ties to the highest."""
    tried, scale = ints[row, NUM_TRIED], highest - lowest
    bonus = exploration[ints[row, VISITS]]
    best_score, best_slot, best_action = floats.dtype.type(-np.inf), tried, ints[row, NEXT_ACTION]
    if best_action != NO_ROW:
        best_score = bonus * floats[row, NEXT_PRIOR]
    for slot in range(tried):
        at = SLOTS + slot * SLOT_WORDS
        visits, action = ints[row, at + SLOT_VISITS], ints[row, at + SLOT_ACTION]
        q_value = floats[row, at + SLOT_Q_VALUE]
        score = bonus / floats.dtype.type(visits + 1) * floats[row, at + SLOT_PRIOR]
        score += (q_value - lowest) / scale if scale > 0 else q_value
        if score > best_score or (score == best_score and action > best_action):
            best_score, best_slot, best_action = score, slot, action
    return best_slot


@part
def completed_q_values(floats, ints, row, num_actions, switches, constants, out):
    """Scaled Q-values in which untried actions stand at a mixed value; Danihelka et al. 2022.

    Returns:
        Visits of all actions together, and the scaled value of the untried ones; `out` gets one
        value for each slot in use.
    """
    tried, total, most = ints[row, NUM_TRIED], 0, 0
    weight = weighted = floats.dtype.type(0)
    lowest, highest = floats.dtype.type(np.inf), floats.dtype.type(-np.inf)
    for slot in range(tried):
        at = SLOTS + slot * SLOT_WORDS
        visits, q_value = ints[row, at + SLOT_VISITS], floats[row, at + SLOT_Q_VALUE]
        total += visits
        if visits > most:
            most = visits
        prior = larger(floats[row, at + SLOT_PRIOR], constants[TINY])
        weight += prior
        weighted += prior * q_value
        out[slot] = q_value
        if q_value < lowest:
            lowest = q_value
        if q_value > highest:
            highest = q_value
    completion = floats[row, RAW]
    if switches[MIXED] and tried > 0:
        mean = weighted / weight
        completion = (completion + floats.dtype.type(total) * mean) / floats.dtype.type(total + 1)
    if tried < num_actions:  # illegal actions, too, stand at the mixed value
        if completion < lowest:
            lowest = completion
        if completion > highest:
            highest = completion
    scale = (constants[VISIT_OFFSET] + floats.dtype.type(most)) * constants[VALUE_SCALE]
    if not switches[RESCALE]:
        for slot in range(tried):
            out[slot] *= scale
        return total, scale * completion
    span = larger(highest - lowest, constants[EPSILON])
    for slot in range(tried):
        out[slot] = scale * ((out[slot] - lowest) / span)
    return total, scale * ((completion - lowest) / span)


@part
def gumbel_slot(floats, ints, row, root, work, switches, constants):
    """The action whose share of visits lags the improved policy most; Danihelka et al. 2022."""
    tried, best_action = ints[row, NUM_TRIED], ints[row, NEXT_ACTION]
    if tried == 0:
        return 0
    scratch = work[root, SCRATCH]
    total, untried = completed_q_values(floats, ints, row, len(scratch), switches, constants, scratch)
    highest = untried if best_action != NO_ROW else scratch[0]
    for slot in range(tried):
        if scratch[slot] > highest:
            highest = scratch[slot]
    untried = math.exp(untried - highest) if best_action != NO_ROW else floats.dtype.type(0)
    normaliser = floats[row, UNTRIED_PRIOR] * untried
    for slot in range(tried):
        prior = floats[row, SLOTS + slot * SLOT_WORDS + SLOT_PRIOR]
        scratch[slot] = prior * math.exp(scratch[slot] - highest)
        normaliser += scratch[slot]
    best_score, best_slot = floats.dtype.type(-np.inf), tried
    if best_action != NO_ROW:
        best_score = floats[row, NEXT_PRIOR] * untried / normaliser
    visits_in_all = floats.dtype.type(total + 1)
    for slot in range(tried):
        at = SLOTS + slot * SLOT_WORDS
        visits, action = ints[row, at + SLOT_VISITS], ints[row, at + SLOT_ACTION]
        score = scratch[slot] / normaliser - floats.dtype.type(visits) / visits_in_all
        if score > best_score or (score == best_score and action < best_action):
            best_score, best_slot, best_action = score, slot, action
    return best_slot


@part
def gumbel_root_slot(floats, ints, row, considered_visits, root, work, switches, constants):
    """Among the root actions visited `considered_visits` times in this search, the best so far."""
    scratch, tried, best_action = work[root, SCRATCH], ints[row, NUM_TRIED], ints[row, NEXT_ACTION]
    _, untried = completed_q_values(floats, ints, row, len(scratch), switches, constants, scratch)
    best_score, best_slot = floats.dtype.type(-np.inf), tried
    if best_action != NO_ROW and considered_visits == 0:
        best_score = larger(floats.dtype.type(LOWEST_SCORE), work[root, ROOT_SCORE, best_action] + untried)
    for slot in range(tried):
        at = SLOTS + slot * SLOT_WORDS
        visits, action = ints[row, at + SLOT_VISITS], ints[row, at + SLOT_ACTION]
        if visits - int(work[root, OLD_VISITS, slot]) != considered_visits:
            continue
        score = larger(floats.dtype.type(LOWEST_SCORE), work[root, ROOT_SCORE, action] + scratch[slot])
        if score > best_score or (score == best_score and action < best_action):
            best_score, best_slot, best_action = score, slot, action
    return best_slot
