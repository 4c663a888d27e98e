import warnings

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from datasets.atari import AtariEmulator
from datasets.errors import UserError
from datasets.games import Game, find_game


def play(emulator: AtariEmulator, actions) -> tuple[np.ndarray, list[float]]:
    """Frames and rewards of the given actions, until the end."""
    frames, rewards = [emulator.frame], []
    for action in actions:
        result = emulator.step(int(action))
        frames.append(result.frame)
        rewards.append(result.reward)
        if result.ended or result.truncated:
            break
    return np.stack(frames), rewards


def random_actions(game: Game, number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(game.legal_actions, size=number)


@pytest.mark.parametrize("name", ["Breakout", "Carnival", "Pong", "SpaceInvaders", "Frostbite"])
def test_frames_rewards_and_ends_equal_the_vector_environment_of_ale(name):
    game = find_game(name)
    reference = AtariVectorEnv(
        game.rom,
        1,
        stack_num=1,
        reward_clipping=False,
        use_fire_reset=False,
        noop_max=0,
        full_action_space=True,
        num_threads=1,
    )
    observation, _ = reference.reset(seed=0)
    emulator = AtariEmulator(game, seed=0)
    assert np.array_equal(observation[0, 0], emulator.frame)
    # The end frame is nobody's observation, and the environment's next episode starts from leaked memory.
    for action in random_actions(game, 350, seed=1):
        observation, reward, ended, truncated, _ = reference.step(np.array([action]))
        result = emulator.step(int(action))
        assert (result.reward, result.ended, result.truncated) == (reward[0], ended[0], truncated[0])
        if result.ended:
            break
        assert np.array_equal(observation[0, 0], result.frame)
    reference.close()


def test_an_episode_does_not_depend_on_what_was_played_before():
    # Assault is one of the games whose memory survives the emulator's own reset.
    game = find_game("Assault")
    actions = random_actions(game, 120, seed=2)
    fresh = play(AtariEmulator(game, seed=0), actions)
    used = AtariEmulator(game, seed=0)
    play(used, random_actions(game, 60, seed=3))
    used.reset()
    again = play(used, actions)
    assert np.array_equal(fresh[0], again[0])
    assert fresh[1] == again[1]


def test_sticky_actions_are_a_function_of_the_seed():
    game = find_game("Breakout")
    actions = random_actions(game, 60, seed=4)
    emulator = AtariEmulator(game, seed=0, sticky_action_probability=0.5)

    def episode(seed):
        emulator.reset(seed=seed)
        return play(emulator, actions)[0]

    first = episode(7)
    assert not np.array_equal(first, episode(8))
    assert np.array_equal(first, episode(7))
    emulator.reset()
    assert not np.array_equal(first, play(emulator, actions)[0])


def test_an_action_always_stuck_to_the_first_frames_is_a_no_op():
    game = find_game("Pong")
    emulator = AtariEmulator(game, seed=0, sticky_action_probability=1.0 - 1e-9)
    waiting = AtariEmulator(game, seed=0)
    moved = play(emulator, [3] * 60)[0]
    assert np.array_equal(moved, play(waiting, [0] * 60)[0])


def test_no_ops_are_emulator_frames_before_the_first_frame():
    emulator = AtariEmulator(find_game("Freeway"), seed=0)
    start = emulator.ram
    emulator.step(0)
    emulator.step(0)
    two_decisions = emulator.ram
    emulator.reset(noops=8)
    assert np.array_equal(emulator.ram, two_decisions)
    assert not np.array_equal(emulator.ram, start)


@pytest.mark.parametrize("name", ["Qbert", "Pong"])
def test_a_second_emulator_follows_a_clone_exactly_and_leaves_the_first_alone(name):
    game = find_game(name)
    actions = random_actions(game, 60, seed=5)
    undisturbed = play(AtariEmulator(game, seed=0), actions)[0]
    emulator, second = AtariEmulator(game, seed=0), AtariEmulator(game, seed=0)
    before = play(emulator, actions[:30])[0]
    second.restore(emulator.clone())
    assert np.array_equal(second.frame, emulator.frame)
    rewards = []
    for action in actions[30:]:
        reward, _ = second.advance(int(action))
        rewards.append(reward)
    after, real = play(emulator, actions[30:])
    assert np.array_equal(np.concatenate([before, after[1:]]), undisturbed)
    assert rewards == real
    assert np.array_equal(second.ram, emulator.ram)
    assert second.lives == emulator.lives


def test_an_episode_is_cut_short_after_the_given_frames():
    emulator = AtariEmulator(find_game("Pong"), seed=0, max_frames=40)
    results = [emulator.step(0) for _ in range(10)]
    assert [result.truncated for result in results] == [False] * 9 + [True]
    assert not any(result.ended for result in results)
    with pytest.raises(ValueError, match="over"):
        emulator.step(0)


def test_screens_of_other_heights_are_scaled_whole():
    assert AtariEmulator(find_game("AirRaid"), seed=0).step(0).frame.shape == (84, 84)


def test_loading_a_game_prints_nothing(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AtariEmulator(find_game("Pong"), seed=0).step(0)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@pytest.mark.parametrize("wrong", [{"frame_skip": 1}, {"sticky_action_probability": 1.0}])
def test_settings_out_of_range_are_told(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        AtariEmulator(find_game("Pong"), seed=0, **wrong)


@pytest.mark.parametrize("action", [-1, 18])
def test_an_action_outside_the_vocabulary_is_refused(action):
    with pytest.raises(ValueError, match="action"):
        AtariEmulator(find_game("Pong"), seed=0).step(action)
