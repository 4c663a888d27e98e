from dataclasses import replace

import numpy as np
import pytest

from agents import rollout
from agents.acting import ActingConfig, Agent
from agents.rollout import (
    AgentPlayer,
    BehaviourPlayer,
    EpisodeResult,
    RandomPlayer,
    RolloutConfig,
    Seat,
    play_episodes,
)
from datasets.atari import StepResult
from datasets.errors import UserError
from datasets.games import find_game
from tests.agents.fakes import random_model, random_tokenizer

PONG = find_game("Pong")
SHORT = RolloutConfig(episodes=7, envs=3, max_decisions=20)


class Witness:
    """Passes a player's actions on and writes down who took which."""

    def __init__(self, player) -> None:
        self.player = player
        self.actions: dict[int, list[int]] = {}
        self.places: dict[int, int] = {}

    def begin(self, seat: Seat) -> None:
        assert seat.episode not in self.actions
        assert (seat.score, seat.decisions) == (0.0, 0)
        self.actions[seat.episode] = []
        self.places[seat.episode] = seat.environment
        self.player.begin(seat)

    def act(self, seats):
        actions = self.player.act(seats)
        for seat, action in zip(seats, actions, strict=True):
            self.actions[seat.episode].append(int(action))
        return actions


def make_player(environments: int, acting: ActingConfig, **film: int) -> AgentPlayer:
    agent = Agent(random_tokenizer(), random_model(), PONG, acting, environments=environments, seed=5)
    return AgentPlayer(agent, **film)


def test_eight_planned_environments_play_as_eight_single_runs_do():
    acting = ActingConfig(epsilon=0.3)  # enough chance for the episodes to differ
    config = RolloutConfig(episodes=8, envs=8, max_decisions=3, sticky_action_probability=0.25)
    together, alone = (Witness(make_player(environments, acting)) for environments in (8, 1))
    batched = play_episodes(together, PONG, config, seed=5)
    single = play_episodes(alone, PONG, replace(config, envs=1), seed=5)
    assert together.actions == alone.actions
    assert batched == single
    assert len({tuple(actions) for actions in together.actions.values()}) > 1


@pytest.mark.parametrize("envs", [1, 2, 7, 20])
def test_results_do_not_depend_on_the_number_of_environments(envs: int):
    config = replace(SHORT, sticky_action_probability=0.5)
    expected = play_episodes(RandomPlayer(PONG, seed=1), PONG, config, seed=1)
    found = play_episodes(RandomPlayer(PONG, seed=1), PONG, replace(config, envs=envs), seed=1)
    assert found == expected
    assert [result.index for result in found] == list(range(7))


def test_episodes_differ_and_follow_the_seed():
    def play(seed: int) -> dict[int, list[int]]:
        witness = Witness(RandomPlayer(PONG, seed=seed))
        starts = play_episodes(witness, PONG, SHORT, seed=seed)
        assert len({result.frames for result in starts}) > 3  # different numbers of no-ops
        return witness.actions

    actions = play(1)
    assert play(1) == actions
    assert play(2) != actions
    assert len({tuple(taken) for taken in actions.values()}) == 7


def test_random_play_takes_every_legal_action_and_no_other():
    witness = Witness(RandomPlayer(PONG, seed=0))
    play_episodes(witness, PONG, SHORT, seed=0)
    assert {action for taken in witness.actions.values() for action in taken} == set(PONG.legal_actions)


def test_a_behaviour_is_made_anew_for_every_episode_and_sees_the_emulator():
    class Counter:
        """Takes legal actions in turn, and waits for the emulator it was shown first."""

        def __init__(self, random: np.random.Generator) -> None:
            self.turn = int(random.integers(6))
            self.emulator = None

        def act(self, emulator) -> int:
            assert self.emulator in (None, emulator)
            self.emulator, self.turn = emulator, self.turn + 1
            return PONG.legal_actions[self.turn % 6]

    witness = Witness(BehaviourPlayer(Counter, seed=0))
    play_episodes(witness, PONG, SHORT, seed=0)
    place = {action: index for index, action in enumerate(PONG.legal_actions)}
    for taken in witness.actions.values():
        turns = np.array([place[action] for action in taken])
        assert (np.diff(turns) % 6 == 1).all()
    assert len({taken[0] for taken in witness.actions.values()}) > 1


