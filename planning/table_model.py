"""A world that is a table: the smallest planning model, for tests, recordings and measurements.

Letters: B roots, M evaluated nodes, A actions, S states.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.compiled import HAS_NUMBA, kernel
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
    is_chance: Bool[np.ndarray, "S"] | None = None
    """True for states in which the world moves next, if there are any."""
    _last_answer: list[Evaluation] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self.next_state.shape[1]

    def root(self, observation: Int[np.ndarray, "B"]) -> Evaluation:
        """Look up B states."""
        state = np.asarray(observation, dtype=np.int64)
        return Evaluation(
            node=state,
            reward=np.zeros(len(state), dtype=self.reward.dtype),
            discount=np.ones(len(state), dtype=self.reward.dtype),
            value=self.value[state],
            q_value=self.q_value[state],
            prior_logits=self.prior_logits[state],
            legal_mask=self.legal_mask[state],
            is_chance=None if self.is_chance is None else self.is_chance[state],
        )

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"]) -> Evaluation:
        """Look up M transitions and the states that they lead to."""
        answer = self._answer(len(parent))
        if self.is_chance is not None:
            np.take(self.is_chance, self.next_state[parent, action], out=answer.is_chance)
        (_look_up if HAS_NUMBA else look_up_plainly)(
            self.next_state, self.reward, self.discount, self.value, self.q_value, self.prior_logits,
            self.legal_mask, parent, action,
            answer.node, answer.reward, answer.discount, answer.value, answer.q_value, answer.prior_logits,
            answer.legal_mask,
        )  # fmt: skip
        return answer

    def _answer(self, rows: int) -> Evaluation:
        """Arrays for an answer of M rows, those of the last answer if they fit."""
        if not self._last_answer or len(self._last_answer[0].node) != rows:
            edges = (rows, self.num_actions)
            self._last_answer[:] = [
                Evaluation(
                    node=np.empty(rows, dtype=np.int64),
                    reward=np.empty(rows, dtype=self.reward.dtype),
                    discount=np.empty(rows, dtype=self.discount.dtype),
                    value=np.empty(rows, dtype=self.value.dtype),
                    q_value=np.empty(edges, dtype=self.q_value.dtype),
                    prior_logits=np.empty(edges, dtype=self.prior_logits.dtype),
                    legal_mask=np.empty(edges, dtype=bool),
                    is_chance=None if self.is_chance is None else np.empty(rows, dtype=bool),
                )
            ]
        return self._last_answer[0]


def look_up_plainly(
    next_states, rewards, discounts, values, q_values, logits, legal_masks, parent, action,
    node, reward, discount, value, q_value, prior_logits, legal_mask,
):  # fmt: skip
    """Fill the last seven arrays with the transitions of M (parent, action) pairs."""
    node[:] = next_states[parent, action]
    reward[:] = rewards[parent, action]
    discount[:] = discounts[parent, action]
    value[:] = values[node]
    q_value[:] = q_values[node]
    prior_logits[:] = logits[node]
    legal_mask[:] = legal_masks[node]


@kernel
def _look_up(
    next_states, rewards, discounts, values, q_values, logits, legal_masks, parent, action,
    node, reward, discount, value, q_value, prior_logits, legal_mask,
):  # fmt: skip
    for row in range(len(parent)):
        state = next_states[parent[row], action[row]]
        node[row] = state
        reward[row] = rewards[parent[row], action[row]]
        discount[row] = discounts[parent[row], action[row]]
        value[row] = values[state]
        for edge in range(q_value.shape[1]):
            q_value[row, edge] = q_values[state, edge]
            prior_logits[row, edge] = logits[state, edge]
            legal_mask[row, edge] = legal_masks[state, edge]


def random_table(
    rng: np.random.Generator,
    num_states: int,
    num_actions: int,
    *,
    discount: float = 0.97,
    end_rate: float = 0.0,
    illegal_rate: float = 0.0,
    dtype: type = np.float64,
) -> TableModel:
    """Draw a table with rewards, values and Q-values from the unit normal distribution.

    Args:
        rng: source of randomness.
        num_states: S.
        num_actions: A.
        discount: of the transitions that do not end the episode.
        end_rate: share of transitions that end it.
        illegal_rate: share of forbidden actions; one action of every state stays legal.
        dtype: of the model's floats.

    Returns:
        A model of S states.
    """
    shape = (num_states, num_actions)
    legal_mask = rng.random(shape) >= illegal_rate
    legal_mask[np.arange(num_states), rng.integers(num_actions, size=num_states)] = True
    return TableModel(
        next_state=rng.integers(num_states, size=shape),
        reward=rng.normal(size=shape).astype(dtype),
        discount=np.where(rng.random(shape) < end_rate, 0.0, discount).astype(dtype),
        value=rng.normal(size=num_states).astype(dtype),
        q_value=rng.normal(size=shape).astype(dtype),
        prior_logits=rng.normal(size=shape).astype(dtype),
        legal_mask=legal_mask,
    )
