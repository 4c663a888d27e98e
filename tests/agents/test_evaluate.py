import json
import sys
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import torch

from agents.acting import ActingConfig
from agents.evaluate import EvaluateConfig, describe, evaluate, main
from agents.rollout import RolloutConfig
from datasets.errors import UserError, run_command
from tests.agents.fakes import random_model, random_tokenizer
from world_model.checkpoint import save_checkpoint
from world_model.world_action_model import WorldActionModel

ACTING = ActingConfig(planner="greedy")
ROLLOUT = RolloutConfig(episodes=4, envs=2, max_decisions=6)


def save_run(run: Path, model: WorldActionModel | None, **training) -> Path:
    save_checkpoint(
        run / "checkpoints" / "step_00000010",
        step=10,
        tokenizer=random_tokenizer(),
        model=model,
        optimizer={},
        training={"games": ["Pong=2", "Breakout=1"]} | training,
    )
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"), random_model())


def request(run: Path, **changes) -> EvaluateConfig:
    config = EvaluateConfig(checkpoint=run, game="Pong", acting=ACTING, rollout=ROLLOUT, device="cpu")
    return replace(config, **changes)


def test_results_hold_all_that_is_needed_to_play_again(run: Path, tmp_path: Path):
    evaluation = evaluate(request(run, out=tmp_path / "deep" / "results.json", seed=3))
    content = json.loads((tmp_path / "deep" / "results.json").read_text())
    assert content["format"] == "worldbeam-evaluation"
    assert content["game"] == "Pong"
    assert content["seed"] == 3
    assert content["checkpoint"]["step"] == 10
    assert len(content["checkpoint"]["manifest_sha256"]) == 64
    assert ActingConfig(**content["acting"]) == ACTING
    assert RolloutConfig(**content["rollout"]) == ROLLOUT
    assert [episode["index"] for episode in content["episodes"]] == [0, 1, 2, 3]
    scores = [episode["score"] for episode in content["episodes"]]
    assert content["scores"]["raw"]["mean"]["value"] == pytest.approx(np.mean(scores))
    assert content["scores"]["raw"]["mean"]["episodes"] == 4
    assert content["others"] == {"random": -20.7, "human": 14.6}
    assert content["decisions_per_second"] == pytest.approx(24 / content["seconds"])
    assert set(content["versions"]) == {"python", "torch", "numpy", "emulator", "opencv"}
    again = evaluate(request(run, rollout=replace(ROLLOUT, envs=3), seed=3))
    assert again.results == evaluation.results
    assert again.scores == evaluation.scores
    shared_out = evaluate(request(run, rollout=replace(ROLLOUT, envs=1), workers=2, seed=3))
    assert shared_out.results == evaluation.results


def test_planning_discounts_as_training_did_unless_told(run: Path, tmp_path: Path):
    trained = save_run(tmp_path / "run", random_model(), loss={"discount": 0.9})
    assert evaluate(request(trained)).config.acting.discount == 0.9
    told = replace(ACTING, discount=0.8)
    assert evaluate(request(trained, acting=told)).config.acting.discount == 0.8
    assert evaluate(request(run)).config.acting.discount is None


def test_games_cut_short_are_not_measured_by_whole_ones(run: Path):
    evaluation = evaluate(request(run))
    assert set(evaluation.scores) == {"raw"}
    assert "cannot be compared" in describe(evaluation)
    assert "human" not in describe(evaluation)


def test_whole_games_are_set_beside_the_published_scores(run: Path, monkeypatch: pytest.MonkeyPatch):
    # Games of three decisions pass for whole ones here: a real one would take too long.
    monkeypatch.setattr(RolloutConfig, "whole_games", property(lambda self: True))
    evaluation = evaluate(request(run, game="phoenix", rollout=replace(ROLLOUT, max_decisions=3)))
    assert set(evaluation.scores) == {"raw", "human", "dqn"}
    text = describe(evaluation)
    assert "5230.0" in text
    assert "JOWA 150M, beam" in text
    assert "human-normalised" in text
    assert "Phoenix is not among the games of this training run: Breakout, Pong." in text
    lines = text.splitlines()
    assert lines.index(next(x for x in lines if x.startswith("human "))) < lines.index(
        next(x for x in lines if x.startswith("this agent"))
    )


