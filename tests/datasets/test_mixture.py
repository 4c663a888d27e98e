"""Draws are functions of (seed, stream, step), in the proportions asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import UserError
from datasets.mixture import Mixture, SamplingConfig, game_probabilities, parse_games, select_games

NAMES = ("Pong", "Breakout", "Alien")


def mixture_of(sizes, games, asked=(), stream=0, **config):
    weights = select_games(asked, games, "a.h5")
    return Mixture(np.array(sizes), games, weights, SamplingConfig(games=asked, **config), stream)


EPISODES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(NAMES)), min_size=1, max_size=12).filter(
    lambda episodes: any(size for size, _ in episodes)
)


@settings(deadline=None)
@given(EPISODES)
def test_numbers_stand_for_every_item_of_every_episode_once(episodes):
    sizes, games = zip(*episodes, strict=True)
    mixture = mixture_of(sizes, games)
    episode, number = mixture.locate(np.arange(len(mixture)))
    expected = {(index, item) for index, size in enumerate(sizes) for item in range(size)}
    assert set(zip(episode.tolist(), number.tolist(), strict=True)) == expected
    assert len(mixture) == len(expected)


@settings(deadline=None)
@given(EPISODES, st.integers(0, 2**63), st.integers(0, 2**40), st.sampled_from(["size", "equal"]))
def test_draws_are_items_and_depend_on_seed_and_step_alone(episodes, seed, step, weighting):
    sizes, games = zip(*episodes, strict=True)
    mixture = mixture_of(sizes, games, seed=seed, weighting=weighting, batch_size=64)
    drawn = mixture.draw(step)
    assert drawn.shape == (64,)
    assert ((drawn >= 0) & (drawn < len(mixture))).all()
    mixture.draw(step + 1)
    np.testing.assert_array_equal(mixture.draw(step), drawn)
    again = mixture_of(sizes, games, seed=seed, weighting=weighting, batch_size=64)
    np.testing.assert_array_equal(again.draw(step), drawn)


def test_seeds_steps_and_streams_draw_differently():
    def draws(step=0, stream=0, seed=0):
        return tuple(mixture_of([1000], ["Pong"], stream=stream, seed=seed).draw(step).tolist())

    every = [
        draws(),
        draws(step=1),
        draws(step=2**33),
        draws(stream=1),
        draws(stream=2),
        draws(seed=1),
        draws(seed=-1),
        draws(seed=-2),
        draws(seed=2**63),
    ]
    assert len(set(every)) == len(every)


def test_the_draws_of_a_seed_never_change():
    """A resumed run of an older version must see the same data."""
    drawn = mixture_of([700, 300], ["Pong", "Breakout"], seed=7, batch_size=6).draw(11)
    assert drawn.tolist() == [191, 335, 676, 511, 556, 742]


def test_items_of_a_game_are_drawn_alike():
    mixture = mixture_of([3, 7, 10], ["Pong", "Pong", "Breakout"], batch_size=20_000)
    counts = np.bincount(mixture.draw(3), minlength=20)
    assert counts.sum() == 20_000
    # Five standard deviations of a count of mean 1000.
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(950))


@pytest.mark.parametrize(
    ("asked", "weighting", "expected"),
    [
        ((), "size", {"Alien": 0.6, "Breakout": 0.3, "Pong": 0.1}),
        ((), "equal", {"Alien": 1 / 3, "Breakout": 1 / 3, "Pong": 1 / 3}),
        (("Pong", "Breakout"), "size", {"Pong": 0.25, "Breakout": 0.75}),
        (("Pong", "Breakout"), "equal", {"Pong": 0.5, "Breakout": 0.5}),
        (("Pong=3", "Breakout"), "size", {"Pong": 0.75, "Breakout": 0.25}),
        (("breakout=1", "ALE/Pong-v5=4"), "equal", {"Breakout": 0.2, "Pong": 0.8}),
    ],
)
def test_games_are_drawn_in_the_proportions_asked_for(asked, weighting, expected):
    games = ["Pong", "Breakout", "Alien"]
    mixture = mixture_of([10, 30, 60], games, asked, weighting=weighting, batch_size=20_000)
    assert mixture.probabilities == pytest.approx(expected)
    drawn = np.array(games)[mixture.locate(mixture.draw(5))[0]]
    for game, chance in expected.items():
        assert (drawn == game).mean() == pytest.approx(chance, abs=0.02)


def test_a_game_with_nothing_to_draw_is_not_drawn():
    mixture = mixture_of([0, 4], ["Pong", "Breakout"], ("Pong=1000", "Breakout"), batch_size=100)
    assert mixture.probabilities == {"Pong": 0.0, "Breakout": 1.0}
    assert set(mixture.locate(mixture.draw(0))[0]) == {1}


def test_unnamed_weights_count_one():
    chances = game_probabilities({"Pong": None, "Alien": 3.0}, np.array([5, 5]), "size")
    assert chances.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("Freeway", "Pong"), "a.h5: no episodes of Freeway, only of Breakout, Pong; name one of these"),
        (("Pongg",), "unknown game 'Pongg'; did you mean Pong"),
        (("Pong", "pong=2"), "game Pong is named twice"),
        (("Pong=0",), "the weight in 'Pong=0' is not a positive number; write it like Pong=2"),
        (("Pong=-1",), "is not a positive number"),
        (("Pong=nan",), "is not a positive number"),
        (("Pong=inf",), "is not a positive number"),
        (("Pong=two",), "is not a positive number"),
        (("Pong=",), "is not a positive number"),
    ],
)
def test_games_that_cannot_be_drawn_are_refused(asked, message):
    with pytest.raises(UserError) as refused:
        select_games(asked, ["Pong", "Breakout", "Pong"], "a.h5")
    assert message in str(refused.value)


def test_games_are_read_with_their_weights():
    assert parse_games(["pong", "space_invaders=2.5"]) == {"Pong": None, "SpaceInvaders": 2.5}


def test_an_impossible_batch_is_refused():
    with pytest.raises(UserError, match="batch_size is 0"):
        SamplingConfig(batch_size=0)
