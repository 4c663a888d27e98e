"""Keeping what a search found out below the action that was taken.

Letters: B roots, M rows of a tree, A actions. See `layout` for the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.base import SearchTree
from planning.layout import Buffers
from planning.model import PlanningModel
from planning.options import TreeOptions


@dataclass(frozen=True)
class Roots:
    """B trees with nothing but their roots, or with what an earlier search left."""

    buffers: Buffers
    logits: Float[np.ndarray, "B A"]
    """The model's policy as it gave it, illegal actions included."""
    legal_mask: Bool[np.ndarray, "B A"]
    """True where an action is allowed."""
    tried: Bool[np.ndarray, "B A"]
    """True where an earlier search tried an action."""


@dataclass(frozen=True)
class Resume:
    """Go on from the state that an action of an earlier search led to, with all that is known of it.

    The model must not have been asked for new roots in between, or its handles are void.
    """

    tree: SearchTree
    """What the earlier search returned."""
    action: Int[np.ndarray, "B"]
    """Actions taken since, one a root; at a chance node, the outcome that came about."""

    def roots(
        self, model: PlanningModel, num_simulations: int, max_depth: int | None, options: TreeOptions
    ) -> Roots:
        """The trees to search on in."""
        raise NotImplementedError
