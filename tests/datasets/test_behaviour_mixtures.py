from collections import Counter

import numpy as np
import pytest

from datasets.atari import AtariEmulator
from datasets.behaviour_mixtures import KINDS, describe_kinds, parse_mixture
from datasets.errors import UserError
from datasets.games import find_game

PONG, FREEWAY, ALIEN = map(find_game, ("Pong", "Freeway", "Alien"))


def test_names_values_noise_and_weights_are_read():
    mixture = parse_mixture("tracker:0.6, sticky=0.8@0.1..0.5:0.2,random", PONG)
    assert [item.kind.name for item in mixture.items] == ["tracker", "sticky", "random"]
    assert [item.weight for item in mixture.items] == [0.6, 0.2, 1.0]
    assert [item.text for item in mixture.items] == ["tracker", "sticky=0.8@0.1..0.5", "random"]
    sticky = mixture.items[1]
    assert sticky.value is not None
    assert (sticky.value.low, sticky.value.high) == (0.8, 0.8)
    assert (sticky.epsilon.low, sticky.epsilon.high) == (0.1, 0.5)


@pytest.mark.parametrize("episodes", [10, 100, 1000])
def test_weights_are_shares_of_episodes_whatever_their_sum(episodes):
    mixture = parse_mixture("tracker:6,random:2,shots:0,tracker@0.3:2", PONG)
    for seed in range(5):
        counts = Counter(mixture.item_of(seed, episode).text for episode in range(episodes))
        for text, share in {"tracker": 0.6, "random": 0.2, "shots": 0.0, "tracker@0.3": 0.2}.items():
            assert abs(counts[text] - share * episodes) <= 2


def test_episodes_draw_their_own_numbers_within_the_range():
    mixture = parse_mixture("up=0.3..0.9@0.1..0.2", FREEWAY)
    drawn = [mixture.draw(0, episode, np.random.default_rng(episode)) for episode in range(200)]
    values = np.array([behaviour.value for behaviour in drawn], dtype=float)
    assert len(set(values)) > 100
    assert values.min() >= 0.3
    assert values.max() <= 0.9
    assert values.mean() == pytest.approx(0.6, abs=0.05)
    assert all(0.1 <= behaviour.epsilon <= 0.2 for behaviour in drawn)


def test_a_drawn_behaviour_is_written_in_words_that_are_read_again():
    drawn = parse_mixture("up=0.3..0.9@0.1..0.2", FREEWAY).draw(0, 0, np.random.default_rng(0))
    again = parse_mixture(str(drawn), FREEWAY).draw(0, 0, np.random.default_rng(1))
    assert again == drawn


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_behaviour_plays_every_game_that_it_says(kind):
    for name in kind.games or ("Alien",):
        game = find_game(name)
        emulator, simulator = AtariEmulator(game, seed=0), AtariEmulator(game, seed=0)
        random = np.random.default_rng(0)
        behaviour = parse_mixture(kind.name, game).draw(0, 0, random).make(game, simulator, random)
        for _ in range(5):
            action = behaviour.act(emulator)
            assert action in game.legal_actions
            emulator.step(action)


def test_epsilon_one_is_random_play():
    emulator = AtariEmulator(FREEWAY, seed=0)
    random = np.random.default_rng(0)
    behaviour = parse_mixture("up@1", FREEWAY).draw(0, 0, random).make(FREEWAY, emulator, random)
    assert {behaviour.act(emulator) for _ in range(60)} == set(FREEWAY.legal_actions)


@pytest.mark.parametrize(("text", "commits"), [("lookahead=2", True), ("mpc=2", False)])
def test_model_predictive_control_chooses_anew_where_lookahead_commits(text, commits):
    emulator, simulator = AtariEmulator(PONG, seed=0), AtariEmulator(PONG, seed=0)
    behaviour = (
        parse_mixture(text, PONG)
        .draw(0, 0, np.random.default_rng(0))
        .make(PONG, simulator, np.random.default_rng(1))
    )
    actions = []
    for _ in range(40):
        actions.append(behaviour.act(emulator))
        emulator.step(actions[-1])
    assert commits == all(len(set(actions[start : start + 4])) == 1 for start in range(0, 40, 4))


@pytest.mark.parametrize(
    ("text", "game", "expected"),
    [
        ("teacher", PONG, "no 'teacher'; Pong has random, sticky, tracker, chaser, shots, lookahead, mpc"),
        (
            "tracker",
            ALIEN,
            "tracker plays Breakout and Pong, not Alien; Alien has random, sticky, lookahead, mpc",
        ),
        ("up=1.5", FREEWAY, "value is 1.5; it must lie between 0 and 1"),
        ("up=0.9..0.3", FREEWAY, "a range must go up"),
        ("up=fast", FREEWAY, "value 'fast' is not a number"),
        ("up=nan", FREEWAY, "must lie between"),
        ("random=3", PONG, "random has no value to set"),
        ("random@2", PONG, "epsilon is 2"),
        ("random:-1", PONG, "weight is -1"),
        ("random:nan", PONG, "weight is nan"),
        ("random:0,sticky:0", PONG, "all weights are 0"),
        ("lookahead=0", PONG, "value is 0"),
        ("", PONG, "not well written; write it as NAME"),
        ("random,,sticky", PONG, "not well written"),
        ("random:0.5@0.1", PONG, "weight '0.5@0.1' is not a number"),
    ],
)
def test_what_is_not_well_written_is_told_with_the_remedy(text, game, expected):
    with pytest.raises(UserError, match=expected.replace(".", r"\.")):
        parse_mixture(text, game)


def test_the_help_names_every_behaviour():
    assert all(f"{kind.name}" in describe_kinds() for kind in KINDS)
