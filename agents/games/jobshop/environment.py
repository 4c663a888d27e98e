"""The job shop as a Gymnasium environment.

Letters: J jobs, M machines, F numbers a state (see `rules`).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.games.jobshop.features import GLOBAL_FEATURES, JOB_FEATURES, MACHINE_FEATURES, FeatureExtractor
from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.rules import JobShopRules, Schedules
from agents.games.jobshop.solution import Schedule, schedule_of
from datasets.errors import UserError


class JobShopEnvironment(gymnasium.Env):
    """Dispatch one operation a step; the reward is minus the increase of the makespan.

    An action is a job. Observations are the arrays of `features`; `info["action_mask"]` (bool [J]) says which
    jobs may be dispatched, `info["makespan"]` is the makespan so far.
    """

    def __init__(self, instance: JobShopInstance, schedules: Schedules = Schedules.ACTIVE) -> None:
        self.rules = JobShopRules(instance, schedules)
        self._extract = FeatureExtractor(self.rules)
        self._state, self._jobs = self.rules.start(), []
        self.action_space = spaces.Discrete(instance.num_jobs)
        self.observation_space = spaces.Dict(
            {
                "overall": _box(len(GLOBAL_FEATURES)),
                "jobs": _box(instance.num_jobs, len(JOB_FEATURES)),
                "machines": _box(instance.num_machines, len(MACHINE_FEATURES)),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin anew; the game has no chance in it, so a seed changes only the action space's draws."""
        super().reset(seed=seed)
        self._state, self._jobs = self.rules.start(), []
        return self._observation(), self._info()

    def step(self, action: int):
        """Dispatch a job.

        Raises:
            UserError: the job may not be dispatched now.
        """
        if not self.rules.legal_mask(self._state[None])[0, action]:
            raise UserError(
                f"job {action} may not be dispatched now; take one that info['action_mask'] allows"
            )
        increase = int(self.rules.step(self._state[None], np.array([action]))[0])
        self._jobs.append(int(action))
        ended = len(self._jobs) == self.rules.length
        return self._observation(), -float(increase), ended, False, self._info()

    def snapshot(self) -> tuple[np.ndarray, int]:
        """What `restore` needs to come back to this moment of this episode: F + 1 numbers."""
        return self._state.copy(), len(self._jobs)

    def restore(self, snapshot: tuple[np.ndarray, int]) -> None:
        """Go back to an earlier moment of the same episode, forgetting what was dispatched since."""
        state, length = snapshot
        self._state = state.copy()
        del self._jobs[length:]

    def solution(self) -> Schedule:
        """The schedule of a finished game.

        Raises:
            UserError: the game is not over.
        """
        if len(self._jobs) < self.rules.length:
            raise UserError(
                f"{self.rules.length - len(self._jobs)} operations are not dispatched yet; play on"
            )
        return schedule_of(self.rules.instance, np.array(self._jobs))

    def _observation(self) -> dict[str, np.ndarray]:
        features = self._extract(self._state[None])
        return {"overall": features.overall[0], "jobs": features.jobs[0], "machines": features.machines[0]}

    def _info(self) -> dict[str, Any]:
        mask = self.rules.legal_mask(self._state[None])[0]
        return {"action_mask": mask, "makespan": int(self._state[-1])}


def _box(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, dtype=np.float32)
