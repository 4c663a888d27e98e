"""What is said of a model's calibration is computed from the moments it is said of."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration
from benchmarks.calibration import (
    CalibrationConfig,
    Found,
    draw_play,
    measure,
    reliability,
    rewards_found,
    table,
)
from datasets.errors import UserError
from datasets.games import find_game
from datasets.segments import discounted_returns, held_out_mask
from datasets.store import EpisodeStore
from tests.house.small_store import write_small_store
from train import train
from world_model.checkpoint import load_checkpoint
from world_model.planning_model import WorldActionPlanningModel
from world_model.recipes import parse_command_line

DISCOUNT = 0.9


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> EpisodeStore:
    return EpisodeStore(write_small_store(tmp_path_factory.mktemp("data") / "pong.h5", games=("Pong",)))


@pytest.fixture(scope="module")
def config(store, tmp_path_factory) -> CalibrationConfig:
    run = tmp_path_factory.mktemp("runs") / "run"
    steps = "--tokenizer-steps 2 --world-steps 1 --joint-steps 1 --batch-size 2 --context-frames 4".split()
    train(
        parse_command_line(
            ["--data", str(store.path), "--run", str(run), *steps, "--device", "cpu", "--allow-collapse"]
        )
    )
    return CalibrationConfig(run, store.path, moments=12, horizon=2, held_out_fraction=0.5)


def measured(store: EpisodeStore, config: CalibrationConfig) -> tuple[calibration.Play, Found]:
    checkpoint = load_checkpoint(config.checkpoint)
    assert checkpoint.model is not None
    play = draw_play(store, config, checkpoint.model.config.max_blocks, DISCOUNT)
    model = WorldActionPlanningModel(checkpoint.model, discount=DISCOUNT)
    return play, measure(model, checkpoint.tokenizer, find_game("Pong"), play, config.horizon)


def test_moments_are_stretches_of_held_out_episodes_and_their_returns(store, config):
    play = draw_play(store, config, 4, DISCOUNT)
    games = [info.game for info in store.episodes]
    aside = held_out_mask([info.digest for info in store.episodes], games, 0.5)
    expected = {}
    for info in (info for info, out in zip(store.episodes, aside, strict=True) if out):
        returns = discounted_returns(np.sign(store.rewards(info.key)), DISCOUNT)
        for start in range(info.length - 4):
            frames = store.frames(info.key, start, start + 4)
            expected[frames.tobytes()] = (store.actions(info.key)[start : start + 4], returns[start + 1])
    assert len(play.returns) == min(12, len(expected))
    for frames, actions, to_come in zip(play.frames, play.actions, play.returns, strict=True):
        done, came = expected.pop(frames.tobytes())
        assert actions.tolist() == done.tolist()
        assert to_come == pytest.approx(came)


def test_chunks_change_nothing(store, config, monkeypatch):
    play, whole = measured(store, config)
    assert whole.value_error.shape == (len(play.returns), 2)
    assert (whole.changed_right <= whole.changed).all()
    assert whole.reward.tolist() == play.rewards[:, 1:3].tolist()
    monkeypatch.setattr(calibration, "CHUNK", 5)
    _, parts = measured(store, config)
    for field in fields(Found):
        np.testing.assert_allclose(getattr(parts, field.name), getattr(whole, field.name), atol=1e-4)


def test_figures_and_picture(store, config, tmp_path):
    _, found = measured(store, config)
    lines = table(found).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| 1", "| 2"]
    calibration.draw(found, "Pong", tmp_path / "picture.png")
    assert Path(tmp_path / "picture.png").stat().st_size > 0


def test_foreseen_rewards_are_counted_by_their_sign():
    said, came = np.array([1.0, -1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, -1.0, 0.0, 0.0])
    assert rewards_found(said, came) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert np.isnan(rewards_found(np.zeros(2), np.zeros(2))).all()


def test_reliability_sorts_moments_by_what_was_said():
    said = np.arange(20.0)[::-1]
    means, outcomes, errors = reliability(said, 2 * said)
    assert means == [0.5 + 2 * group for group in range(10)]
    assert outcomes == [2 * mean for mean in means]
    assert errors == pytest.approx([1 / 2**0.5] * 10)


def test_a_store_without_long_held_out_episodes_is_refused(store, config):
    with pytest.raises(UserError, match="no held-out episode has more than 40 steps"):
        draw_play(store, config, 40, DISCOUNT)
