"""Moves chosen by the beam planner, with a policy to learn from that is made of its corrected Q-values.

Letters: B roots, A actions, N nodes below a root.

A game's model knows no Q-value of a move before it is made, so the beam tries the moves that the policy
likes best, and judges the paths it keeps by rewards and value. Afterwards the root's actions are weighed as
in Gumbel MuZero (Danihelka et al. 2022): with g the Gumbel noise, n the numbers of nodes below each action
and q the completed Q-values (untried actions stand at a mixed value), scaled to [0, 1] and then by
0.1 (50 + max n), which are the search's defaults,

    policy = softmax(logits + q),    action = argmax over tried actions of gumbel_scale (g + logits) + q

A path that left the beam was worse, at its depth, than those that stayed, but its Q-value is not corrected
any further; so no Q-value counts for more than that of the best path. Without noise the action is therefore
the first of the best path; with it, games differ, and the more probable moves of the policy are taken more
often.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from planning.base import SearchResult, Tree
from planning.beam import BeamLimits, beam_search
from planning.gumbel_muzero import scaled_q_values
from planning.model import Evaluation, PlanningModel
from planning.noise import POLICY, gumbel_noise, root_seeds
from planning.tree_search import masked_softmax


class TriedByPolicy:
    """A planning model for beams: Q-values are logits of the policy, for nothing else than their order."""

    def __init__(self, model: PlanningModel, noise: Float[np.ndarray, "B A"]) -> None:
        """Wrap a model.

        Args:
            model: what to plan in.
            noise: added to the logits of the roots.
        """
        self._model, self._noise = model, noise
        self.roots: Evaluation | None = None

    @property
    def num_actions(self) -> int:
        """A, of the model."""
        return self._model.num_actions

    def root(self, observation: Any) -> Evaluation:
        """The model's roots, which are kept in `roots` as the model gave them."""
        answer = self._model.root(observation)
        # A model may answer each step in the same arrays.
        self.roots = replace(
            answer,
            value=np.array(answer.value, dtype=np.float64),
            prior_logits=np.array(answer.prior_logits, dtype=np.float64),
            legal_mask=np.array(answer.legal_mask),
        )
        return replace(answer, q_value=self.roots.prior_logits + self._noise)

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"]) -> Evaluation:
        """The model's answer, its actions in the order of the policy."""
        answer = self._model.step(parent, action)
        return replace(answer, q_value=answer.prior_logits)


def beam_choice(
    model: PlanningModel,
    observation: Any,
    *,
    num_roots: int,
    beam_width: int,
    horizon: int,
    num_nodes: int,
    gumbel_scale: float,
    seeds: Int[np.ndarray, " B"],
) -> SearchResult[Tree]:
    """Choose a move at each root by beam search; see above.

    Args:
        model: what to plan in.
        observation: B observations, passed on to `model.root`.
        num_roots: B.
        beam_width: paths kept, and moves tried from each.
        horizon: moves to look ahead.
        num_nodes: N, positions to look at; deeper ones are left out.
        gumbel_scale: weight of the noise; 0 takes the first move of the best path.
        seeds: of the noise of each root.

    Returns:
        The beam's result, but with this action, with the improved policy as `action_weights`, and with
        Q-values of the tried actions that are at most the best path's; those of the others mean nothing.
    """
    noise = gumbel_scale * gumbel_noise(root_seeds(seeds, num_roots), POLICY, model.num_actions)
    by_policy = TriedByPolicy(model, noise)
    limits = BeamLimits(nodes=num_nodes)
    found = beam_search(by_policy, observation, beam_width=beam_width, horizon=horizon, limits=limits)
    roots = by_policy.roots
    assert roots is not None
    is_tried = found.visit_counts > 0
    q_value = np.minimum(found.root_q_value, found.root_value[:, None])
    scaled = scaled_q_values(roots, q_value, found.visit_counts)
    policy = masked_softmax(roots.prior_logits + scaled, roots.legal_mask)
    action = found.action
    if gumbel_scale > 0:
        logits = roots.prior_logits - roots.prior_logits.max(axis=1, keepdims=True)
        noisy = gumbel_scale * logits + noise + scaled
        action = np.where(is_tried, noisy, -np.inf).argmax(axis=1)
    return replace(found, action=action, action_weights=policy, root_q_value=q_value)
