"""The job shop as a planning model: its exact rules, with values and a policy from a guide.

Letters: B roots, M rows, A = J actions (one a job), F numbers a state (see `rules`).

Rewards and values are in units of the instance's lower bound: a game returns -makespan / lower bound.
"""

from __future__ import annotations

import numpy as np

from agents.games.guides import Guide, UniformGuide
from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.rules import JobShopRules, Schedules
from agents.games.state_table import StateTable
from planning.model import Evaluation


class JobShopModel:
    """`planning.model.PlanningModel` of one instance; equal states have equal handles."""

    def __init__(
        self,
        instance: JobShopInstance,
        guide: Guide | None = None,
        schedules: Schedules = Schedules.ACTIVE,
        look_ahead: bool = False,
    ) -> None:
        """Make a model that holds no state yet.

        Args:
            instance: the shop.
            guide: says what states are worth and which jobs look good; by default nothing is known.
            schedules: which jobs are legal.
            look_ahead: give as Q-value of a job the reward of dispatching it and the guide's value of the
                state after it, as beam and best-first search need, at one evaluation per legal job. Otherwise
                Q-values are the state's value, as tree searches do not read them.
        """
        self.rules = JobShopRules(instance, schedules)
        self.unit = float(max(instance.lower_bound, 1))
        self._guide = guide or UniformGuide(instance.num_jobs)
        self._look_ahead = look_ahead
        self._table = StateTable(self.rules.width, np.int32)

    @property
    def num_actions(self) -> int:
        """A, one action a job."""
        return self.rules.instance.num_jobs

    def root(self, observation: np.ndarray) -> Evaluation:
        """Start from B states, int32 [B, F], and forget all handles."""
        self._table.clear()
        states = np.ascontiguousarray(observation, dtype=np.int32)
        return self._evaluate(states, np.zeros(len(states)))

    def step(self, parent: np.ndarray, action: np.ndarray) -> Evaluation:
        """Dispatch a job in each of M states."""
        states = self._table.states(parent)
        increase = self.rules.step(states, action)
        return self._evaluate(states, -increase / self.unit)

    def states(self, handles: np.ndarray) -> np.ndarray:
        """The states behind M handles, int32 [M, F]: what features or another root are made of."""
        return self._table.states(handles)

    def _evaluate(self, states: np.ndarray, reward: np.ndarray) -> Evaluation:
        done = self.rules.done(states)
        legal_mask = self.rules.legal_mask(states)
        value = np.where(done, 0.0, self._guide.values(states) / self.unit)
        return Evaluation(
            node=self._table.insert(states),
            reward=reward,
            discount=np.where(done, 0.0, 1.0),
            value=value,
            q_value=self._q_value(states, value, legal_mask),
            prior_logits=self._guide.prior_logits(states),
            legal_mask=legal_mask,
        )

    def _q_value(self, states: np.ndarray, value: np.ndarray, legal_mask: np.ndarray) -> np.ndarray:
        q_value = np.repeat(value[:, None], self.num_actions, axis=1)
        if self._look_ahead:
            row, action = np.nonzero(legal_mask)
            after = states[row]
            increase = self.rules.step(after, action)
            q_value[row, action] = (self._guide.values(after) - increase) / self.unit
        return q_value
