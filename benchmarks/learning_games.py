"""What `benchmarks.learning` does in each game: who plays for the data, how it is trained, how it acts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.acting import ActingConfig
from agents.demo_games import DEMO_GAMES
from datasets.errors import UserError
from datasets.games import find_game
from world_model.recipes import RECIPES
from world_model.train_config import TrainConfig

EPSILON = 0.02
"""Share of random actions of every player that learned: games from different starts are often the same."""


@dataclass(frozen=True)
class LearningGame:
    """The recipe of one game."""

    game: str
    """Name of the game."""
    behaviour: str
    """Who plays for the data, in the words of `datasets.collect`."""
    steps: int
    """Decisions of data for half an hour's run or more; shorter ones take their share, at least a third."""
    recipe: TrainConfig
    """How it is trained; data, run, seed and steps are filled in."""
    world_share: float
    """Share of the training steps in which the world part is trained alone."""

    def data_steps(self, minutes: float) -> int:
        """Decisions of data of a run of so many minutes."""
        return round(self.steps * min(1.0, max(1 / 3, minutes / 30)))


_FREEWAY, _PONG = DEMO_GAMES["Freeway"], DEMO_GAMES["Pong"]

LEARNING_GAMES: dict[str, LearningGame] = {
    "Freeway": LearningGame(
        game="Freeway",
        # Half of the players see the cars come, and are random in up to half of their decisions.
        behaviour="dodger@0..0.5:0.5,up=0.3..0.9:0.5",
        steps=60_000,
        recipe=replace(
            _PONG.recipe,
            loss=replace(_PONG.recipe.loss, discount=0.98, advantage_temperature=0.1),
            value_range=(-2.0, 2.0),
        ),
        world_share=0.1,
    ),
    "Pong": LearningGame(
        game="Pong",
        behaviour=_PONG.behaviour,
        steps=300_000,
        recipe=_PONG.recipe,
        world_share=0.05,
    ),
    "Breakout": LearningGame(
        game="Breakout",
        behaviour=_PONG.behaviour,
        steps=300_000,
        # Good players here are never far from the ball; how to get back to it is seen in the others' play.
        # With 1024 codes the ball is often not drawn where it meets the paddle. What a search can know of a
        # state is whether the ball will be missed; bricks tell it little.
        recipe=replace(
            RECIPES["tiny"],
            tokenizer="dictionary_2048",
            value_range=(-1.0, 5.0),
            value_head=True,
            value_of="failures",
        ),
        world_share=0.05,
    ),
    "SpaceInvaders": LearningGame(
        game="SpaceInvaders",
        behaviour="lookahead=12@0..0.6:0.4,sticky=0.9:0.6",
        steps=90_000,
        recipe=replace(_FREEWAY.recipe, value_range=(-1.0, 5.0)),
        world_share=0.05,
    ),
}
"""The games of the benchmark."""


def greedy_players(game: LearningGame) -> dict[str, ActingConfig]:
    """Ways in which our agent acts in a game without planning."""
    greedy = ActingConfig(planner="greedy", context_frames=game.recipe.context_frames, epsilon=EPSILON)
    return {
        "greedy": greedy,
        # Two imagined frames leave the beams that look two steps ahead so many real ones.
        "greedy, planner's context": replace(greedy, context_frames=greedy.context_frames - 2),
    }


def planners_of(game: LearningGame) -> dict[str, ActingConfig]:
    """Ways in which our agent plans in a game."""
    ours = ActingConfig(context_frames=game.recipe.context_frames, epsilon=EPSILON)
    actions = len(find_game(game.game).legal_actions)

    def beam(width: int, horizon: int, decay: float) -> ActingConfig:
        return replace(ours, beam_width=min(width, actions), horizon=horizon, trace_decay=decay)

    return {
        "beam, every action, decay 0.3": beam(actions, 1, 0.3),
        "beam, every action, decay 0.5": beam(actions, 1, 0.5),
        "beam 2x2": beam(2, 2, 1.0),
        "beam 2x2, decay 0.5": beam(2, 2, 0.5),
        "beam 3x2, decay 0.5": beam(3, 2, 0.5),
        "beam 2x3, decay 0.5": beam(2, 3, 0.5),
        "tree search": replace(ours, planner="mcts", num_simulations=8, horizon=3),
    }


def find_learning_game(name: str) -> LearningGame:
    """The recipe of a game.

    Raises:
        UserError: no such game, or none with a recipe.
    """
    game = find_game(name).name
    if game not in LEARNING_GAMES:
        raise UserError(f"there is no recipe for {game}; name one of {', '.join(LEARNING_GAMES)}")
    return LEARNING_GAMES[game]
