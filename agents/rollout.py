"""Whole episodes: which environment plays which, and what came of each.

Letters: E environments playing now.

The episodes are dealt out beforehand: environment e plays episodes e, e + E, e + 2 E and so on. All of
them are played to their end and counted, so short ones are not favoured, as they are where play stops
once enough episodes have ended. An episode is a function of the seed, its index and the player alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from agents.acting import Agent
from agents.video import Scene
from datasets.atari import AtariEmulator
from datasets.behaviours import Behaviour, RandomPlay
from datasets.errors import UserError
from datasets.executor import Here, Report, Show, Tally
from datasets.games import Game

# What a generator made of (seed, episode, purpose) is for; the agent's own has no purpose number.
_START, _BEHAVIOUR = 1, 2


@dataclass(frozen=True)
class RolloutConfig:
    """Which episodes are played."""

    episodes: int = 16
    """Episodes to play."""
    envs: int = 8
    """Environments played side by side; the results do not depend on it."""
    sticky_action_probability: float = 0.0
    """Probability that an emulator frame repeats the last action; Machado et al. (2018) use 0.25."""
    max_noops: int = 30
    """An episode starts after 1 to this many frames without action, drawn at random; 0 for none."""
    max_frames: int = 108_000
    """Emulator frames after which an episode is cut short."""
    max_decisions: int | None = None
    """Decisions after which an episode is cut short, for short games."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("envs", 1), ("max_noops", 0), ("max_frames", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.max_decisions is not None and self.max_decisions < 1:
            raise UserError(f"max_decisions is {self.max_decisions}; it must be at least 1")

    @property
    def whole_games(self) -> bool:
        """Whether episodes run as long as those that published scores are of (108,000 frames)."""
        return self.max_decisions is None and self.max_frames >= 108_000


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode."""

    index: int
    """Its number, from 0."""
    score: float
    """Points of the game, unclipped."""
    decisions: int
    """Actions chosen."""
    frames: int
    """Emulator frames, the no-ops before the first decision included."""
    ended: bool
    """True if the game was over, False if it was cut short."""


@dataclass
class Seat:
    """An environment and the episode that is played there now."""

    environment: int
    """Its number, from 0."""
    emulator: AtariEmulator
    """The game; players look and do not touch."""
    episode: int
    """Index of the episode."""
    score: float = 0.0
    """Points so far."""
    decisions: int = 0
    """Actions chosen so far."""


class Player(Protocol):
    """Whatever chooses actions."""

    def begin(self, seat: Seat) -> None:
        """Get ready for a new episode."""
        ...

    def act(self, seats: Sequence[Seat]) -> Int[np.ndarray, " E"]:
        """Choose an action, of the full vocabulary, for each of E seats."""
        ...


def play_episodes(
    player: Player, game: Game, config: RolloutConfig, *, seed: int, label: str = "episodes"
) -> list[EpisodeResult]:
    """Play all episodes, several at a time, with a progress bar.

    Args:
        player: chooses the actions.
        game: what is played.
        config: how many episodes, and how they start and end.
        seed: with an episode's index, decides its no-ops and sticky actions.
        label: name on the progress bar.

    Returns:
        One result per episode, by index.

    Raises:
        UserError: the game has no ROM, or its settings are out of range.
    """
    with episode_bar(config.episodes, label) as show:
        [results] = Here().run(
            lambda: (
                lambda episodes, report: play_share(player, game, config, episodes, seed=seed, report=report)
            ),
            [range(config.episodes)],
            show,
        )
    return results


@contextmanager
def episode_bar(episodes: int, label: str) -> Iterator[Show]:
    """A progress bar of episodes, and what shows a tally on it."""
    with tqdm(total=episodes, desc=label, unit="episode", miniters=0) as bar:

        def show(done: Tally) -> None:
            # Episodes can last long: the count of decisions shows that play goes on.
            bar.set_postfix(decisions=done.decisions, refresh=False)
            bar.update(done.episodes - bar.n)

        yield show


def play_share(
    player: Player,
    game: Game,
    config: RolloutConfig,
    episodes: range,
    *,
    seed: int,
    report: Report,
) -> list[EpisodeResult]:
    """Play some of the episodes, several at a time; arguments, results and errors as of `play_episodes`.

    Args:
        player: chooses the actions.
        game: what is played.
        config: how episodes start and end, and how many are played side by side.
        episodes: their indices.
        seed: with an episode's index, decides its no-ops and sticky actions.
        report: told of every decision and every end; what has been played is given up when it says so.
    """
    places = min(config.envs, len(episodes))
    seats = [_take_seat(place, episodes[place], game, config) for place in range(places)]
    for seat in seats:
        _begin(seat, player, config, seed)
    results: list[EpisodeResult] = []
    while seats:
        playing, finished = len(seats), len(results)
        actions = player.act(seats)
        for seat, action in zip(list(seats), actions, strict=True):
            result = _step(seat, int(action), config)
            if result is None:
                continue
            results.append(result)
            seat.episode += config.envs
            if seat.episode < episodes.stop:
                _begin(seat, player, config, seed)
            else:
                seats.remove(seat)
        if not report(Tally(decisions=playing, episodes=len(results) - finished)):
            break
    return sorted(results, key=lambda result: result.index)


def _take_seat(place: int, episode: int, game: Game, config: RolloutConfig) -> Seat:
    emulator = AtariEmulator(
        game,
        seed=0,
        sticky_action_probability=config.sticky_action_probability,
        max_frames=config.max_frames,
    )
    return Seat(environment=place, emulator=emulator, episode=episode)


def _begin(seat: Seat, player: Player, config: RolloutConfig, seed: int) -> None:
    generator = np.random.default_rng([seed, seat.episode, _START])
    noops = int(generator.integers(1, config.max_noops + 1)) if config.max_noops else 0
    seat.emulator.reset(noops, seed=int(generator.integers(2**31)))
    seat.score, seat.decisions = 0.0, 0
    player.begin(seat)


def _step(seat: Seat, action: int, config: RolloutConfig) -> EpisodeResult | None:
    """Take an action; the episode's result if it is over with it."""
    step = seat.emulator.step(action)
    seat.score += step.reward
    seat.decisions += 1
    if not (step.ended or step.truncated or seat.decisions == config.max_decisions):
        return None
    return EpisodeResult(
        index=seat.episode,
        score=seat.score,
        decisions=seat.decisions,
        frames=seat.emulator.frames_played,
        ended=step.ended,
    )


