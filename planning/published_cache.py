"""The fault of the published tree search that every node keeps the root's key-value cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from planning.model import Evaluation, PlanningModel


class RootStepsModel:
    """A model whose every step starts at the root, wherever the search believes to be.

    In the published program a deep simulation is therefore "root, then the last action". Searches in
    this model reproduce its decisions; nothing else is gained by it.
    """

    def __init__(self, model: PlanningModel) -> None:
        self._model = model
        self._root_of: dict[int, int] = {}
        self.num_actions = model.num_actions

    def root(self, observation: Any) -> Evaluation:
        """As the model does."""
        evaluation = self._model.root(observation)
        self._root_of = {int(node): int(node) for node in evaluation.node}
        return evaluation

    def step(self, parent: Int[np.ndarray, " M"], action: Int[np.ndarray, " M"]) -> Evaluation:
        """Step the roots of the parents by the actions."""
        roots = np.array([self._root_of[int(node)] for node in parent], dtype=np.int64)
        evaluation = self._model.step(roots, action)
        self._root_of |= {int(node): int(root) for node, root in zip(evaluation.node, roots, strict=True)}
        return evaluation
