"""What the demo does in each game: its data, its training, its games. Found by trial on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.acting import ActingConfig
from world_model.losses import LossConfig
from world_model.recipes import RECIPES, TrainConfig


@dataclass(frozen=True)
class DemoGame:
    """The demo's recipe for one game."""

    game: str
    """Name of the game."""
    question: str
    """What the game is to show, in words."""
    behaviour: str
    """Who plays for the data, in the words of `datasets.collect`."""
    steps: int
    """Decisions of data."""
    max_decisions: int
    """Length of the games, in the data and in play."""
    episodes: int
    """Games that each player plays."""
    recipe: TrainConfig
    """How it is trained; data, run and seed are filled in."""
    acting: ActingConfig
    """How the planned agent acts; the greedy one does the same without planning."""
