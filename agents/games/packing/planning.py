"""Offset packing as a planning model: its exact rules, with values and a policy from a guide.

Letters: B roots, M rows, A = N actions (one a buffer), F numbers a state (see `rules`).

Without a capacity, rewards and values are in units of the instance's lower bound, and a game returns
-peak / lower bound. With one, a game returns minus the share of the buffers that were not placed when it
was lost, and 0 when all fit; the guide's values are then not read: a state is worth 0 before the end.
"""

from __future__ import annotations

import numpy as np

from agents.games.guides import Guide, UniformGuide
from agents.games.packing.instance import PackingInstance
from agents.games.packing.rules import PackingRules, Placements
from agents.games.state_table import StateTable
from planning.model import Evaluation


class PackingModel:
    """`planning.model.PlanningModel` of one instance; equal states have equal handles."""

    def __init__(
        self,
        instance: PackingInstance,
        guide: Guide | None = None,
        capacity: int | None = None,
        placements: Placements = Placements.CANONICAL,
        look_ahead: bool = False,
    ) -> None:
        """Make a model that holds no state yet.

        Args:
            instance: the buffers.
            guide: says what states are worth and which buffers look good; by default nothing is known.
            capacity: bytes that there are; without one the peak is made small.
            placements: which buffers are legal.
            look_ahead: give as Q-value of a buffer the reward of placing it and the value of the state after
                it, as beam and best-first search need, at one evaluation per legal buffer. Otherwise Q-values
                are the state's value, as tree searches do not read them.
        """
        self.rules = PackingRules(instance, capacity, placements)
        self.unit = float(max(instance.lower_bound, 1))
        self._guide = guide or UniformGuide(instance.num_buffers)
        self._look_ahead = look_ahead
        self._table = StateTable(self.rules.width)

    @property
    def num_actions(self) -> int:
        """A, one action a buffer."""
        return self.rules.instance.num_buffers

    def root(self, observation: np.ndarray) -> Evaluation:
        """Start from B states, int64 [B, F], and forget all handles."""
        self._table.clear()
        states = np.ascontiguousarray(observation, dtype=np.int64)
        legal_mask = self.rules.legal_mask(states)
        return self._evaluate(states, np.zeros(len(states)), legal_mask)

    def step(self, parent: np.ndarray, action: np.ndarray) -> Evaluation:
        """Place a buffer in each of M states."""
        states = self._table.states(parent)
        increase = self.rules.step(states, action)
        legal_mask = self.rules.legal_mask(states)
        return self._evaluate(states, self._reward(states, increase, legal_mask), legal_mask)

    def states(self, handles: np.ndarray) -> np.ndarray:
        """The states behind M handles, int64 [M, F]: what features or another root are made of."""
        return self._table.states(handles)

    def _reward(self, states: np.ndarray, increase: np.ndarray, legal_mask: np.ndarray) -> np.ndarray:
        if self.rules.capacity is None:
            return -increase / self.unit
        left = 1 - self.rules.placed(states).mean(axis=1)
        return np.where(legal_mask.any(axis=1), 0.0, -left)

    def _evaluate(self, states: np.ndarray, reward: np.ndarray, legal_mask: np.ndarray) -> Evaluation:
        goes_on = legal_mask.any(axis=1)
        value = np.where(goes_on, self._values(states), 0.0)
        return Evaluation(
            node=self._table.insert(states),
            reward=reward,
            discount=np.where(goes_on, 1.0, 0.0),
            value=value,
            q_value=self._q_value(states, value, legal_mask),
            prior_logits=self._guide.prior_logits(states),
            legal_mask=legal_mask,
        )

    def _values(self, states: np.ndarray) -> np.ndarray:
        if self.rules.capacity is None:
            return self._guide.values(states) / self.unit
        return np.zeros(len(states))

    def _q_value(self, states: np.ndarray, value: np.ndarray, legal_mask: np.ndarray) -> np.ndarray:
        q_value = np.repeat(value[:, None], self.num_actions, axis=1)
        if self._look_ahead:
            row, action = np.nonzero(legal_mask)
            after = states[row]
            increase = self.rules.step(after, action)
            legal_after = self.rules.legal_mask(after)
            worth = np.where(legal_after.any(axis=1), self._values(after), 0.0)
            q_value[row, action] = self._reward(after, increase, legal_after) + worth
        return q_value
