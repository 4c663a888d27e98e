"""Offset packing as a Gymnasium environment.

Letters: N buffers, S sections, F numbers a state (see `rules`).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.games.packing.features import BUFFER_FEATURES, GLOBAL_FEATURES, SECTION_FEATURES, FeatureExtractor
from agents.games.packing.instance import PackingInstance
from agents.games.packing.rules import PackingRules, Placements
from agents.games.packing.solution import Packing, packing_of
from datasets.errors import UserError


class PackingEnvironment(gymnasium.Env):
    """Place one buffer a step.

    An action is a buffer. Without a capacity the reward is minus the increase of the peak, in bytes. With
    one it is 0 until some buffer fits no more: the game is lost, for minus the number of buffers left.
    Observations are the arrays of `features`; `info["action_mask"]` (bool [N]) says which buffers may be
    placed, `info["peak"]` is the peak so far, `info["lost"]` whether the game is lost.
    """

    def __init__(
        self,
        instance: PackingInstance,
        capacity: int | None = None,
        placements: Placements = Placements.CANONICAL,
    ) -> None:
        self.rules = PackingRules(instance, capacity, placements)
        self._extract = FeatureExtractor(self.rules)
        self._state, self._buffers = self.rules.start(), []
        self.action_space = spaces.Discrete(instance.num_buffers)
        self.observation_space = spaces.Dict(
            {
                "overall": _box(len(GLOBAL_FEATURES)),
                "buffers": _box(instance.num_buffers, len(BUFFER_FEATURES)),
                "sections": _box(self.rules.num_sections, len(SECTION_FEATURES)),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin anew; the game has no chance in it, so a seed changes only the action space's draws."""
        super().reset(seed=seed)
        self._state, self._buffers = self.rules.start(), []
        return self._observation(), self._info()

    def step(self, action: int):
        """Place a buffer.

        Raises:
            UserError: the buffer may not be placed now.
        """
        if not self.rules.legal_mask(self._state[None])[0, action]:
            raise UserError(
                f"buffer {action} may not be placed now; take one that info['action_mask'] allows"
            )
        increase = int(self.rules.step(self._state[None], np.array([action]))[0])
        self._buffers.append(int(action))
        info = self._info()
        left = self.rules.length - len(self._buffers)
        reward = -float(increase) if self.rules.capacity is None else -float(left * info["lost"])
        return self._observation(), reward, left == 0 or info["lost"], False, info

    def snapshot(self) -> tuple[np.ndarray, int]:
        """What `restore` needs to come back to this moment of this episode: F + 1 numbers."""
        return self._state.copy(), len(self._buffers)

    def restore(self, snapshot: tuple[np.ndarray, int]) -> None:
        """Go back to an earlier moment of the same episode, forgetting what was placed since."""
        state, length = snapshot
        self._state = state.copy()
        del self._buffers[length:]

    def solution(self) -> Packing:
        """The packing of a finished game.

        Raises:
            UserError: buffers are left.
        """
        if len(self._buffers) < self.rules.length:
            raise UserError(
                f"{self.rules.length - len(self._buffers)} buffers are not placed; play on or anew"
            )
        return packing_of(
            self.rules.instance, self.rules.offsets(np.array(self._buffers)).tolist(), self.rules.capacity
        )

    def _observation(self) -> dict[str, np.ndarray]:
        features = self._extract(self._state[None])
        return {
            "overall": features.overall[0],
            "buffers": features.buffers[0],
            "sections": features.sections[0],
        }

    def _info(self) -> dict[str, Any]:
        mask = self.rules.legal_mask(self._state[None])[0]
        lost = not mask.any() and len(self._buffers) < self.rules.length
        return {"action_mask": mask, "peak": int(self._state[-1]), "lost": lost}


def _box(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, dtype=np.float32)
