"""The memory-mapping game as a Gymnasium environment."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.games.memory.advice import advise, sparing_game
from agents.games.memory.features import (
    ACCESS_FEATURES,
    ACTION_FEATURES,
    GLOBAL_FEATURES,
    OFFSET_BINS,
    PAST_ACTIONS,
    SHOWN,
    TIME_BINS,
    FeatureExtractor,
)
from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import Solution
from agents.games.memory.program import Program
from agents.games.memory.rules import NUM_ACTIONS
from agents.games.memory.tree import StateTree
from datasets.errors import UserError


class MemoryEnvironment(gymnasium.Env):
    """Decide one access a step; the return is the simulated saving as a share of the time with all slow.

    Actions are 0 drop, 1 keep (NoCopy), 2 copy; `info["action_mask"]` (bool [3]) says which are legal.
    Accesses without a choice are passed over. Observations are the arrays of `features`. Rewards are savings
    as the clock plans them; the last one puts the sum right to what the simulator finds.
    """

    def __init__(self, program: Program, clock_lambda: float = 1.0, is_sparing: bool = False) -> None:
        """Set up a program.

        Args:
            program: what to map.
            clock_lambda: planning clock, in [0, 1].
            is_sparing: choose offsets where least is lost of what could be kept, as the search agent plays,
                not by best fit.
        """
        advice = advise(program, clock_lambda)
        game = (
            sparing_game(program, clock_lambda, advice) if is_sparing else MemoryGame(program, clock_lambda)
        )
        self._tree = StateTree(game)
        self._extract = FeatureExtractor(self._tree, advice)
        self._line = [0]
        self.action_space = spaces.Discrete(NUM_ACTIONS)
        self.observation_space = spaces.Dict(
            {
                "overall": _box(len(GLOBAL_FEATURES)),
                "accesses": _box(SHOWN, len(ACCESS_FEATURES)),
                "consequences": _box(NUM_ACTIONS, len(ACTION_FEATURES)),
                "image": _box(OFFSET_BINS, TIME_BINS),
                "lane": _box(TIME_BINS),
                "actions": _box(PAST_ACTIONS, NUM_ACTIONS),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin anew; the game has no chance in it, so a seed changes only the action space's draws."""
        super().reset(seed=seed)
        self.restore(1)
        return self._observation(), self._info()

    def step(self, action: int):
        """Decide an access.

        Raises:
            UserError: the action is not legal, or the game is over.
        """
        before = np.array(self._line[-1:])
        if not self._tree.legal_mask(before)[0, action]:
            raise UserError(f"action {action} is not legal now; take one that info['action_mask'] allows")
        after = self._tree.step(before, np.array([action]))
        self._line.append(int(after[0]))
        reward = float(self._tree.total(after)[0] - self._tree.total(before)[0])
        return self._observation(), reward, bool(self._tree.is_done(after)[0]), False, self._info()

    def snapshot(self) -> int:
        """What `restore` needs to come back to this moment of this episode: a number."""
        return len(self._line)

    def restore(self, snapshot: int) -> None:
        """Go back to an earlier moment of the same episode, forgetting what was decided since."""
        self._line = self._line[:snapshot]
        self._tree.keep_first(self._line[-1] + 1)

    def solution(self) -> Solution:
        """The plan of a finished game.

        Raises:
            UserError: the game is not over.
        """
        if not self._tree.is_done(np.array(self._line[-1:]))[0]:
            raise UserError("the game is not over; play until the step that ends it")
        return self._tree.solution(self._line[-1])

    def _observation(self) -> dict[str, np.ndarray]:
        features = self._extract(np.array(self._line[-1:]))
        return {field.name: getattr(features, field.name)[0] for field in fields(features)}

    def _info(self) -> dict[str, Any]:
        node = np.array(self._line[-1:])
        return {"action_mask": self._tree.legal_mask(node)[0], "saved": float(self._tree.total(node)[0])}


def _box(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)
