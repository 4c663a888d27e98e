"""Cutting, returns and the held-out split, against their definitions written out in plain loops."""

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import UserError
from datasets.segments import (
    Batch,
    FrameBatch,
    SegmentConfig,
    best_mask,
    check_steps,
    count_segments,
    cut_episodes,
    discounted_returns,
    failure_returns,
    failures,
    held_out_mask,
)
from tests.conftest import SHARED

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=5)
CONFIGS = st.builds(
    SegmentConfig,
    segment_length=st.integers(1, 12),
    stride=st.integers(1, 12),
    padding=st.sampled_from(["right", "left"]),
    published_semantics=st.booleans(),
)


def windows_by_definition(length, config):
    """(start, stop) of each segment, by walking along the episode as the format describes it."""
    windows = []
    if config.padding == "right":
        start = 0
        while start < length:
            windows.append((start, start + config.segment_length))
            start += config.stride
    else:
        stop = length - 1 if config.published_semantics else length
        while stop > 0:
            windows.append((stop - config.segment_length, stop))
            stop -= config.stride
    return windows


@settings(deadline=None)
@given(LENGTHS, CONFIGS)
def test_segments_are_cut_as_defined(lengths, config):
    segments = cut_episodes(np.array(lengths), config)
    expected = [
        (episode, *window)
        for episode, length in enumerate(lengths)
        for window in windows_by_definition(length, config)
    ]
    stops = segments.start + config.segment_length
    assert list(zip(segments.episode, segments.start, stops, strict=True)) == expected
    assert len(segments) == count_segments(np.array(lengths), config).sum()


@settings(deadline=None)
@given(LENGTHS, CONFIGS)
def test_no_segment_is_padding_only(lengths, config):
    segments = cut_episodes(np.array(lengths), config)
    steps = np.array(lengths)[segments.episode]
    assert (segments.start < steps).all()
    assert (segments.start + config.segment_length > 0).all()


@settings(deadline=None)
@given(LENGTHS, CONFIGS)
def test_every_step_is_in_a_segment_if_strides_leave_no_gap(lengths, config):
    segments = cut_episodes(np.array(lengths), config)
    for episode, length in enumerate(lengths):
        starts = segments.start[segments.episode == episode]
        seen = {int(start) + step for start in starts for step in range(config.segment_length)}
        missing = set(range(length)) - seen
        if config.stride <= config.segment_length:
            last = {length - 1} if config.padding == "left" and config.published_semantics else set()
            assert missing == last


def test_the_terminal_step_is_left_out_only_by_the_published_rule():
    lengths = np.array([1, 7, 16])
    for published, expected in ((False, {0, 1, 2}), (True, set())):
        config = SegmentConfig(padding="left", published_semantics=published)
        segments = cut_episodes(lengths, config)
        holds_last = segments.start + config.segment_length == lengths[segments.episode]
        assert set(segments.episode[holds_last]) == expected


@pytest.mark.skipif(not SHARED.exists(), reason="the published program's recorded segments are not here")
@pytest.mark.parametrize("padding", ["right", "left"])
def test_segments_equal_the_published_ones(padding):
    h5py = pytest.importorskip("h5py")
    folder = SHARED / "parity" / "jowa" / "data_phoenix"
    with h5py.File(folder / "trajectory" / "data" / "Phoenix.h5") as file:
        lengths = np.array([len(file[f"{index}/actions"]) for index in range(len(file))])
    with (folder / "segment" / "csv" / f"Phoenix_{padding}_padding.csv").open() as file:
        rows = [tuple(map(int, row[:3])) for row in list(csv.reader(file))[1:]]
    config = SegmentConfig(padding=padding, published_semantics=True)
    segments = cut_episodes(lengths, config)
    assert list(zip(segments.episode, segments.start, segments.start + 8, strict=True)) == rows


@settings(deadline=None)
@given(
    st.lists(st.floats(-100, 100, width=32), max_size=60),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)
def test_returns_are_the_discounted_sums(rewards, discount):
    returns = discounted_returns(np.array(rewards, dtype=np.float32), discount)
    expected = [
        sum(reward * discount**delay for delay, reward in enumerate(rewards[step:]))
        for step in range(len(rewards))
    ]
    assert returns.dtype == np.float32
    np.testing.assert_allclose(returns, expected, rtol=1e-5, atol=1e-4)


def test_returns_of_a_long_episode_stay_exact():
    rewards = np.ones(108_000, dtype=np.float32)
    returns = discounted_returns(rewards, 0.99)
    assert returns[0] == pytest.approx(100.0, rel=1e-6)
    assert returns[-1] == 1.0


def digests_of(numbers):
    generator = np.random.default_rng(5)
    table = [generator.bytes(32).hex() for _ in range(300)]
    return [table[number] for number in numbers]


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.99]))
def test_every_game_has_episodes_on_both_sides_of_the_split(numbers, fraction):
    digests, games = digests_of(numbers), ["Pong" if number % 2 else "Alien" for number in numbers]
    held_out = held_out_mask(digests, games, fraction)
    for game in set(games):
        of_game = [digest for digest, other in zip(digests, games, strict=True) if other == game]
        inside = {d for d, g, held in zip(digests, games, held_out, strict=True) if g == game and held}
        outside = {d for d, g, held in zip(digests, games, held_out, strict=True) if g == game and not held}
        assert not inside & outside, "copies of an episode must be on one side"
        assert outside
        assert bool(inside) == (fraction > 0 and len(set(of_game)) > 1)


