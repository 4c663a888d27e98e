"""Small worlds with known answers, for the tests of all searches."""

from __future__ import annotations

from typing import Any

import numpy as np

from planning import Evaluation
from planning.table_model import TableModel


class RecordingModel:
    """Passes a model on and keeps what was asked of it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.num_actions = model.num_actions
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def root(self, observation: Any) -> Evaluation:
        return self.model.root(observation)

    def step(self, parent: np.ndarray, action: np.ndarray) -> Evaluation:
        self.steps.append((parent.copy(), action.copy()))
        return self.model.step(parent, action)

    @property
    def evaluations(self) -> int:
        return sum(len(action) for _, action in self.steps)


def subset_world(rng: np.random.Generator, items: int, picks: int, dtype: type = np.float64) -> TableModel:
    """Pick some of the items one by one; what was picked is the state, so that orders do not matter.

    A reward depends on the item and on what is there already. Values are 0, Q-values the rewards, the
    policy is uniform.
    """
    states = np.arange(2**items)
    size = np.array([int(state).bit_count() for state in states])
    bits = 1 << np.arange(items)
    legal_mask = (states[:, None] & bits == 0) & (size < picks)[:, None]
    reward = rng.uniform(size=(len(states), items)).astype(dtype)
    return TableModel(
        next_state=states[:, None] | bits,
        reward=reward,
        discount=np.where(size[:, None] + 1 < picks, 1.0, 0.0).repeat(items, 1).astype(dtype),
        value=np.zeros(len(states), dtype=dtype),
        q_value=reward,
        prior_logits=np.zeros((len(states), items), dtype=dtype),
        legal_mask=legal_mask,
    )


def optimal_values(model: TableModel, rounds: int) -> np.ndarray:
    """Best return from each state within some rounds, by value iteration; 0 at states without actions."""
    value = np.zeros(len(model.value))
    for _ in range(rounds):
        q_value = model.reward + model.discount * value[model.next_state]
        q_value = np.where(model.legal_mask, q_value, -np.inf).max(axis=1)
        value = np.where(model.legal_mask.any(axis=1), q_value, 0)
    return value


def optimal_q_values(model: TableModel, rounds: int) -> np.ndarray:
    """Best return from each action; -inf where illegal."""
    value = optimal_values(model, rounds - 1)
    return np.where(model.legal_mask, model.reward + model.discount * value[model.next_state], -np.inf)


def nim_world(stones: int, most: int = 3) -> TableModel:
    """Players take 1 to `most` stones in turn, who takes the last one gets 1; states are what lies there."""
    state, taken = np.arange(stones + 1)[:, None], np.arange(1, most + 1)
    left = np.maximum(state - taken, 0)
    ends = state - taken == 0
    shape = (stones + 1, most)
    return TableModel(
        next_state=left,
        reward=np.where(ends, 1.0, 0.0),
        discount=np.where(ends, 0.0, -1.0),
        value=np.zeros(stones + 1),
        q_value=np.zeros(shape),
        prior_logits=np.zeros(shape),
        legal_mask=taken <= state,
    )


def dice_world(rng: np.random.Generator, actions: int, outcomes: int) -> TableModel:
    """One choice, one throw, the end: state 0 decides, 1 to A are throws, the rest are results."""
    width, states = max(actions, outcomes), 1 + actions + actions * outcomes
    legal_mask = np.zeros((states, width), dtype=bool)
    legal_mask[0, :actions] = True
    legal_mask[1 : 1 + actions, :outcomes] = True
    next_state = np.zeros((states, width), dtype=np.int64)
    next_state[0, :actions] = 1 + np.arange(actions)
    results = 1 + actions + np.arange(actions * outcomes).reshape(actions, outcomes)
    next_state[1 : 1 + actions, :outcomes] = results
    reward, discount = np.zeros((states, width)), np.zeros((states, width))
    discount[0] = 1
    reward[1 : 1 + actions, :outcomes] = rng.normal(size=(actions, outcomes))
    return TableModel(
        next_state=next_state,
        reward=reward,
        discount=discount,
        value=np.zeros(states),
        q_value=np.zeros((states, width)),
        prior_logits=rng.normal(size=(states, width)),
        legal_mask=legal_mask,
        is_chance=(np.arange(states) > 0) & (np.arange(states) <= actions),
    )
