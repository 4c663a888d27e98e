"""Plain twins of `choice_kernels`: the same rules for R nodes at once, without loops over actions.

`floats` [R, 4 + 2 A] and `ints` [R, 6 + 2 A] are rows of the tree (see `layout`).
"""

from __future__ import annotations

import numpy as np

from planning.choice_kernels import LOWEST_SCORE, UCB_LOWEST_PRIOR
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
    TINY,
    VALUE_SCALE,
    VISIT_OFFSET,
    VISITS,
)


def edges(
    floats: np.ndarray, ints: np.ndarray, num_actions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Priors, Q-values and visits [R, A] of the nodes' actions."""
    return (
        floats[:, PRIOR : PRIOR + num_actions],
        floats[:, PRIOR + num_actions :],
        ints[:, EDGE_VISITS : EDGE_VISITS + num_actions],
    )


def best_action(score: np.ndarray, visits: np.ndarray) -> np.ndarray:
    """The first action of the highest score among the legal ones."""
    return np.where(visits < 0, -np.inf, score).argmax(axis=1)


def puct_action(floats, ints, num_actions, exploration, epsilon) -> np.ndarray:
    """Twin of `choice_kernels.puct_action`."""
    prior, q_value, visits = edges(floats, ints, num_actions)
    visited, mean = visits > 0, floats[:, MEAN, None]
    lowest = np.where(visited, q_value, mean).min(axis=1, keepdims=True)
    highest = np.where(visited, q_value, mean).max(axis=1, keepdims=True)
    lowest, highest = np.minimum(lowest, mean), np.maximum(highest, mean)
    scaled = (q_value - lowest) / np.maximum(highest - lowest, epsilon)
    bonus = exploration[ints[:, VISITS]][:, None] * prior
    bonus = bonus / np.maximum(visits + 1, 1).astype(floats.dtype)
    return best_action(np.where(visited, scaled, 0) + bonus, visits)


def chance_action(floats, ints, num_actions) -> np.ndarray:
    """Twin of `choice_kernels.chance_action`."""
    prior, _, visits = edges(floats, ints, num_actions)
    return best_action(prior / np.maximum(visits + 1, 1).astype(floats.dtype), visits)


def ucb_action(floats, ints, num_actions, exploration, work) -> np.ndarray:
    """Twin of `choice_kernels.ucb_action`."""
    prior, q_value, visits = edges(floats, ints, num_actions)
    lowest, highest = work[:, ROOT_SCORE, 0, None], work[:, ROOT_SCORE, 1, None]
    is_wide = highest > lowest
    scaled = np.where(is_wide, q_value - np.where(is_wide, lowest, 0), q_value)
    scaled = scaled / np.where(is_wide, np.where(is_wide, highest, 1) - np.where(is_wide, lowest, 0), 1)
    weight = exploration[ints[:, VISITS]][:, None] / np.maximum(visits + 1, 1).astype(floats.dtype)
    score = np.where(visits > 0, scaled, 0) + weight * prior
    score = np.where((visits < 0) | (prior < UCB_LOWEST_PRIOR), -np.inf, score)
    return num_actions - 1 - score[:, ::-1].argmax(axis=1)


def completed_q_values(floats, ints, num_actions, switches, constants) -> np.ndarray:
    """Twin of `choice_kernels.completed_q_values`, [R, A]."""
    prior, q_value, visits = edges(floats, ints, num_actions)
    visited, raw = visits > 0, floats[:, RAW, None]
    total = np.where(visited, visits, 0).sum(axis=1, keepdims=True).astype(floats.dtype)
    completion = raw
    if switches[MIXED]:
        prior = np.where(visited, np.maximum(prior, constants[TINY]), 0)
        weight = np.where(total > 0, prior.sum(axis=1, keepdims=True), 1)
        mean = (prior * np.where(visited, q_value, 0)).sum(axis=1, keepdims=True) / weight
        completion = np.where(total > 0, (raw + total * mean) / (total + 1), raw)
    completed = np.where(visited, q_value, completion)
    most = np.maximum(visits, 0).max(axis=1, keepdims=True).astype(floats.dtype)
    if switches[RESCALE]:
        lowest, highest = completed.min(axis=1, keepdims=True), completed.max(axis=1, keepdims=True)
        completed = (completed - lowest) / np.maximum(highest - lowest, constants[EPSILON])
    return (constants[VISIT_OFFSET] + most) * constants[VALUE_SCALE] * completed


def improved_policy(floats, ints, num_actions, switches, constants) -> np.ndarray:
    """Softmax of the logits plus completed Q-values over the legal actions, [R, A]."""
    prior, _, visits = edges(floats, ints, num_actions)
    completed = completed_q_values(floats, ints, num_actions, switches, constants)
    shifted = np.where(visits < 0, -np.inf, completed)
    weight = prior * np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def gumbel_action(floats, ints, num_actions, switches, constants) -> np.ndarray:
    """Twin of `choice_kernels.gumbel_action`."""
    _, _, visits = edges(floats, ints, num_actions)
    policy = improved_policy(floats, ints, num_actions, switches, constants)
    counts = np.maximum(visits, 0).astype(floats.dtype)
    return best_action(policy - counts / (counts.sum(axis=1, keepdims=True) + 1), visits)


def gumbel_root_action(floats, ints, num_actions, considered, switches, constants, work) -> np.ndarray:
    """Twin of `choice_kernels.gumbel_root_action`; `considered` [R] visits."""
    _, _, visits = edges(floats, ints, num_actions)
    completed = completed_q_values(floats, ints, num_actions, switches, constants)
    score = np.maximum(LOWEST_SCORE, work[:, ROOT_SCORE] + completed)
    is_considered = visits - work[:, OLD_VISITS].astype(np.int64) == considered[:, None]
    return best_action(np.where(is_considered, score, -np.inf), visits)
