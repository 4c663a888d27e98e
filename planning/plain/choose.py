"""Plain twins of the rules in `kernels.choose`: textbook formulas over all actions of R states.

Where the compiled rules go through the slots of a record and weigh the untried actions together,
these unpack the record into arrays over actions and take the first maximum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planning.layout import (
    CHANCE,
    DEPTH,
    EPSILON,
    FIRST_ROW,
    GUMBEL,
    KIND,
    LOWEST_SCORE,
    MEAN,
    MIXED,
    NEXT_ROW,
    NO_ROW,
    NUM_CONSIDERED,
    NUM_TRIED,
    OLD_VISITS,
    RAW,
    RESCALE,
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
    TINY,
    UCB,
    VALUE_SCALE,
    VISIT_OFFSET,
    VISITS,
)


class Edges(NamedTuple):
    """The actions of R states, each field [R, A]."""

    prior: np.ndarray
    """0 where illegal."""
    q_value: np.ndarray
    """0 where never visited."""
    visits: np.ndarray
    """-1 where the action is not to be tried."""
    child: np.ndarray
    """NO_ROW where never visited."""
    slot: np.ndarray
    """Slots in use, or the next free one."""


def unpack(floats, ints, rows, roots, work) -> Edges:
    """Spread the records of R states, one in each of the trees `roots`, over their actions."""
    count, num_actions = len(rows), work.shape[2]
    numbers, links, every = floats[rows], ints[rows], np.arange(count)[:, None]
    keys = numbers[:, SLOTS + SLOT_WORDS * num_actions :][:, :num_actions]
    tried = np.arange(num_actions) < links[:, NUM_TRIED, None]
    # Unused slots go to a column of their own, which is then dropped.
    action = np.where(tried, _slot_words(links, SLOT_ACTION, num_actions), num_actions)

    def spread(values: np.ndarray, rest: np.ndarray) -> np.ndarray:
        out = np.concatenate([rest, rest[:, :1]], axis=1)
        out[every, action] = values
        return out[:, :num_actions]

    open_key = keys > -np.inf
    prior = spread(_slot_words(numbers, SLOT_PRIOR, num_actions), np.where(open_key, keys, 0))
    is_root = links[:, DEPTH, None] == 0
    nothing = np.full((count, num_actions), NO_ROW)
    return Edges(
        prior=np.where(is_root, work[roots, ROOT_PRIOR], prior),
        q_value=spread(_slot_words(numbers, SLOT_Q_VALUE, num_actions), np.zeros_like(keys)),
        visits=spread(_slot_words(links, SLOT_VISITS, num_actions), np.where(open_key, 0, -1)),
        child=spread(_slot_words(links, SLOT_CHILD, num_actions), nothing),
        slot=spread(
            np.broadcast_to(np.arange(num_actions), (count, num_actions)),
            np.broadcast_to(links[:, NUM_TRIED, None], (count, num_actions)),
        ),
    )


def _slot_words(records: np.ndarray, word: int, num_actions: int) -> np.ndarray:
    """One word of all slots, [R, A]."""
    return records[:, SLOTS + word : SLOTS + SLOT_WORDS * num_actions : SLOT_WORDS]


def choose_action(
    floats, ints, rows, roots, edges, state, work, exploration, sequence, switches, constants
) -> np.ndarray:
    """Twin of `kernels.choose.choose_slot` for R states; returns actions [R]."""
    header, numbers = ints[rows], floats[rows, :SLOTS]
    if switches[RULE] == GUMBEL:
        simulation = state[NEXT_ROW, roots] - state[FIRST_ROW, roots]
        # Below a root's last simulation the sequence is not read.
        simulation = np.minimum(simulation, sequence.shape[1] - 1)
        considered = sequence[state[NUM_CONSIDERED, roots], simulation]
        score = np.where(
            header[:, DEPTH, None] == 0,
            gumbel_root_score(numbers, edges, considered, work[roots], switches, constants),
            gumbel_score(numbers, edges, switches, constants),
        )
    elif switches[RULE] == UCB:
        score = ucb_score(header, edges, exploration, work[roots])
    else:
        score = puct_score(header, numbers, edges, exploration, constants[EPSILON])
    is_chance = header[:, KIND, None] == CHANCE
    score = np.where(is_chance, edges.prior / (np.maximum(edges.visits, 0) + 1), score)
    score = np.where(edges.visits < 0, -np.inf, score)
    if switches[RULE] == UCB:
        last = score.shape[1] - 1 - score[:, ::-1].argmax(axis=1)
        return np.where(is_chance[:, 0], score.argmax(axis=1), last)
    return score.argmax(axis=1)


def puct_score(header, numbers, edges, exploration, epsilon) -> np.ndarray:
    """Twin of `kernels.choose.puct_slot`, [R, A]."""
    visited, mean = edges.visits > 0, numbers[:, MEAN, None]
    lowest = np.where(visited, edges.q_value, mean).min(axis=1, keepdims=True, initial=np.inf)
    highest = np.where(visited, edges.q_value, mean).max(axis=1, keepdims=True, initial=-np.inf)
    lowest, highest = np.minimum(lowest, mean), np.maximum(highest, mean)
    scaled = (edges.q_value - lowest) / np.maximum(highest - lowest, epsilon)
    bonus = exploration[header[:, VISITS]][:, None] * edges.prior
    bonus = bonus / (np.maximum(edges.visits, 0) + 1).astype(numbers.dtype)
    return np.where(visited, scaled, 0) + bonus


def ucb_score(header, edges, exploration, work) -> np.ndarray:
    """Twin of `kernels.choose.ucb_slot`, [R, A]."""
    lowest, highest = work[:, ROOT_SCORE, 0, None], work[:, ROOT_SCORE, 1, None]
    is_wide = highest > lowest
    lowest, scale = np.where(is_wide, lowest, 0), np.where(is_wide, highest, 1) - np.where(is_wide, lowest, 0)
    scaled = (edges.q_value - lowest) / scale
    count = (np.maximum(edges.visits, 0) + 1).astype(work.dtype)
    weight = exploration[header[:, VISITS]][:, None] / count
    return np.where(edges.visits > 0, scaled, 0) + weight * edges.prior


def completed_q_values(numbers, edges, switches, constants) -> np.ndarray:
    """Twin of `kernels.choose.completed_q_values`, [R, A]."""
    visited, raw = edges.visits > 0, numbers[:, RAW, None]
    counts = np.maximum(edges.visits, 0).astype(numbers.dtype)
    total, most = counts.sum(axis=1, keepdims=True), counts.max(axis=1, keepdims=True)
    completion = raw
    if switches[MIXED]:
        prior = np.where(visited, np.maximum(edges.prior, constants[TINY]), 0)
        weight = np.where(total > 0, prior.sum(axis=1, keepdims=True), 1)
        mean = (prior * edges.q_value).sum(axis=1, keepdims=True) / weight
        completion = np.where(total > 0, (raw + total * mean) / (total + 1), raw)
    completed = np.where(visited, edges.q_value, completion)
    if switches[RESCALE]:
        lowest, highest = completed.min(axis=1, keepdims=True), completed.max(axis=1, keepdims=True)
        completed = (completed - lowest) / np.maximum(highest - lowest, constants[EPSILON])
    return (constants[VISIT_OFFSET] + most) * constants[VALUE_SCALE] * completed


def improved_policy(numbers, edges, switches, constants) -> np.ndarray:
    """Softmax of the logits plus completed Q-values over the legal actions, [R, A]."""
    completed = completed_q_values(numbers, edges, switches, constants)
    shifted = np.where(edges.visits < 0, -np.inf, completed)
    # A state at which nothing is legal is never asked for its policy; it must only not disturb.
    highest = np.maximum(shifted.max(axis=1, keepdims=True), np.finfo(numbers.dtype).min)
    weight = edges.prior * np.exp(shifted - highest)
    return weight / np.maximum(weight.sum(axis=1, keepdims=True), constants[TINY])


def gumbel_score(numbers, edges, switches, constants) -> np.ndarray:
    """Twin of `kernels.choose.gumbel_slot`, [R, A]."""
    counts = np.maximum(edges.visits, 0).astype(numbers.dtype)
    share = counts / (counts.sum(axis=1, keepdims=True) + 1)
    return improved_policy(numbers, edges, switches, constants) - share


def gumbel_root_score(numbers, edges, considered, work, switches, constants) -> np.ndarray:
    """Twin of `kernels.choose.gumbel_root_slot`, [R, A]; `considered` [R] visits."""
    completed = completed_q_values(numbers, edges, switches, constants)
    score = np.maximum(LOWEST_SCORE, work[:, ROOT_SCORE] + completed)
    slots = np.minimum(edges.slot, work.shape[2] - 1)
    old = np.where(edges.visits > 0, np.take_along_axis(work[:, OLD_VISITS], slots, axis=1), 0)
    return np.where(edges.visits - old == considered[:, None], score, -np.inf)
