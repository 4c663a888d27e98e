"""What the demo does in each game: its data, its training, its games. Found by trial on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.acting import ActingConfig
from world_model.recipes import RECIPES
from world_model.train_config import TrainConfig


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


_TINY = RECIPES["tiny"]
_BEST_SHARE = 0.5
"""The recorded players are of very different skill, and the worse half is left out."""

DEMO_GAMES: dict[str, DemoGame] = {
    "Freeway": DemoGame(
        game="Freeway",
        question="Does learning work at all? The recorded players hesitate: they walk up with probabilities "
        "from 0.3 to 0.9. Who learns from them that walking up pays scores far more than they do.",
        behaviour="up=0.3..0.9",
        steps=20_000,
        max_decisions=1000,
        episodes=10,
        # A crossing takes longer than a few decisions, so the return itself is the better target.
        recipe=replace(
            _TINY,
            joint_steps=1200,
            loss=replace(_TINY.loss, td_target="monte_carlo", cql_weight=1.0, cql_temperature=1.0),
            value_range=(-2.0, 2.0),
            best_share=_BEST_SHARE,
        ),
        acting=ActingConfig(),
    ),
    "Pong": DemoGame(
        game="Pong",
        question="What does planning add? The recorded players follow the ball, some of them late and some "
        "too early, and up to a third of their decisions are random. The Q head learns from them in minutes; "
        "the planner asks it about states two steps ahead as well.",
        behaviour="chaser=0..8@0..0.3",
        steps=100_000,
        max_decisions=1000,
        episodes=10,
        # These players miss some shots every time, and Pong plays the same shot again until it is met: what
        # turned out better than expected shows how (weights of 1.6 in the mean, so 6 is what 10 is else).
        recipe=replace(
            _TINY,
            joint_steps=3000,
            loss=replace(_TINY.loss, cql_weight=6.0, advantage_temperature=0.25),
            value_head=True,
            value_range=(-1.5, 1.5),
            best_share=_BEST_SHARE,
        ),
        acting=ActingConfig(),
    ),
}
"""The games of the demo."""