def test_the_video_shows_the_first_decisions(run: Path, tmp_path: Path):
    acting = replace(ACTING, planner="beam", horizon=1)
    rollout = replace(ROLLOUT, episodes=1, envs=1)
    evaluate(request(run, acting=acting, rollout=rollout, video=tmp_path / "play.mp4", video_decisions=4))
    assert len(imageio.imread(tmp_path / "play.mp4")) == 4


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    run_command(main)


def test_the_command_line_plays_and_prints(run: Path, tmp_path: Path, monkeypatch, capsys):
    out = tmp_path / "results.json"
    command(
        monkeypatch, "--checkpoint", str(run), "--game", "Pong", "--planner", "beam", "--beam-width", "2",
        "--horizon", "2", "--episodes", "2", "--envs", "2", "--max-decisions", "3", "--out", str(out),
        "--device", "cpu",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "Pong, beam search, width 2, horizon 2, 2 episodes" in printed
    assert f"written: {out}" in printed
    assert json.loads(out.read_text())["acting"]["beam_width"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--game", "Pnog"], "unknown game 'Pnog'; did you mean Pong"),
        (["--game", "Pong", "--beam-width", "7"], "beam_width is 7, but Pong has 6 legal actions"),
        (["--game", "Pong", "--horizon", "5"], "horizon is 5, but the model's context is 5 frames"),
        (["--game", "Pong", "--epsilon", "2"], "epsilon is 2.0; it must lie between 0 and 1"),
        (["--game", "Pong", "--episodes", "0"], "episodes is 0; it must be at least 1"),
        (["--game", "Pong", "--sticky-action-probability", "1"], "sticky_action_probability is 1.0"),
        (["--game", "Pong", "--seed", "-1"], "seed is -1"),
        (["--game", "Pong", "--device", "warp"], "device 'warp' cannot be used here"),
        (["--game", "Pong", "--video", "play.gif"], "videos are written as MP4"),
        (["--game", "Pong", "--video", "p.mp4", "--video-decisions", "0"], "video_decisions is 0"),
        (["--game", "Pong", "--checkpoint", "nowhere"], "nowhere: no such run or checkpoint"),
    ],
)
def test_bad_input_ends_in_one_sentence(
    arguments: list[str], sentence: str, run: Path, tmp_path: Path, monkeypatch, capsys
):
    out = tmp_path / "results.json"
    out.write_text("old")
    if "--checkpoint" not in arguments:
        arguments = [*arguments, "--checkpoint", str(run)]
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, *arguments, "--out", str(out))
    assert stopped.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("error: ")
    assert sentence in told[-1]
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_no_ffmpeg_is_told_before_play(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(UserError, match="no ffmpeg was found"):
        evaluate(request(run, video=tmp_path / "play.mp4", rollout=RolloutConfig(episodes=10**6)))


def test_a_folder_in_place_of_a_file_is_told_before_play(run: Path, tmp_path: Path):
    with pytest.raises(UserError, match="is a folder; give the name of a file"):
        evaluate(request(run, out=tmp_path, rollout=RolloutConfig(episodes=10**6)))


def test_a_checkpoint_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="holds only a tokenizer"):
        evaluate(request(save_run(tmp_path, None)))


def test_a_half_written_checkpoint_is_refused(tmp_path: Path):
    run = save_run(tmp_path, random_model())
    file = run / "checkpoints" / "step_00000010" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors is truncated or altered"):
        evaluate(request(run))


def test_a_model_that_answers_with_nan_is_refused(tmp_path: Path):
    model = random_model()
    with torch.no_grad():
        next(model.head_q.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"step_00000010.*use an earlier checkpoint"):
        evaluate(request(save_run(tmp_path, model)))