def test_failures_are_lives_lost_and_rewards_below_zero():
    rewards = np.array([0, 1, -2, 0, 0, 1], dtype=np.float32)
    lives = np.array([3, 3, 3, 3, 2, 2], dtype=np.uint8)
    assert np.flatnonzero(failures(rewards, lives, ended=False)).tolist() == [2, 3]
    assert np.flatnonzero(failures(rewards, lives, ended=True)).tolist() == [2, 3, 5]
    none = np.zeros(6, dtype=np.uint8)  # a game without lives may end well
    assert np.flatnonzero(failures(rewards, none, ended=True)).tolist() == [2]


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.sampled_from([0.0, 0.5, 0.97, 1.0]))
def test_the_return_of_failing_counts_the_next_failure_alone(failed, discount):
    expected = [0.0]
    for fails in reversed(failed):
        expected.append(-1.0 if fails else discount * expected[-1])
    got = failure_returns(np.array(failed), discount)
    assert got.tolist() == pytest.approx(expected[:0:-1], rel=1e-5)


def test_the_split_follows_the_fraction_and_stays_as_a_store_grows():
    digests = digests_of(range(300))
    games = ["Pong"] * 300
    held_out = held_out_mask(digests, games, 0.1)
    assert 15 <= held_out.sum() <= 45
    np.testing.assert_array_equal(held_out_mask(digests[:150], games[:150], 0.1), held_out[:150])


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_an_impossible_fraction_is_refused(fraction):
    with pytest.raises(UserError, match=r"held_out_fraction is .*; it must be from 0 to below 1"):
        held_out_mask(["00"], ["Pong"], fraction)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment_length": 0}, "segment_length is 0"),
        ({"stride": 0}, "stride is 0"),
        ({"discount": 1.5}, "discount is 1.5"),
    ],
)
def test_an_impossible_cut_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        SegmentConfig(**change)


@settings(deadline=None)
@given(st.integers(1, 10), st.data())
def test_check_steps_accepts_exactly_legal_actions(length, data):
    actions = np.array(
        data.draw(st.lists(st.integers(0, 255), min_size=length, max_size=length)), dtype=np.uint8
    )
    rewards, ends = np.zeros(length, dtype=np.float32), np.zeros(length, dtype=np.uint8)
    if set(actions.tolist()) <= {0, 2, 5}:
        check_steps(actions, rewards, ends, "Freeway", "here")
    else:
        with pytest.raises(UserError, match=r"here, actions: step \d+ takes action"):
            check_steps(actions, rewards, ends, "Freeway", "here")


def test_a_batch_moves_as_a_whole():
    batch = Batch(
        tokens=torch.zeros(2, 3, 4, dtype=torch.int64),
        actions=torch.zeros(2, 3, dtype=torch.int64),
        rewards=torch.zeros(2, 3),
        ends=torch.zeros(2, 3, dtype=torch.int64),
        returns=torch.zeros(2, 3),
        value_returns=torch.zeros(2, 3),
        mask=torch.ones(2, 3, dtype=torch.bool),
        task_id=torch.zeros(2, dtype=torch.int64),
        legal_mask=torch.ones(2, 18, dtype=torch.bool),
    )
    moved = batch.to("meta")
    assert all(tensor.device.type == "meta" for tensor in vars(moved).values())
    assert {name: tensor.shape for name, tensor in vars(moved).items()} == {
        name: tensor.shape for name, tensor in vars(batch).items()
    }
    frames = FrameBatch(torch.zeros(2, 84, 84, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    assert frames.to("meta").task_id.device.type == "meta"


def test_the_best_episodes_of_each_game_hold_the_share_asked_for():
    scores = np.array([3.0, 9.0, 1.0, 9.0, 200.0, 100.0])
    sizes = np.array([10, 5, 20, 5, 7, 7])
    games = ["Pong"] * 4 + ["Breakout"] * 2

    def chosen(share: float) -> list[int]:
        return np.flatnonzero(best_mask(scores, sizes, games, share)).tolist()

    assert chosen(1.0) == [0, 1, 2, 3, 4, 5]
    assert chosen(0.5) == [0, 1, 3, 4]  # 20 of Pong's 40 items, 7 of Breakout's 14
    assert chosen(0.26) == [0, 1, 3, 4]  # the last one is taken whole
    assert chosen(0.01) == [1, 4]  # of equal scores the earlier


def test_episodes_without_items_are_no_part_of_the_best():
    mask = best_mask(np.array([5.0, 4.0, 3.0]), np.array([0, 6, 6]), ["Pong"] * 3, 0.5)
    assert mask.tolist() == [True, True, False]
