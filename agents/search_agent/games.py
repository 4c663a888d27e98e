"""What the search agent needs to know of a game, and the games that offer it.

Letters: B positions, A actions, F numbers of a position.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.games.guides import Guide
from agents.search_agent.observation import Observation
from planning.model import PlanningModel


class SearchGame(Protocol):
    """One instance of a single-player game. Positions are rows of an array, so many are played at once.

    They stay valid until the next `start`: a game may keep what stands behind them.
    """

    @property
    def name(self) -> str:
        """Of the instance."""
        ...

    @property
    def num_actions(self) -> int:
        """A, the same in all positions of the instance."""
        ...

    def start(self, count: int) -> np.ndarray:
        """Begin anew: the first position, `count` times, [B, ...]."""
        ...

    def observe(self, positions: np.ndarray) -> Observation:
        """What the network sees."""
        ...

    def legal_mask(self, positions: np.ndarray) -> Bool[np.ndarray, "B A"]:
        """Which actions are allowed."""
        ...

    def step(
        self, positions: np.ndarray, actions: Int[np.ndarray, " B"]
    ) -> tuple[np.ndarray, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Positions after one action each, rewards in units of `unit`, and whether the game is over."""
        ...

    def model(self, guide: Guide | None) -> PlanningModel:
        """The exact rules, planned from positions; without a guide nothing is known of any position.

        Its rewards and values are in units of `unit`.
        """
        ...

    @property
    def unit(self) -> float:
        """What a reward of 1 is in the game's own unit; makes instances of all sizes alike."""
        ...

    @property
    def return_range(self) -> tuple[float, float]:
        """Least and greatest return that instances of this game come to, in units of `unit`."""
        ...

    @property
    def value_share(self) -> float:
        """Share of the network's value that a search in the exact rules adds to the positions' estimates."""
        ...

    def score(self, total: float) -> float:
        """What a game of this total reward comes to, in the words of people: lower is better."""
        ...
