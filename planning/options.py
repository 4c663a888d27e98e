"""Settings that every tree search shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from planning.model import PlanningError


@dataclass(frozen=True)
class TreeOptions:
    """How a tree is grown; the rule that grows it is the search's own."""

    merge_equal_states: bool = False
    """Let states of equal handle and equal depth share what was found out below them."""
    early_stop: bool = False
    """Stop at a root as soon as the simulations left cannot change the action chosen at
    temperature 0; visit counts are then smaller than asked for."""
    mctx_semantics: bool = False
    """Search as mctx does: go on past transitions of discount 0, and mix noise into the root's policy
    before illegal actions are masked rather than after."""
    precision: Literal["float32", "float64"] = "float32"
    """Type of the tree's numbers."""
    max_batch: int | None = None
    """Most roots that are searched at a time, one such group after the other; None for all at once.
    A small group's trees stay in the processor's cache, a large group keeps a large model busy."""
    num_threads: int = 1
    """Threads that work on the trees of a batch; the result is the same for any number."""
    compiled: bool = True
    """Use the Numba kernels; without Numba, or with False, their NumPy twins do the same more slowly."""

    @property
    def dtype(self) -> type:
        """NumPy type of the tree's numbers."""
        return np.float32 if self.precision == "float32" else np.float64


@dataclass(frozen=True)
class RootNoise:
    """Random numbers given from outside; what is None is drawn from the search's seed."""

    policy: Float[np.ndarray, "B A"] | None = None
    """Dirichlet sample (`muzero`) or Gumbel sample with its scale applied (`gumbel_muzero`)."""
    choice: Float[np.ndarray, "B A"] | None = None
    """Gumbel sample that draws the final action in proportion to the visits (`muzero`)."""


DEFAULTS = TreeOptions()
DRAWN = RootNoise()


def check_settings(least: float | int, **settings: float | int) -> None:
    """Refuse numbers that are too small or no numbers.

    Raises:
        PlanningError: naming the setting.
    """
    for name, value in settings.items():
        if not value >= least:
            raise PlanningError(f"{name} is {value}; it must be at least {least:g}")


def check_budget(num_simulations: int, max_depth: int | None, options: TreeOptions) -> None:
    """Refuse a search that could not take a step.

    Raises:
        PlanningError: for fewer than 1 simulation, depth or thread, or an unknown precision.
    """
    if options.precision not in ("float32", "float64"):
        raise PlanningError(f"precision is {options.precision!r}; it must be 'float32' or 'float64'")
    if num_simulations < 1:
        raise PlanningError(f"num_simulations is {num_simulations}; it must be at least 1")
    if max_depth is not None and max_depth < 1:
        raise PlanningError(f"max_depth is {max_depth}; it must be at least 1, or None for no limit")
    if options.num_threads < 1:
        raise PlanningError(f"num_threads is {options.num_threads}; it must be at least 1")
    if options.max_batch is not None and options.max_batch < 1:
        raise PlanningError(f"max_batch is {options.max_batch}; it must be at least 1, or None for no limit")
