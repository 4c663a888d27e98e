"""What a planner may ask of a model: evaluate roots, then single steps, in batches.

Letters: B roots, M evaluated nodes, A actions.

A planner knows a state only as an integer handle that the model gave it. Where the state lives (a
key-value cache, a latent vector, a simulator's snapshot) is the model's own business, so states are
never copied through a planner. All arrays are NumPy on the host: a planner reads a few numbers per
node, and needs no deep-learning library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int


class PlanningError(ValueError):
    """A search that cannot be done as asked; the sentence says which argument to change."""


@dataclass(frozen=True)
class Evaluation:
    """What a model says of M states it has just reached.

    A model may answer each `step` in the same arrays; a planner copies what it keeps.
    """

    node: Int[np.ndarray, "M"]
    """Handles of the states, valid until the model's next `root`. Equal handles mean equal states."""
    reward: Float[np.ndarray, "M"]
    """Reward of the transition into each state; 0 for roots."""
    discount: Float[np.ndarray, "M"]
    """Factor on everything after that transition: 0 where the episode ended with it."""
    value: Float[np.ndarray, "M"]
    """Return expected from each state on, in units of undiscounted reward."""
    q_value: Float[np.ndarray, "M A"]
    """Return expected from each action; unspecified at illegal actions. Tree searches do not read it."""
    prior_logits: Float[np.ndarray, "M A"]
    """Unnormalised log-probabilities of a policy; unspecified at illegal actions. Beam search does not
    read it."""
    legal_mask: Bool[np.ndarray, "M A"]
    """True where an action is allowed."""
    is_chance: Bool[np.ndarray, "M"] | None = None
    """True for states in which the world moves next: `prior_logits` are its log-probabilities and
    the "actions" its outcomes. None where the model knows no such states."""


@runtime_checkable
class PlanningModel(Protocol):
    """A batched one-step model; the only thing a planner knows of the world."""

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        ...

    def root(self, observation: Any) -> Evaluation:
        """Start a new search from B observed states and forget every earlier handle.

        Args:
            observation: whatever this model plans from, batched over B roots.

        Returns:
            One row per root.
        """
        ...

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"]) -> Evaluation:
        """Take one action in each of M states.

        Args:
            parent: handles from `root` or an earlier `step`; may repeat.
            action: a legal action for each. A planner may reuse both arrays after the call.

        Returns:
            One row per (parent, action) pair, in order.
        """
        ...


@runtime_checkable
class BoundedModel(PlanningModel, Protocol):
    """A planning model that knows how large and how small returns can be."""

    @property
    def return_bounds(self) -> tuple[float, float] | None:
        """Least and greatest `reward + discount value` of any step; None where that is unbounded."""
        ...
