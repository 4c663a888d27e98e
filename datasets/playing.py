"""Whole episodes, each a function of the settings and its index alone.

Letters: T steps of an episode.
"""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from datasets.atari import AtariEmulator
from datasets.behaviour_mixtures import parse_mixture
from datasets.executor import Executor, Report, Show, Tally, Worker
from datasets.games import find_game

# Decisions between two looks at whether to stop.
_DECISIONS_PER_REPORT = 32


@dataclass(frozen=True)
class PlaySettings:
    """What, with its index, decides an episode."""

    game: str
    """The game's name."""
    behaviour: str
    """The mixture of behaviours that play, as written on the command line."""
    seed: int
    """Seed of everything."""
    sticky_action_probability: float
    """Probability that an emulator frame repeats the last action."""
    max_noops: int
    """An episode starts after 1 to this many frames without action, drawn at random; 0 for none."""
    max_decisions: int
    """Decisions after which an episode is cut short."""


@dataclass(frozen=True, eq=False)
class PlayedEpisode:
    """An episode as a worker hands it over."""

    index: int
    """Its index."""
    frames: UInt8[np.ndarray, "T 84 84"]
    """Frame seen before each action."""
    actions: UInt8[np.ndarray, "T"]
    """Actions, as indices of the 18-action vocabulary."""
    rewards: Float32[np.ndarray, "T"]
    """Rewards as the game gave them."""
    lives: UInt8[np.ndarray, "T"]
    """Lives left before each action; 0 in games without lives."""
    ended: bool
    """True if the game was over, False if it was cut short."""
    behaviour: str
    """What played, its numbers drawn, in the words of the command line."""
    seed: int
    """Seed of its no-ops, sticky actions and behaviour."""
    preprocessing: str
    """How frames were made, in words."""


class EpisodePlayer:
    """Plays episodes of one game, one at a time.

    Args:
        settings: what decides the episodes.

    Raises:
        UserError: unknown game or behaviour.
    """

    def __init__(self, settings: PlaySettings) -> None:
        self._settings = settings
        self._game = find_game(settings.game)
        self._mixture = parse_mixture(settings.behaviour, self._game)
        self._emulator = AtariEmulator(
            self._game, seed=0, sticky_action_probability=settings.sticky_action_probability
        )
        self._simulator = AtariEmulator(self._game, seed=0)

    def play(self, index: int, report: Callable[[int], bool]) -> PlayedEpisode | None:
        """Play one episode.

        Args:
            index: which episode.
            report: told the decisions made since it was last told; returns whether to go on.

        Returns:
            The episode, or None if `report` stopped it.
        """
        seed = episode_seed(self._settings.seed, index)
        random = np.random.default_rng(seed)
        noops = int(random.integers(1, self._settings.max_noops + 1)) if self._settings.max_noops else 0
        drawn = self._mixture.draw(self._settings.seed, index, random)
        frame = self._emulator.reset(noops, seed=int(random.integers(2**63)))
        behaviour = drawn.make(self._game, self._simulator, random)
        frames: list[np.ndarray] = []
        actions: list[int] = []
        rewards: list[float] = []
        lives: list[int] = []
        ended = truncated = False
        while not (ended or truncated) and len(actions) < self._settings.max_decisions:
            lives.append(self._emulator.lives)
            action = behaviour.act(self._emulator)
            result = self._emulator.step(action)
            frames.append(frame)
            actions.append(action)
            rewards.append(result.reward)
            frame, ended, truncated = result.frame, result.ended, result.truncated
            if len(actions) % _DECISIONS_PER_REPORT == 0 and not report(_DECISIONS_PER_REPORT):
                return None
        report(len(actions) % _DECISIONS_PER_REPORT)
        return PlayedEpisode(
            index=index,
            frames=np.stack(frames),
            actions=np.array(actions, dtype=np.uint8),
            rewards=np.array(rewards, dtype=np.float32),
            lives=np.array(lives, dtype=np.uint8),
            ended=ended,
            behaviour=str(drawn),
            seed=seed,
            preprocessing=self._emulator.preprocessing,
        )


def episode_seed(seed: int, index: int) -> int:
    """Seed of one episode, 0 to 2^63 - 1: a hash of the collection's seed and the episode's index."""
    words = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def play_in_order(
    settings: PlaySettings, executor: Executor, *, first: int, steps: int, show: Show
) -> Generator[PlayedEpisode]:
    """Play episodes `first`, `first` + 1, ... in parallel until they hold at least `steps` steps.

    The episodes and their order do not depend on who plays them. What workers have begun beyond the last
    episode is abandoned.

    Args:
        settings: what decides the episodes.
        executor: who plays.
        first: index of the first episode.
        steps: steps wanted; the last episode is whole, so there may be more.
        show: told at least twice a second, except by a Ray cluster, what is played so far, unfinished
            episodes included; what it raises ends the play.

    Raises:
        UserError: unknown game or behaviour, or worker processes keep dying.
    """
    collected = 0
    with closing(executor.run(partial(_player, settings), itertools.count(first), show)) as episodes:
        for episode in episodes:
            assert episode is not None  # None only for those that nobody waits for any more
            collected += len(episode.actions)
            yield episode
            if collected >= steps:
                return


def _player(settings: PlaySettings) -> Worker[int, PlayedEpisode | None]:
    cv2.setNumThreads(1)
    player = EpisodePlayer(settings)

    def play(task: int, report: Report) -> PlayedEpisode | None:
        episode = player.play(task, lambda decisions: report(Tally(decisions=decisions)))
        report(Tally(episodes=1))
        return episode

    return play


class InterruptLatch:
    """While entered, notes the first Ctrl-C in place of raising it wherever the program happens to be.

    Raised amid a write or in a finaliser it could leave half an episode or be swallowed. A second Ctrl-C
    is raised as ever. Outside of the main thread, which alone is interrupted, it does nothing.
    """

    def __enter__(self) -> InterruptLatch:
        self.is_set = False
        self._previous = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, *_: object) -> None:
        self.is_set = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
