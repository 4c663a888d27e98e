"""What solving needs to know of an instance of a game."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Baseline:
    """A plan by a known heuristic."""

    name: str
    """Of the heuristic."""
    plan: Any
    """What it came to."""


class Task(Protocol):
    """One instance. It is sent to other processes, so it must be picklable; plans likewise."""

    @property
    def name(self) -> str:
        """Of the instance."""
        ...

    @property
    def objective_name(self) -> str:
        """What is made small, with its unit."""
        ...

    @property
    def bound(self) -> float:
        """No plan is better."""
        ...

    def baselines(self) -> Sequence[Baseline]:
        """Plans by all heuristics of the game."""
        ...

    def small(self) -> Task:
        """A small instance of the same game and agent, to compile on what a search runs."""
        ...

    def search(self, seed: int, seconds: float, found: Callable[[Any], None]) -> None:
        """Search for plans by the agent alone, and hand over each that is better than those before.

        Args:
            seed: of this start; different seeds search differently.
            seconds: how long; the search ends by itself.
            found: takes a plan.
        """
        ...

    def objective(self, plan: Any) -> float:
        """What a plan costs, in the unit of `objective_name`."""
        ...

    def violations(self, plan: Any) -> Sequence[str]:
        """What is wrong with a plan, in sentences; empty for a valid one."""
        ...

    def write(self, plan: Any, path: Path) -> None:
        """Write a plan to a file, beside and renamed in place."""
        ...

    def draw(self, plan: Any, path: Path) -> Sequence[Path]:
        """Draw a plan beside the file that holds it; the pictures and pages made."""
        ...
