from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.metrics import interquartile_mean, normalised_score, summarise, summarise_difference


def test_normalised_score_is_0_at_random_and_1_at_the_reference():
    scores = np.array([-20.7, 14.6, 50.0])
    np.testing.assert_allclose(normalised_score(scores, -20.7, 14.6), [0.0, 1.0, 70.7 / 35.3])


def test_normalised_score_turns_the_scale_round_where_random_play_is_the_better():
    # VideoPinball-like: low is whichever plays worse.
    assert normalised_score(90.0, random=100.0, reference=80.0) == pytest.approx(0.5)


def test_normalised_score_needs_a_scale():
    with pytest.raises(ValueError, match="both score 3"):
        normalised_score(1.0, random=3.0, reference=3.0)


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8, 15, 16])
def test_interquartile_mean_leaves_out_a_quarter_at_each_end(count: int):
    values = np.random.default_rng(count).normal(size=count) ** 3
    cut = count // 4
    expected = np.sort(values)[cut : count - cut].mean()
    assert interquartile_mean(values) == pytest.approx(expected)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(0.1, 10), st.floats(-10, 10))
def test_interquartile_mean_follows_scale_and_shift(values: list[float], scale: float, shift: float):
    array = np.array(values)
    moved = interquartile_mean(array * scale + shift)
    np.testing.assert_allclose(moved, interquartile_mean(array) * scale + shift, atol=1e-6)


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_interval_approaches_that_of_all_possible_resamples(statistic):
    # Four episodes have 4^4 equally likely resamples: enumerate them.
    scores = np.array([1.0, 2.0, 4.0, 8.0])
    every = np.array([[scores[i] for i in drawn] for drawn in product(range(4), repeat=4)])
    exact = every.mean(axis=1) if statistic == "mean" else interquartile_mean(every)
    found = summarise(scores[None], statistic, resamples=200_000)
    assert found.value == pytest.approx(3.75 if statistic == "mean" else 3.0)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(exact, [0.025, 0.975])), abs=1e-9)


def test_resampling_is_stratified_by_game():
    # Two games far apart, constant within: nothing varies, so neither does any resample.
    found = summarise(np.array([[1.0, 1.0, 1.0], [9.0, 9.0, 9.0]]), "mean")
    assert (found.low, found.value, found.high, found.episodes) == (5.0, 5.0, 5.0, 6)


def test_interval_of_the_mean_agrees_with_the_normal_one_for_many_episodes():
    scores = np.random.default_rng(1).normal(10.0, 3.0, size=(1, 400))
    found = summarise(scores, "mean")
    half = 1.96 * scores.std() / np.sqrt(400)
    assert found.low == pytest.approx(found.value - half, abs=0.03)
    assert found.high == pytest.approx(found.value + half, abs=0.03)


def test_interval_is_a_function_of_the_seed_and_not_of_the_chunks(monkeypatch: pytest.MonkeyPatch):
    scores = np.random.default_rng(2).normal(size=(3, 8))
    whole = summarise(scores, "iqm", seed=4)
    assert summarise(scores, "iqm", seed=4) == whole
    assert summarise(scores, "iqm", seed=5) != whole
    monkeypatch.setattr("agents.metrics._CHUNK", 24 * 7)
    assert summarise(scores, "iqm", seed=4) == whole


def test_one_episode_has_no_interval():
    found = summarise(np.array([[3.0]]), "mean")
    assert (found.value, found.low, found.high) == (3.0, None, None)
    with pytest.raises(ValueError, match="no episodes"):
        summarise(np.empty((1, 0)), "mean")


def test_difference_tells_clear_from_unclear():
    generator = np.random.default_rng(3)
    weak, strong = generator.normal(0, 1, 30), generator.normal(2, 1, 20)
    clear = summarise_difference(strong, weak, "mean")
    assert clear.value == pytest.approx(strong.mean() - weak.mean())
    assert clear.episodes == 50
    assert clear.low is not None
    assert clear.low > 0
    unclear = summarise_difference(weak[:15], weak[15:], "mean")
    assert unclear.low is not None
    assert unclear.high is not None
    assert unclear.low < 0 < unclear.high
    assert summarise_difference(strong[:1], weak, "mean").low is None
