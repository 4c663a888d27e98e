"""Behaviours by name, and mixtures of them, as they are written on a command line.

    NAME[=VALUE][@EPSILON][:WEIGHT], NAME...

for example `tracker:0.6,random:0.2,tracker@0.3:0.2`. VALUE sets what the behaviour may be set to,
EPSILON is the share of decisions that are random instead, WEIGHT the share of episodes. VALUE and
EPSILON may be a range such as `0.3..0.9`, from which each episode draws its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets.atari import AtariEmulator
from datasets.behaviours import Behaviour, EpsilonNoise, RandomPlay
from datasets.controllers import BallChaser, BreakoutTracker, FreewayWalker, PongTracker
from datasets.errors import UserError
from datasets.games import Game
from datasets.lookahead import FreewayDodger, Lookahead, PongShots

# The fractional parts of its multiples cover 0 to 1 evenly from the first few on.
_GOLDEN_RATIO = 0.5 * (5**0.5 - 1)


@dataclass(frozen=True)
class Kind:
    """A behaviour that has a name."""

    name: str
    """Its name on the command line."""
    help: str
    """What it does, in words."""
    make: Callable[[Game, AtariEmulator, np.random.Generator, float], Behaviour]
    """Makes one for an episode from the game, a second emulator, a source of chance and its value."""
    games: tuple[str, ...] = ()
    """Names of the games that it can play; none means every game."""
    default: float | None = None
    """Its value where none is given; None if there is nothing to set."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Least and greatest value."""

    def plays(self, game: Game) -> bool:
        """Whether it can play a game."""
        return not self.games or game.name in self.games


def _tracker(game: Game, _: AtariEmulator, random: np.random.Generator, __: float) -> Behaviour:
    return PongTracker(random) if game.name == "Pong" else BreakoutTracker(random)


KINDS = (
    Kind("random", "a random legal action", lambda game, _, random, __: RandomPlay(game, 0.0, random)),
    Kind(
        "sticky",
        "a random legal action, kept at each decision with probability VALUE",
        lambda game, _, random, value: RandomPlay(game, value, random),
        default=0.9,
    ),
    Kind(
        "tracker",
        "meets the ball where it will come; @0.02 gets it out of endless rallies",
        _tracker,
        games=("Breakout", "Pong"),
    ),
    Kind(
        "chaser",
        "follows the ball, by where it will be VALUE emulator frames ahead",
        lambda game, _, __, value: BallChaser(game, value),
        games=("Breakout", "Pong"),
        default=4.0,
        bounds=(0.0, 20.0),
    ),
    Kind(
        "up",
        "walks up with probability VALUE",
        lambda _, __, random, value: FreewayWalker(value, random),
        games=("Freeway",),
        default=1.0,
    ),
    Kind(
        "shots",
        "tries strokes in a second emulator and plays one that wins",
        lambda _, simulator, random, __: PongShots(simulator, random),
        games=("Pong",),
    ),
    Kind(
        "dodger",
        "walks up and evades the cars that a second emulator shows",
        lambda _, simulator, __, ___: FreewayDodger(simulator),
        games=("Freeway",),
    ),
    Kind(
        "lookahead",
        "tries every action in a second emulator, looking VALUE decisions ahead, and plays the best for 4",
        lambda game, simulator, random, value: Lookahead(game, simulator, random, round(value)),
        default=24.0,
        bounds=(1.0, 1000.0),
    ),
    # Who learns from players that repeat their actions may learn to repeat its own.
    Kind(
        "mpc",
        "model-predictive control: as lookahead, but chooses anew at every decision",
        lambda game, simulator, random, value: Lookahead(game, simulator, random, round(value), commit=1),
        default=2.0,
        bounds=(1.0, 1000.0),
    ),
)


@dataclass(frozen=True)
class Range:
    """A number, or the range that each episode draws its own from."""

    low: float
    """Least number."""
    high: float
    """Greatest number; equal to `low` for a fixed number."""

    def draw(self, random: np.random.Generator) -> float:
        """Draw a number evenly, to three decimals so that its text is exact."""
        return self.low if self.low == self.high else round(random.uniform(self.low, self.high), 3)


@dataclass(frozen=True)
class EpisodeBehaviour:
    """What plays one episode: a named behaviour with its numbers drawn."""

    kind: Kind
    """Which behaviour."""
    value: float | None
    """What it is set to."""
    epsilon: float
    """Share of random decisions."""

    def __str__(self) -> str:
        value = "" if self.value is None else f"={self.value:g}"
        return f"{self.kind.name}{value}" + (f"@{self.epsilon:g}" if self.epsilon else "")

    def make(self, game: Game, simulator: AtariEmulator, random: np.random.Generator) -> Behaviour:
        """Make the behaviour for one episode.

        Args:
            game: the game.
            simulator: a second emulator of the game, for behaviours that look ahead.
            random: source of chance.
        """
        behaviour = self.kind.make(game, simulator, random, self.value or 0.0)
        return EpsilonNoise(behaviour, self.epsilon, game, random) if self.epsilon else behaviour