class FakeEmulator:
    """A game of 5 points a decision, whose length is decided by its no-ops."""

    def __init__(self, game, *, seed, sticky_action_probability, max_frames) -> None:
        self.max_decisions = max_frames // 4
        self.frame = np.zeros((84, 84), dtype=np.uint8)
        self.frames_played = 0

    def reset(self, noops: int, seed: int):
        self.length, self.played, self.frames_played = noops, 0, noops
        return self.frame

    def step(self, action: int) -> StepResult:
        assert self.played < self.length, "played on after the end"
        self.played += 1
        self.frames_played += 4
        ended = self.played == self.length
        return StepResult(self.frame, 5.0, ended, not ended and self.played == self.max_decisions)


def test_episodes_are_dealt_out_beforehand_and_all_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rollout, "AtariEmulator", FakeEmulator)
    witness = Witness(RandomPlayer(PONG, seed=0))
    results = play_episodes(witness, PONG, RolloutConfig(episodes=40, envs=3), seed=3)
    assert witness.places == {episode: episode % 3 for episode in range(40)}
    noops = [int(np.random.default_rng([3, index, 1]).integers(1, 31)) for index in range(40)]
    assert results == [EpisodeResult(i, 5.0 * n, n, 5 * n, ended=True) for i, n in enumerate(noops)]
    assert len(set(noops)) > 10


def test_episodes_are_cut_at_their_frames_or_decisions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rollout, "AtariEmulator", FakeEmulator)
    player = RandomPlayer(PONG, seed=0)
    for config in (RolloutConfig(max_frames=12), RolloutConfig(max_decisions=3)):
        results = play_episodes(player, PONG, config, seed=0)
        assert max(result.decisions for result in results) == 3
        assert all(result.ended or result.decisions == 3 for result in results)
        assert any(not result.ended for result in results)
        assert not config.whole_games
    assert RolloutConfig().whole_games


def test_a_real_game_is_cut_at_its_frames():
    config = RolloutConfig(episodes=2, envs=2, max_frames=100)
    for result in play_episodes(RandomPlayer(PONG, seed=0), PONG, config, seed=0):
        assert not result.ended
        assert 100 <= result.frames < 104


def test_scenes_show_the_filmed_episode_only():
    player = make_player(2, ActingConfig(planner="greedy", epsilon=0.5), max_scenes=6, filmed_episode=1)
    witness = Witness(player)
    play_episodes(witness, PONG, RolloutConfig(episodes=3, envs=2, max_decisions=9), seed=5)
    assert [scene.decision for scene in player.scenes] == list(range(6))
    assert [scene.action for scene in player.scenes] == witness.actions[1][:6]
    assert {scene.screen.shape for scene in player.scenes} == {(210, 160, 3)}
    assert not np.array_equal(player.scenes[0].seen, player.scenes[5].seen)
    assert any(scene.is_random for scene in player.scenes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("episodes", 0), ("envs", 0), ("max_noops", -1), ("max_frames", 0), ("max_decisions", 0)],
)
def test_settings_out_of_range_are_refused(field: str, value: int):
    with pytest.raises(UserError, match=f"{field} is {value}"):
        replace(SHORT, **{field: value})


def test_no_noops_can_be_asked_for():
    config = RolloutConfig(episodes=2, envs=1, max_noops=0, max_decisions=3)
    results = play_episodes(RandomPlayer(PONG, seed=0), PONG, config, seed=0)
    assert [result.frames for result in results] == [12, 12]
