"""What guides a search of any game: a value of each state and a policy over its actions.

Letters: B states, A actions.

A guide is a parameter of planning models and of searches; a learned one is a network on a game's features.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float


class Guide(Protocol):
    """Judges states of one instance, finished ones included (what it says of them is not used)."""

    def values(self, states: np.ndarray) -> Float[np.ndarray, " B"]:
        """Return expected from each of B states on, in the game's own unit of reward."""
        ...

    def prior_logits(self, states: np.ndarray) -> Float[np.ndarray, "B A"]:
        """Unnormalised log-probabilities of a policy; unspecified at illegal actions."""
        ...


class UniformGuide:
    """Knows nothing: values 0 and all actions alike."""

    def __init__(self, num_actions: int) -> None:
        self._num_actions = num_actions

    def values(self, states: np.ndarray) -> Float[np.ndarray, " B"]:
        """Zeros [B]."""
        return np.zeros(len(states))

    def prior_logits(self, states: np.ndarray) -> Float[np.ndarray, "B A"]:
        """Zeros [B, A]."""
        return np.zeros((len(states), self._num_actions))
