"""What the demo does in each game: its data, its training, its games. Found by trial on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.acting import ActingConfig
from world_model.losses import LossConfig
from world_model.recipes import RECIPES
from world_model.train_config import TrainConfig
from world_model.training import OptimizerConfig


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


_TINY = replace(
    RECIPES["tiny"],
    context_frames=4,
    stride=1,
    tokenizer="dictionary",
    tokenizer_steps=100,
    tokenizer_optimizer=OptimizerConfig(5e-4, schedule="cosine"),
    batch_size=6,
    world_optimizer=OptimizerConfig(2e-3, warmup_steps=50),
    joint_optimizer=OptimizerConfig(2e-3, warmup_steps=50, schedule="cosine"),
    # What happens within ten decisions or so can be read off a frame of Pong; what comes later is chance.
    # Linear regression from pixels explains 39% of the return at this discount, and 3% at 0.97. In Freeway
    # it explains 75% at 0.97, and only there do neighbouring heights of the chicken differ in value.
    loss=LossConfig(td_target="monte_carlo", discount=0.9, supervised_weight=1.0),
    value_range=(-1.5, 1.5),
)

DEMO_GAMES: dict[str, DemoGame] = {
    "Freeway": DemoGame(
        game="Freeway",
        question="Does learning work at all? The recorded players hesitate: they walk up with probabilities "
        "from 0.3 to 0.9. Who learns from them that walking up pays scores far more than they do.",
        behaviour="up=0.3..0.9",
        steps=20_000,
        max_decisions=1000,
        episodes=10,
        recipe=replace(
            _TINY,
            tokenizer="tiny",
            tokenizer_steps=1000,
            tokenizer_optimizer=RECIPES["tiny"].tokenizer_optimizer,
            # A planner needs to see what its actions change: trained for 300 and 1800 steps, imagined frames
            # were the same whatever the action, and planning halved the score.
            world_steps=2500,
            joint_steps=1500,
            loss=replace(_TINY.loss, discount=0.97),
            value_range=(-2.0, 2.0),
        ),
        acting=ActingConfig(beam_width=2, horizon=2),
    ),
    "Pong": DemoGame(
        game="Pong",
        question="What does planning add? The recorded players follow the ball, but many of their decisions "
        "are random. Returns of such play hardly tell one action from another, which is hard on the Q head "
        "alone. The planner asks it about states two steps ahead instead, where actions have had effect.",
        behaviour="tracker@0..0.5:0.4,shots@0..0.4:0.35,tracker@0.5..1:0.25",
        steps=60_000,
        max_decisions=300,
        episodes=16,
        recipe=replace(_TINY, world_steps=300, joint_steps=9000),
        # Wide enough to try moving up, moving down and staying, which two of six actions never are.
        acting=ActingConfig(beam_width=3, horizon=2),
    ),
}
"""The games of the demo."""
