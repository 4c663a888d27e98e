import numpy as np
import pytest

from datasets.atari import AtariEmulator
from datasets.behaviours import Behaviour, EpsilonNoise, RandomPlay
from datasets.controllers import BallChaser, BreakoutTracker, FreewayWalker, PongTracker, reflected
from datasets.games import find_game
from datasets.lookahead import ActionSequence, FreewayDodger, Lookahead, Outcome, PongShots, try_behaviour

PONG, BREAKOUT, FREEWAY = map(find_game, ("Pong", "Breakout", "Freeway"))


class Always:
    """A behaviour of one action, which counts how often it is asked."""

    def __init__(self, action: int) -> None:
        self.action = action
        self.asked = 0

    def act(self, emulator: AtariEmulator) -> int:
        self.asked += 1
        return self.action


def play(emulator: AtariEmulator, behaviour: Behaviour, decisions: int) -> tuple[float, list[int]]:
    """Sum of rewards and the actions of so many decisions, or fewer if the game is over."""
    total, actions = 0.0, []
    for _ in range(decisions):
        actions.append(behaviour.act(emulator))
        result = emulator.step(actions[-1])
        total += result.reward
        if result.ended:
            break
    return total, actions


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_random_play_takes_every_legal_action_and_no_other():
    actions = play(AtariEmulator(FREEWAY, seed=0), RandomPlay(FREEWAY, 0.0, rng()), 60)[1]
    assert set(actions) == set(FREEWAY.legal_actions)


def test_sticky_random_play_keeps_its_action_as_often_as_it_says():
    emulator = AtariEmulator(PONG, seed=0)
    behaviour = RandomPlay(PONG, 0.9, rng())
    actions = np.array([behaviour.act(emulator) for _ in range(4000)])
    # A new draw is the old action in one of six cases.
    assert np.mean(actions[1:] == actions[:-1]) == pytest.approx(0.9 + 0.1 / 6, abs=0.02)


def test_epsilon_is_the_share_of_random_actions_and_the_behaviour_sees_every_decision():
    emulator = AtariEmulator(PONG, seed=0)
    always = Always(3)
    behaviour = EpsilonNoise(always, 0.3, PONG, rng())
    actions = np.array([behaviour.act(emulator) for _ in range(4000)])
    assert np.mean(actions != 3) == pytest.approx(0.3 * 5 / 6, abs=0.03)
    assert set(actions) == set(PONG.legal_actions)
    assert always.asked == 4000


@pytest.mark.parametrize(
    ("position", "expected"), [(50, 50), (110, 90), (-10, 10), (210, 10), (100, 100), (-120, 80)]
)
def test_walls_throw_a_ball_back(position, expected):
    assert reflected(position, 0, 100) == expected


def test_the_pong_tracker_meets_the_ball_far_more_often_than_chance():
    tracked, _ = play(AtariEmulator(PONG, seed=0), PongTracker(rng()), 300)
    by_chance, _ = play(AtariEmulator(PONG, seed=0), RandomPlay(PONG, 0.0, rng()), 300)
    assert tracked >= -1
    assert by_chance <= -4


def test_the_breakout_tracker_serves_and_keeps_its_lives():
    emulator = AtariEmulator(BREAKOUT, seed=0)
    total, _ = play(emulator, BreakoutTracker(rng()), 300)
    assert total >= 8
    assert emulator.lives >= 4


@pytest.mark.parametrize("game", [PONG, BREAKOUT])
def test_a_chaser_that_looks_ahead_plays_better_than_one_that_does_not(game):
    late, ahead = (
        play(AtariEmulator(game, seed=0), BallChaser(game, frames), 600)[0] for frames in (0.0, 4.0)
    )
    assert ahead > late


def test_the_freeway_walker_walks_as_often_as_it_says():
    emulator = AtariEmulator(FREEWAY, seed=0)
    walker = FreewayWalker(0.7, rng())
    actions = [walker.act(emulator) for _ in range(3000)]
    assert np.mean(np.array(actions) == 2) == pytest.approx(0.7, abs=0.03)
    assert set(actions) == {0, 2}