class AgentPlayer:
    """Plays as an agent does, and keeps scenes of one episode for a video."""

    def __init__(self, agent: Agent, *, max_scenes: int = 0, filmed_episode: int = 0) -> None:
        """Let an agent play.

        Args:
            agent: has a place for every environment.
            max_scenes: decisions to keep for a video, from the start of the episode; 0 keeps none.
            filmed_episode: index of that episode.
        """
        self.scenes: list[Scene] = []
        self._agent = agent
        self._max_scenes = max_scenes
        self._filmed_episode = filmed_episode

    def begin(self, seat: Seat) -> None:
        """Get ready for a new episode."""
        self._agent.begin(seat.environment, seat.episode)

    def act(self, seats: Sequence[Seat]) -> Int[np.ndarray, " E"]:
        """Plan for all seats in one batch."""
        frames = np.stack([seat.emulator.frame for seat in seats])
        decision = self._agent.act(frames, [seat.environment for seat in seats])
        for row, seat in enumerate(seats):
            if seat.episode == self._filmed_episode and len(self.scenes) < self._max_scenes:
                scene = Scene(
                    screen=seat.emulator.screen,
                    seen=seat.emulator.frame,
                    q_values=decision.q_values[row],
                    planned_values=decision.planned_values[row],
                    plan=self._agent.plan(decision, row),
                    action=int(decision.actions[row]),
                    is_random=bool(decision.is_random[row]),
                    decision=seat.decisions,
                    score=seat.score,
                )
                self.scenes.append(scene)
        return decision.actions


class BehaviourPlayer:
    """Plays as a behaviour that collects data does, so that it can be measured in the same games."""

    def __init__(self, make: Callable[[np.random.Generator], Behaviour], *, seed: int) -> None:
        """Let a behaviour play.

        Args:
            make: a new behaviour for an episode, given its source of chance.
            seed: with an episode's index, decides that chance.
        """
        self._make = make
        self._seed = seed
        self._behaviours: dict[int, Behaviour] = {}

    def begin(self, seat: Seat) -> None:
        """Make the behaviour of a new episode."""
        chance = np.random.default_rng([self._seed, seat.episode, _BEHAVIOUR])
        self._behaviours[seat.environment] = self._make(chance)

    def act(self, seats: Sequence[Seat]) -> Int[np.ndarray, " E"]:
        """Ask the behaviour of each seat."""
        return np.array([self._behaviours[seat.environment].act(seat.emulator) for seat in seats])


class RandomPlayer(BehaviourPlayer):
    """Takes legal actions uniformly at random: the least that an agent has to beat."""

    def __init__(self, game: Game, *, seed: int) -> None:
        super().__init__(lambda chance: RandomPlay(game, persistence=0.0, random=chance), seed=seed)
