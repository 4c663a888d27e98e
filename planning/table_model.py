"""A world that is a table: the smallest planning model, for tests, recordings and measurements.

Letters: B roots, M evaluated nodes, A actions, S states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.model import Evaluation


@dataclass(frozen=True)
class TableModel:
    """A deterministic decision process whose handles are its states, so equal states are equal handles.

    An observation is an array of B states.
    """

    next_state: Int[np.ndarray, "S A"]
    """State that an action leads to."""
    reward: Float[np.ndarray, "S A"]
    """Reward of that transition."""
    discount: Float[np.ndarray, "S A"]
    """Factor on what follows it: 0 where the episode ends."""
    value: Float[np.ndarray, "S"]
    """Estimated return from a state."""
    q_value: Float[np.ndarray, "S A"]
    """Estimated return from an action."""
    prior_logits: Float[np.ndarray, "S A"]
    """Policy's unnormalised log-probabilities."""
    legal_mask: Bool[np.ndarray, "S A"]
    """True where an action is allowed."""

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self.next_state.shape[1]

    def root(self, observation: Int[np.ndarray, "B"]) -> Evaluation:
        """Look up B states."""
        return self._evaluation(observation, np.zeros(len(observation)), np.ones(len(observation)))

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"]) -> Evaluation:
        """Look up M transitions and the states that they lead to."""
        return self._evaluation(
            self.next_state[parent, action],
            self.reward[parent, action],
            self.discount[parent, action],
        )

    def _evaluation(self, state, reward, discount) -> Evaluation:
        return Evaluation(
            node=state,
            reward=reward,
            discount=discount,
            value=self.value[state],
            q_value=self.q_value[state],
            prior_logits=self.prior_logits[state],
            legal_mask=self.legal_mask[state],
        )


def random_table(
    rng: np.random.Generator,
    num_states: int,
    num_actions: int,
    *,
    discount: float = 0.97,
    end_rate: float = 0.0,
    illegal_rate: float = 0.0,
) -> TableModel:
    """Draw a table with rewards, values and Q-values from the unit normal distribution.

    Args:
        rng: source of randomness.
        num_states: S.
        num_actions: A.
        discount: of the transitions that do not end the episode.
        end_rate: share of transitions that end it.
        illegal_rate: share of forbidden actions; one action of every state stays legal.

    Returns:
        A model of S states.
    """
    shape = (num_states, num_actions)
    legal_mask = rng.random(shape) >= illegal_rate
    legal_mask[np.arange(num_states), rng.integers(num_actions, size=num_states)] = True
    return TableModel(
        next_state=rng.integers(num_states, size=shape),
        reward=rng.normal(size=shape),
        discount=np.where(rng.random(shape) < end_rate, 0.0, discount),
        value=rng.normal(size=num_states),
        q_value=rng.normal(size=shape),
        prior_logits=rng.normal(size=shape),
        legal_mask=legal_mask,
    )