def test_a_sequence_hands_over_after_its_decisions():
    emulator = AtariEmulator(PONG, seed=0)
    behaviour = ActionSequence(3, 2, Always(4))
    assert [behaviour.act(emulator) for _ in range(4)] == [3, 3, 4, 4]


def test_an_outcome_with_more_lives_is_better_than_any_reward():
    assert Outcome(lives=0.0, reward=0.0) > Outcome(lives=-1.0, reward=1000.0)
    assert Outcome(lives=-0.9, reward=0.0) > Outcome(lives=-1.0, reward=1000.0)
    assert Outcome(lives=0.0, reward=1.0) > Outcome(lives=0.0, reward=0.5)


def test_a_trial_tells_the_discounted_rewards_and_lives_of_real_play():
    # Standing still in Breakout after serving loses the first life within 40 decisions.
    emulator, simulator = AtariEmulator(BREAKOUT, seed=0), AtariEmulator(BREAKOUT, seed=0)
    emulator.step(1)
    outcome = try_behaviour(simulator, emulator.clone(), Always(0), 40)
    lost_at = next(t for t in range(40) if emulator.step(0) is not None and emulator.lives < 5)
    assert outcome.lives == pytest.approx(-(0.99**lost_at))
    pong = AtariEmulator(PONG, seed=0)
    simulator = AtariEmulator(PONG, seed=0)
    outcome = try_behaviour(simulator, pong.clone(), Always(0), 150)
    rewards = [pong.step(0).reward for _ in range(150)]
    assert sum(rewards) < 0
    assert outcome.reward == pytest.approx(sum(0.99**t * reward for t, reward in enumerate(rewards)))


def test_look_ahead_takes_the_action_of_the_best_trial_and_commits_to_it():
    # A few decisions before the ball is lost, only some actions save the life.
    emulator, simulator = AtariEmulator(BREAKOUT, seed=0), AtariEmulator(BREAKOUT, seed=0)
    careful = Lookahead(BREAKOUT, simulator, rng(1), horizon=24, commit=4)
    _, actions = play(emulator, careful, 200)
    careless = AtariEmulator(BREAKOUT, seed=0)
    play(careless, RandomPlay(BREAKOUT, 0.0, rng(1)), 200)
    assert emulator.lives > careless.lives
    assert all(len(set(actions[start : start + 4])) == 1 for start in range(0, len(actions), 4))


def test_look_ahead_leaves_the_game_in_play_as_it_is():
    emulator, simulator = AtariEmulator(PONG, seed=0), AtariEmulator(PONG, seed=0)
    untouched = AtariEmulator(PONG, seed=0)
    behaviour = Lookahead(PONG, simulator, rng(), horizon=8)
    for _ in range(12):
        action = behaviour.act(emulator)
        assert np.array_equal(emulator.step(action).frame, untouched.step(action).frame)


def test_pong_shots_win_points():
    emulator, simulator = AtariEmulator(PONG, seed=0), AtariEmulator(PONG, seed=0)
    total, actions = play(emulator, PongShots(simulator, rng()), 400)
    assert total >= 1
    assert set(actions) <= set(PONG.legal_actions)


def test_the_dodger_crosses_more_often_than_walking_straight_on():
    emulator, simulator = AtariEmulator(FREEWAY, seed=0), AtariEmulator(FREEWAY, seed=0)
    dodged, actions = play(emulator, FreewayDodger(simulator), 250)
    walked, _ = play(AtariEmulator(FREEWAY, seed=0), FreewayWalker(1.0, rng()), 250)
    assert dodged > walked
    assert set(actions) <= set(FREEWAY.legal_actions)


@pytest.mark.parametrize(
    "make",
    [
        lambda simulator, random: PongTracker(random),
        lambda simulator, random: PongShots(simulator, random),
        lambda simulator, random: Lookahead(PONG, simulator, random, horizon=6),
        lambda simulator, random: EpsilonNoise(RandomPlay(PONG, 0.5, random), 0.2, PONG, random),
    ],
)
def test_a_behaviour_is_a_function_of_its_generator(make):
    simulator = AtariEmulator(PONG, seed=0)

    def episode(seed: int) -> list[int]:
        return play(AtariEmulator(PONG, seed=0), make(simulator, rng(seed)), 90)[1]

    assert episode(1) == episode(1)
