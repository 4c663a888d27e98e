"""Tree search in a world that throws dice: decisions by pUCT, outcomes by their probability.

Letters: B roots, M evaluated nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from planning.base import SearchResult, SearchTree
from planning.model import Evaluation, PlanningError, PlanningModel
from planning.muzero import muzero


def stochastic_muzero(model: PlanningModel, observation: Any, **settings: Any) -> SearchResult[SearchTree]:
    """Search by pUCT where the world moves too: Stochastic MuZero, Antonoglou et al. 2022.

    An action leads to a chance node, and that by one of its outcomes to the next decision; both are
    states of the model, told apart by `Evaluation.is_chance`. At a chance node the outcome is taken whose
    share of visits lags its probability most. `muzero` does the same on such a model; this search
    also refuses a model that does not say which states are chance nodes, whose outcomes would be
    searched as if they could be chosen.

    Args:
        model: what to plan in.
        observation: B observations, passed on to `model.root`.
        **settings: those of `muzero`.

    Returns:
        The decision and the searched tree of each root.

    Raises:
        PlanningError: for an answer without `is_chance`, and as `muzero` does.
    """
    return muzero(_TellsChance(model), observation, **settings)


@dataclass(frozen=True)
class _TellsChance:
    """A model held to say which states are chance nodes."""

    model: PlanningModel

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self.model.num_actions

    def root(self, observation: Any) -> Evaluation:
        """Pass on."""
        return _checked(self.model.root(observation), "root")

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"]) -> Evaluation:
        """Pass on."""
        return _checked(self.model.step(parent, action), "step")


def _checked(evaluation: Evaluation, call: str) -> Evaluation:
    if evaluation.is_chance is None:
        raise PlanningError(
            f"the model's {call} leaves is_chance None; stochastic_muzero needs it for every state, "
            "or use muzero for a world without chance"
        )
    return evaluation
