import signal
from dataclasses import replace

import numpy as np
import pytest

from datasets.atari import AtariEmulator
from datasets.errors import UserError
from datasets.games import find_game
from datasets.playing import EpisodePlayer, InterruptLatch, PlaySettings, episode_seed

SETTINGS = PlaySettings(
    game="Breakout",
    behaviour="random,tracker@0.1..0.5",
    seed=3,
    sticky_action_probability=0.25,
    max_noops=30,
    max_decisions=60,
)


def go_on(_: int) -> bool:
    return True


def test_an_episode_depends_on_its_index_and_not_on_those_before():
    player = EpisodePlayer(SETTINGS)
    first, second = player.play(0, go_on), player.play(1, go_on)
    alone = EpisodePlayer(SETTINGS).play(1, go_on)
    assert first is not None
    assert second is not None
    assert alone is not None
    assert np.array_equal(second.frames, alone.frames)
    assert np.array_equal(second.actions, alone.actions)
    assert (second.behaviour, second.seed) == (alone.behaviour, alone.seed)
    assert first.seed != second.seed
    assert not np.array_equal(first.frames, second.frames)


def test_an_episode_holds_the_frame_before_each_action_and_the_reward_after_it():
    settings = replace(SETTINGS, behaviour="tracker", sticky_action_probability=0.0, max_noops=0)
    episode = EpisodePlayer(settings).play(0, go_on)
    assert episode is not None
    emulator = AtariEmulator(find_game("Breakout"), seed=0)
    for frame, action, reward in zip(episode.frames, episode.actions, episode.rewards, strict=True):
        assert np.array_equal(frame, emulator.frame)
        assert emulator.step(int(action)).reward == reward
    assert episode.rewards.sum() > 0


def test_an_episode_ends_only_where_the_game_does():
    player = EpisodePlayer(replace(SETTINGS, behaviour="random", max_decisions=1000))
    over = player.play(0, go_on)
    cut = EpisodePlayer(SETTINGS).play(0, go_on)
    assert over is not None
    assert cut is not None
    assert over.ended
    assert len(over.actions) < 1000
    assert not cut.ended
    assert len(cut.actions) == 60


def test_episodes_start_after_a_number_of_no_ops_of_their_own():
    player = EpisodePlayer(replace(SETTINGS, behaviour="random", game="Freeway", max_decisions=1))
    frames = {episode.frames.tobytes() for index in range(6) if (episode := player.play(index, go_on))}
    assert len(frames) > 3


def test_the_play_is_reported_decision_for_decision_and_stops_when_told():
    player = EpisodePlayer(SETTINGS)
    reported: list[int] = []

    def note(decisions: int) -> bool:
        reported.append(decisions)
        return True

    assert player.play(0, note) is not None
    assert sum(reported) == 60
    assert player.play(0, lambda _: False) is None


def test_seeds_of_episodes_differ_between_collections_and_indices():
    seeds = {episode_seed(seed, index) for seed in range(30) for index in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_wrong_behaviour_is_told():
    with pytest.raises(UserError, match="no 'teacher'"):
        EpisodePlayer(replace(SETTINGS, behaviour="teacher"))


@pytest.fixture
def _hears_interrupts():
    """Python's own handler: a process that was started in the background inherits that it is deaf."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.mark.usefixtures("_hears_interrupts")
def test_an_interrupt_is_noted_once_and_the_next_is_raised():
    with InterruptLatch() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.is_set
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
