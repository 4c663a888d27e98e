"""Which item of which game is drawn at a step: the arithmetic of sampling, without any data.

Letters: E episodes, G games, B items drawn at a step.

An item is whatever a sampler draws: a segment, or a frame. A draw is a function of (seed, stream, step)
alone, so a run that resumes at a step draws what it would have drawn, and any process can draw for any
other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from datasets.errors import UserError
from datasets.games import find_game

Split = Literal["train", "held_out", "all"]
"""Which episodes to draw from; `all` holds nothing aside."""


@dataclass(frozen=True)
class SamplingConfig:
    """What is drawn at a step."""

    batch_size: int = 32
    """Items drawn at a step."""
    games: tuple[str, ...] = ()
    """Games to draw from, with weights if wanted, such as Pong=2 Breakout=1; all in the stores if empty."""
    weighting: Literal["size", "equal"] = "size"
    """Where no weights are given, draw each game by its share of the data, or all games equally often."""
    held_out_fraction: float = 0.05
    """Share of whole episodes of each game that is kept aside for validation."""
    best_share: float = 1.0
    """Draw only from the episodes of highest score that hold this share of each game's items."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size}; it must be at least 1")
        if not 0.0 < self.best_share <= 1.0:
            raise UserError(f"best_share is {self.best_share}; it must be above 0 and at most 1")


def parse_games(games: Sequence[str]) -> dict[str, float | None]:
    """Read `Pong` or `Pong=2` into the game's name and its weight, None where none is given.

    Raises:
        UserError: an unknown or repeated game, or a weight that is not a positive number.
    """
    weights: dict[str, float | None] = {}
    for text in games:
        name, equals, number = text.partition("=")
        game = find_game(name).name
        if game in weights:
            raise UserError(f"game {game} is named twice; name each game once")
        weights[game] = None
        if equals:
            try:
                weight = float(number)
            except ValueError:
                weight = 0.0
            if not 0.0 < weight < float("inf"):
                raise UserError(f"the weight in {text!r} is not a positive number; write it like {game}=2")
            weights[game] = weight
    return weights


def select_games(games: Sequence[str], held: Sequence[str], where: str) -> dict[str, float | None]:
    """The games to draw from and their weights, None where none is given.

    Args:
        games: as in `SamplingConfig.games`; all games held if empty.
        held: the games that the stores hold.
        where: the stores, for the message.

    Raises:
        UserError: a game is asked for that no store holds; the sentence lists those they hold.
    """
    if not games:
        return dict.fromkeys(sorted(set(held)))
    asked = parse_games(games)
    missing = [game for game in asked if game not in held]
    if missing:
        raise UserError(
            f"{where}: no episodes of {' and '.join(missing)}, only of {', '.join(sorted(set(held)))}; "
            "name one of these, or collect what is missing"
        )
    return asked


def game_probabilities(
    weights: Mapping[str, float | None], sizes: Int[np.ndarray, "G"], weighting: Literal["size", "equal"]
) -> Float[np.ndarray, "G"]:
    """Chance of each game at a draw; 0 where there is nothing to draw, and in sum 1.

    Args:
        weights: the games in order, with the weights given; if any is given, those without count 1.
        sizes: items of each game, not all 0.
        weighting: what to go by where no weight is given at all.
    """
    given = list(weights.values())
    if any(weight is not None for weight in given):
        chances = np.array([1.0 if weight is None else weight for weight in given])
    elif weighting == "equal":
        chances = np.ones(len(sizes))
    else:
        chances = sizes.astype(np.float64)
    chances = np.where(sizes > 0, chances, 0.0)
    return chances / chances.sum()


class Mixture:
    """Items of several games, numbered from 0 by game and then episode, and the draws among them.

    Args:
        sizes: items of each episode.
        games: the game of each episode.
        weights: the games to draw from, as `select_games` gives them.
        config: batch size, weighting and seed.
        stream: what the draws are for; different streams of a seed are independent.
    """

    def __init__(
        self,
        sizes: Int[np.ndarray, "E"],
        games: Sequence[str],
        weights: Mapping[str, float | None],
        config: SamplingConfig,
        stream: int,
    ) -> None:
        self._batch_size = config.batch_size
        self._key = np.array([config.seed % 2**64, stream], dtype=np.uint64)
        of_game = [
            np.flatnonzero((np.array(games) == game) & (sizes > 0))
            if len(games)
            else np.zeros(0, dtype=np.int64)
            for game in weights
        ]
        self.episodes = np.concatenate(of_game)
        """Episodes with items, in the order of the items."""
        self._stops = np.cumsum(sizes[self.episodes])
        self._starts = self._stops - sizes[self.episodes]
        self._game_sizes = np.array([sizes[episodes].sum() for episodes in of_game], dtype=np.int64)
        self._game_starts = np.cumsum(self._game_sizes) - self._game_sizes
        if len(self):
            chances = game_probabilities(weights, self._game_sizes, config.weighting)
            self.probabilities = dict(zip(weights, chances.tolist(), strict=True))
            """Chance of each game at a draw."""
            self._cumulative = np.cumsum(chances)

    def __len__(self) -> int:
        return int(self._game_sizes.sum())

    def draw(self, step: int) -> Int[np.ndarray, "B"]:
        """The items of a step: a game by its chance, then any of its items alike, with replacement."""
        # A counter-based generator is stateless: the step is part of the counter.
        counter = np.array([0, 0, 0, step], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        uniform = generator.random((2, self._batch_size))
        game = np.searchsorted(self._cumulative, uniform[0] * self._cumulative[-1], side="right")
        number = (uniform[1] * self._game_sizes[game]).astype(np.int64)
        return self._game_starts[game] + number

    def locate(self, items: Int[np.ndarray, "B"]) -> tuple[Int[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """The episode of each item, and which of that episode's items it is."""
        position = np.searchsorted(self._stops, items, side="right")
        return self.episodes[position], items - self._starts[position]
