"""Compiled rules for choosing an action at one node. `kernels_numpy` holds their plain twins.

`floats` and `ints` are one row of the tree (see `layout`), A is the number of actions. Ties go to
the lowest action, except in `ucb_action`.
"""

from __future__ import annotations

import math

import numpy as np

from planning.compiled import njit
from planning.layout import (
    EDGE_VISITS,
    EPSILON,
    MEAN,
    MIXED,
    OLD_VISITS,
    PRIOR,
    RAW,
    RESCALE,
    ROOT_SCORE,
    SCRATCH,
    TINY,
    VALUE_SCALE,
    VISIT_OFFSET,
    VISITS,
)

UCB_LOWEST_PRIOR = 1e-12
"""Actions of a lower prior are never tried by the UCB rule."""

LOWEST_SCORE = -1e9
"""Floor under the scores of legal root actions in the Gumbel rule."""


@njit(cache=True, nogil=True)
def puct_action(floats, ints, num_actions, exploration, epsilon):
    """Highest normalised Q plus exploration bonus; Schrittwieser et al. 2020 (arXiv 1911.08265).

    Q is scaled to [0, 1] over the node's mean and its visited actions, and is 0 for the others.
    """
    lowest = highest = floats[MEAN]
    for action in range(num_actions):
        if ints[EDGE_VISITS + action] > 0:
            q_value = floats[PRIOR + num_actions + action]
            lowest = min(lowest, q_value)
            highest = max(highest, q_value)
    span = max(highest - lowest, epsilon)
    bonus = exploration[ints[VISITS]]
    best_score, best_action = floats.dtype.type(-np.inf), -1
    for action in range(num_actions):
        visits = ints[EDGE_VISITS + action]
        if visits < 0:
            continue
        score = bonus * floats[PRIOR + action]
        if visits > 0:
            q_value = (floats[PRIOR + num_actions + action] - lowest) / span
            score = q_value + score / floats.dtype.type(visits + 1)
        if score > best_score:
            best_score, best_action = score, action
    return best_action


@njit(cache=True, nogil=True)
def chance_action(floats, ints, num_actions):
    """The outcome whose share of visits lags its probability most; Antonoglou et al. 2022."""
    best_score, best_action = floats.dtype.type(-np.inf), -1
    for action in range(num_actions):
        visits = ints[EDGE_VISITS + action]
        if visits < 0:
            continue
        score = floats[PRIOR + action] / floats.dtype.type(visits + 1)
        if score > best_score:
            best_score, best_action = score, action
    return best_action


@njit(cache=True, nogil=True)
def ucb_action(floats, ints, num_actions, exploration, lowest, highest):
    """Prior-weighted UCB over Q-values scaled by the extremes of the whole tree; ties go to the highest."""
    scale = highest - lowest
    bonus = exploration[ints[VISITS]]
    best_score, best_action = floats.dtype.type(-np.inf), -1
    for action in range(num_actions):
        visits = ints[EDGE_VISITS + action]
        if visits < 0 or floats[PRIOR + action] < UCB_LOWEST_PRIOR:
            continue
        score = bonus / floats.dtype.type(visits + 1) * floats[PRIOR + action]
        if visits > 0:
            q_value = floats[PRIOR + num_actions + action]
            score += (q_value - lowest) / scale if scale > 0 else q_value
        if score >= best_score:
            best_score, best_action = score, action
    return best_action


@njit(cache=True, nogil=True)
def completed_q_values(floats, ints, num_actions, switches, constants, out):
    """Scaled Q-values in which unvisited actions stand at a mixed value; Danihelka et al. 2022.

    Returns:
        The number of visits of the node's actions; `out` [A] is filled.
    """
    total, most, weight, weighted = 0, 0, floats.dtype.type(0), floats.dtype.type(0)
    for action in range(num_actions):
        visits = ints[EDGE_VISITS + action]
        if visits > 0:
            total += visits
            most = max(most, visits)
            prior = max(floats[PRIOR + action], constants[TINY])
            weight += prior
            weighted += prior * floats[PRIOR + num_actions + action]
    completion = floats[RAW]
    if switches[MIXED] and total > 0:
        mean = weighted / weight
        completion = (completion + floats.dtype.type(total) * mean) / floats.dtype.type(total + 1)
    lowest, highest = floats.dtype.type(np.inf), floats.dtype.type(-np.inf)
    for action in range(num_actions):
        visited = ints[EDGE_VISITS + action] > 0
        q_value = floats[PRIOR + num_actions + action] if visited else completion
        out[action] = q_value
        lowest = min(lowest, q_value)
        highest = max(highest, q_value)
    scale = (constants[VISIT_OFFSET] + floats.dtype.type(most)) * constants[VALUE_SCALE]
    span = max(highest - lowest, constants[EPSILON])
    for action in range(num_actions):
        q_value = (out[action] - lowest) / span if switches[RESCALE] else out[action]
        out[action] = scale * q_value
    return total


@njit(cache=True, nogil=True)
def gumbel_action(floats, ints, num_actions, switches, constants, scratch):
    """The action whose share of visits lags the improved policy most; Danihelka et al. 2022."""
    total = completed_q_values(floats, ints, num_actions, switches, constants, scratch)
    highest = floats.dtype.type(-np.inf)
    for action in range(num_actions):
        if ints[EDGE_VISITS + action] >= 0:
            highest = max(highest, scratch[action])
    normaliser = floats.dtype.type(0)
    for action in range(num_actions):
        if ints[EDGE_VISITS + action] >= 0:
            scratch[action] = floats[PRIOR + action] * math.exp(scratch[action] - highest)
            normaliser += scratch[action]
    best_score, best_action = floats.dtype.type(-np.inf), -1
    for action in range(num_actions):
        visits = ints[EDGE_VISITS + action]
        if visits < 0:
            continue
        score = scratch[action] / normaliser - floats.dtype.type(visits) / floats.dtype.type(total + 1)
        if score > best_score:
            best_score, best_action = score, action
    return best_action


@njit(cache=True, nogil=True)
def gumbel_root_action(floats, ints, num_actions, considered_visits, switches, constants, work):
    """Among the root actions visited `considered_visits` times in this search, the best so far."""
    scratch = work[SCRATCH]
    completed_q_values(floats, ints, num_actions, switches, constants, scratch)
    best_score, best_action = floats.dtype.type(-np.inf), -1
    for action in range(num_actions):
        visits = ints[EDGE_VISITS + action]
        if visits < 0 or visits - int(work[OLD_VISITS, action]) != considered_visits:
            continue
        score = max(LOWEST_SCORE, work[ROOT_SCORE, action] + scratch[action])
        if score > best_score:
            best_score, best_action = score, action
    return best_action
