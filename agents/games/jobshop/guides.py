"""What guides a search of the job shop: a value of each state and a policy over its jobs.

Letters: B rows, J jobs, F numbers a state (see `rules`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from agents.games.jobshop.heuristics import Rule, follow_rule, key_of, remaining_work
from agents.games.jobshop.rules import JobShopRules, Schedules


class RolloutGuide:
    """Plays a dispatching rule to the end: values are its results, and its choices are likelier a priori."""

    def __init__(
        self,
        rules: JobShopRules,
        rule: Rule = Rule.MWKR,
        schedules: Schedules = Schedules.NON_DELAY,
        sharpness: float = 1.0,
    ) -> None:
        """Guide by one rule.

        Args:
            rules: of the instance.
            rule: what is played.
            schedules: in which schedules it is played.
            sharpness: how much likelier a job is than one a standard deviation of the rule's key behind it.
        """
        self._rules, self._rule, self._schedules, self._sharpness = rules, rule, schedules, sharpness
        self._work = remaining_work(rules.instance)

    def values(self, states: np.ndarray) -> np.ndarray:
        """Results of the rule from B states on, [B]."""
        out = np.empty(len(states))
        rules = self._rules
        _rollouts(
            rules.machine, rules.duration, rules.num_operations, self._work, states,
            int(self._schedules), int(self._rule), out,
        )  # fmt: skip
        return out

    def prior_logits(self, states: np.ndarray) -> np.ndarray:
        """Standardised keys of the rule, the best highest, [B, J]."""
        keys = np.zeros((len(states), self._rules.instance.num_jobs))
        rules = self._rules
        _keys(rules.duration, rules.num_operations, self._work, states, int(self._rule), keys)
        left = states[:, : keys.shape[1]] < rules.num_operations
        count = np.maximum(left.sum(axis=1, keepdims=True), 1)
        mean = np.where(left, keys, 0).sum(axis=1, keepdims=True) / count
        centred = np.where(left, keys - mean, 0)
        deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
        return -self._sharpness * centred / np.maximum(deviation, 1e-9)


@njit(cache=True, nogil=True)
def _rollouts(machine, duration, num_operations, work, states, schedules, rule, out):
    total = num_operations.sum()
    jobs = np.empty(total, dtype=np.int64)
    count = machine.shape[0]
    for row in range(len(states)):
        state = states[row].copy()
        left = total - state[:count].sum()
        before = state[-1]
        out[row] = before - follow_rule(
            machine, duration, num_operations, work, state, schedules, rule, jobs[:left]
        )


@njit(cache=True, nogil=True)
def _keys(duration, num_operations, work, states, rule, keys):
    for row in range(len(states)):
        for job in range(len(num_operations)):
            if states[row, job] < num_operations[job]:
                keys[row, job] = key_of(rule, duration, num_operations, work, states[row], job)