@dataclass(frozen=True)
class MixtureItem:
    """One behaviour of a mixture."""

    text: str
    """How it was written, without its weight."""
    kind: Kind
    """Which behaviour."""
    value: Range | None
    """What it is set to."""
    epsilon: Range
    """Share of random decisions."""
    weight: float
    """Its share of the episodes, against the sum of all weights."""


@dataclass(frozen=True)
class Mixture:
    """Behaviours and the shares of episodes that they play."""

    items: tuple[MixtureItem, ...]
    """The behaviours, in the order they were written."""

    def item_of(self, seed: int, episode: int) -> MixtureItem:
        """The item that plays an episode.

        Episodes are dealt out evenly, not by lot: the shares hold within a few episodes from the first on.

        Args:
            seed: seed of the collection.
            episode: index of the episode.
        """
        shares = np.cumsum([item.weight for item in self.items])
        place = (np.random.default_rng(seed).random() + episode * _GOLDEN_RATIO) % 1.0
        return self.items[
            min(int(np.searchsorted(shares, place * shares[-1], side="right")), len(shares) - 1)
        ]

    def draw(self, seed: int, episode: int, random: np.random.Generator) -> EpisodeBehaviour:
        """What plays an episode, its numbers drawn from the episode's own chance."""
        item = self.item_of(seed, episode)
        value = None if item.value is None else item.value.draw(random)
        return EpisodeBehaviour(item.kind, value, item.epsilon.draw(random))


_ITEM = re.compile(r"^(?P<name>[a-z]+)(=(?P<value>[^@:]+))?(@(?P<epsilon>[^:]+))?(:(?P<weight>.+))?$")
_GRAMMAR = "write it as NAME[=VALUE][@EPSILON][:WEIGHT], such as tracker@0.3:0.5"


def parse_mixture(text: str, game: Game) -> Mixture:
    """Read a mixture as it is written on the command line.

    Raises:
        UserError: an item is not well written, its name is unknown or of another game, or a number is out
            of its range; the sentence names the item and what would do.
    """
    items = tuple(_parse_item(item.strip(), game) for item in text.split(","))
    if not sum(item.weight for item in items) > 0:
        raise UserError(f"behaviour {text!r}: all weights are 0; give at least one a weight above 0")
    return Mixture(items)


def describe_kinds() -> str:
    """One paragraph for each named behaviour, for the help text."""
    lines = []
    for kind in KINDS:
        name = kind.name if kind.default is None else f"{kind.name}=VALUE (default {kind.default:g})"
        games = f" [{', '.join(kind.games)}]" if kind.games else ""
        lines.append(f"{name}: {kind.help}{games}")
    return "\n\n".join(lines)


def _parse_item(text: str, game: Game) -> MixtureItem:
    match = _ITEM.match(text)
    if not match:
        raise UserError(f"behaviour {text!r} is not well written; {_GRAMMAR}")
    kind = _find_kind(match["name"], text, game)
    value = None
    if kind.default is not None:
        value = _parse_range(match["value"] or f"{kind.default:g}", kind.bounds, "value", text)
    elif match["value"]:
        raise UserError(f"behaviour {text!r}: {kind.name} has no value to set; leave ={match['value']} out")
    epsilon = _parse_range(match["epsilon"] or "0", (0.0, 1.0), "epsilon", text)
    weight = _parse_number(match["weight"] or "1", "weight", text)
    if not 0 <= weight < float("inf"):
        raise UserError(f"behaviour {text!r}: weight is {weight:g}; it must be a number of at least 0")
    return MixtureItem(text.partition(":")[0], kind, value, epsilon, weight)


def _find_kind(name: str, text: str, game: Game) -> Kind:
    playable = ", ".join(kind.name for kind in KINDS if kind.plays(game))
    for kind in KINDS:
        if kind.name == name:
            if not kind.plays(game):
                raise UserError(
                    f"behaviour {text!r}: {name} plays {' and '.join(kind.games)}, not {game.name}; "
                    f"{game.name} has {playable}"
                )
            return kind
    raise UserError(f"behaviour {text!r}: there is no {name!r}; {game.name} has {playable}")


def _parse_range(text: str, bounds: tuple[float, float], field: str, item: str) -> Range:
    first, dots, last = text.partition("..")
    low = _parse_number(first, field, item)
    high = _parse_number(last, field, item) if dots else low
    if not bounds[0] <= low <= high <= bounds[1]:
        raise UserError(
            f"behaviour {item!r}: {field} is {text}; it must lie between {bounds[0]:g} and {bounds[1]:g}, "
            "and a range must go up"
        )
    return Range(low, high)


def _parse_number(text: str, field: str, item: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"behaviour {item!r}: {field} {text!r} is not a number; {_GRAMMAR}") from error
