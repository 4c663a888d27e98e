"""Behaviours that try what they could do in a second emulator before they do it.

The second emulator, the simulator, starts from a clone of the game in play and follows it exactly,
but for sticky actions and noise, which nobody can foresee. Nothing here is for evaluating an agent:
looking into the emulator's future is a way of making good data.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from datasets.atari import AtariEmulator, EmulatorState
from datasets.behaviours import Behaviour, RandomPlay
from datasets.controllers import DOWN, NOOP, UP, PongTracker, freeway_height, pong_ball
from datasets.games import Game

_DISCOUNT = 0.99


class ActionSequence:
    """Takes one action for some decisions, then leaves the choice to another behaviour.

    Args:
        action: the first action.
        decisions: for how long it is held.
        then: what chooses afterwards.
    """

    def __init__(self, action: int, decisions: int, then: Behaviour) -> None:
        self._action = action
        self._left = decisions
        self._then = then

    def act(self, emulator: AtariEmulator) -> int:
        """Return the held action, or the other behaviour's."""
        if self._left:
            self._left -= 1
            return self._action
        return self._then.act(emulator)


@dataclass(frozen=True, order=True)
class Outcome:
    """What a trial led to; the greater the better, and no reward outweighs a life."""

    lives: float
    """Minus the lives lost, later ones weighing less."""
    reward: float
    """Rewards, later ones weighing less."""


def try_behaviour(
    simulator: AtariEmulator, state: EmulatorState, behaviour: Behaviour, decisions: int
) -> Outcome:
    """Play a behaviour from a state of the game, at most so many decisions, without sticky actions.

    Args:
        simulator: an emulator of the same game; it is left where the trial ended.
        state: where the trial starts.
        behaviour: what chooses its actions.
        decisions: its length at most; it stops early when the game is over.
    """
    simulator.restore(state)
    lives, discount = simulator.lives, 1.0
    lost = total = 0.0
    for _ in range(decisions):
        reward, over = simulator.advance(behaviour.act(simulator))
        total += discount * reward
        lost += discount * max(0, lives - simulator.lives)
        lives = simulator.lives
        discount *= _DISCOUNT
        if over:
            break
    return Outcome(-lost, total)


class Lookahead:
    """Tries every legal action and takes the one that led to most; works for any game.

    In a trial the action is held for as long as it will be played, and random actions follow: they are
    the same for all trials of a moment. Equal outcomes are decided by chance.

    Args:
        game: the game, for its legal actions.
        simulator: a second emulator of the game.
        random: source of chance.
        horizon: decisions of a trial.
        commit: decisions for which the chosen action is played.
    """

    def __init__(
        self,
        game: Game,
        simulator: AtariEmulator,
        random: np.random.Generator,
        horizon: int,
        commit: int = 4,
    ) -> None:
        self._game = game
        self._simulator = simulator
        self._random = random
        self._horizon = horizon
        self._commit = commit
        self._left = 0
        self._action = 0

    def act(self, emulator: AtariEmulator) -> int:
        """Return the action chosen, which is chosen anew when it was played long enough."""
        if not self._left:
            self._action = self._choose(emulator)
            self._left = self._commit
        self._left -= 1
        return self._action

    def _choose(self, emulator: AtariEmulator) -> int:
        state = emulator.clone()
        seed = int(self._random.integers(2**32))
        trials: list[tuple[Outcome, int]] = []
        for action in self._random.permutation(self._game.legal_actions):
            then = RandomPlay(self._game, persistence=0.75, random=np.random.default_rng(seed))
            behaviour = ActionSequence(int(action), self._commit, then)
            trials.append((try_behaviour(self._simulator, state, behaviour, self._horizon), int(action)))
        return max(trials, key=lambda trial: trial[0])[1]


class PongShots:
    """Tries several strokes of each ball and plays one after which a point is won, if there is any.

    Args:
        simulator: a second emulator of Pong.
        random: source of chance.
    """

    # Strokes are tried from this far on, every so many decisions, until one of them wins.
    _FROM, _EVERY = 90.0, 12
    # A trial lasts until the opponent has met or missed the ball; a winning stroke is played this long.
    _HORIZON, _PLAY_WINNER = 60, 25
    # Pixels from the middle of the paddle to the ball.
    _AIMS = tuple(range(-15, 16, 3))

    def __init__(self, simulator: AtariEmulator, random: np.random.Generator) -> None:
        self._simulator = simulator
        self._random = random
        self._tracker = PongTracker(random, aim=0.0)
        self._wait = 0

    def act(self, emulator: AtariEmulator) -> int:
        """Return the chosen stroke's next action."""
        ball = pong_ball(emulator.ram)
        self._wait = max(0, self._wait - 1)
        if not self._wait and ball.in_play and ball.speed_along > 0 and ball.along >= self._FROM:
            self._choose(emulator)
        return self._tracker.act(emulator)

    def _choose(self, emulator: AtariEmulator) -> None:
        """Set the stroke to play and for how long."""
        state = emulator.clone()
        strokes = [self._tracker, *map(self._tracker.aimed_at, self._random.permutation(self._AIMS))]
        best: tuple[Outcome, PongTracker] | None = None
        for stroke in strokes:
            outcome = try_behaviour(self._simulator, state, copy.copy(stroke), self._HORIZON)
            if best is None or outcome > best[0]:
                best = outcome, stroke
            if outcome.reward > 0:
                break
        assert best is not None
        self._tracker = best[1]
        self._wait = self._PLAY_WINNER if best[0].reward > 0 else self._EVERY


class FreewayDodger:
    """Walks up unless that would run into a car; then waits or steps back if that gets it further.

    Args:
        simulator: a second emulator of Freeway.
    """

    _HORIZON, _COMMIT = 12, 2
    # A crossing is worth more than the pixels that it puts the chicken back to the start.
    _CROSSING, _STEP = 250, 4

    def __init__(self, simulator: AtariEmulator) -> None:
        self._simulator = simulator
        self._left = 0
        self._action = UP

    def act(self, emulator: AtariEmulator) -> int:
        """Return up, nothing or down."""
        if not self._left:
            self._action = self._choose(emulator)
            self._left = self._COMMIT
        self._left -= 1
        return self._action

    def _choose(self, emulator: AtariEmulator) -> int:
        state, start = emulator.clone(), freeway_height(emulator.ram)
        best = UP, -np.inf
        for action in (UP, NOOP, DOWN):
            behaviour = ActionSequence(action, self._COMMIT, _Up())
            outcome = try_behaviour(self._simulator, state, behaviour, self._HORIZON)
            gained = outcome.reward * self._CROSSING + freeway_height(self._simulator.ram) - start
            if gained > best[1]:
                best = action, gained
            if gained >= self._STEP * self._HORIZON:
                break
        return best[0]


class _Up:
    def act(self, emulator: AtariEmulator) -> int:
        return UP
