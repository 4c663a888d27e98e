"""What chooses actions while data is collected: the protocol, random play and noise.

A behaviour is made anew for every episode, from its own random generator, and may remember what it
likes within the episode. Controllers that read a game's memory are in `datasets.controllers`, those
that try actions in a second emulator in `datasets.lookahead`, names and mixtures in
`datasets.mixtures`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from datasets.atari import AtariEmulator
from datasets.games import Game


class Behaviour(Protocol):
    """Chooses an action for the present moment of an emulator, which it leaves as it is."""

    def act(self, emulator: AtariEmulator) -> int:
        """Return a legal action, as an index of the 18-action vocabulary."""
        ...


class RandomPlay:
    """A random legal action, which is kept with a given probability at every later decision.

    Args:
        game: the game, for its legal actions.
        persistence: probability of keeping the last action; 0 draws anew at every decision.
        random: source of chance.
    """

    def __init__(self, game: Game, persistence: float, random: np.random.Generator) -> None:
        self._legal = game.legal_actions
        self._persistence = persistence
        self._random = random
        self._action: int | None = None

    def act(self, emulator: AtariEmulator) -> int:
        """Return the last action or a new random one."""
        if self._action is None or self._random.random() >= self._persistence:
            self._action = int(self._random.choice(self._legal))
        return self._action


class EpsilonNoise:
    """Another behaviour, with a random legal action in its place at a given share of the decisions.

    Args:
        behaviour: what chooses the other actions; it is asked at every decision, so that it sees them all.
        epsilon: probability of a random action.
        game: the game, for its legal actions.
        random: source of chance.
    """

    def __init__(self, behaviour: Behaviour, epsilon: float, game: Game, random: np.random.Generator) -> None:
        self._behaviour = behaviour
        self._epsilon = epsilon
        self._legal = game.legal_actions
        self._random = random

    def act(self, emulator: AtariEmulator) -> int:
        """Return the behaviour's action or a random one."""
        action = self._behaviour.act(emulator)
        if self._random.random() < self._epsilon:
            return int(self._random.choice(self._legal))
        return action
