"""Training from the command line: phases, exact resumption, fine-tuning, and what a user may do wrong."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets.errors import UserError
from tests.house.small_store import write_small_store
from train import train
from world_model import learners
from world_model.checkpoint import checkpoint_name, list_checkpoints, load_checkpoint
from world_model.recipes import RECIPES, parse_command_line

ROOT = Path(__file__).resolve().parents[2]
SHORT = (
    "--tokenizer-steps 3 --world-steps 3 --joint-steps 4 --batch-size 2 --tokenizer-batch 4 "
    "--context-frames 3 --target-update-every 2 --loop.save-every 2 --loop.held-out-every 3 "
    "--device cpu --allow-collapse"
).split()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_small_store(tmp_path_factory.mktemp("data") / "two_games.h5")


@pytest.fixture(scope="module")
def straight(store, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    run(store, folder)
    return folder


def run(store: Path, folder: Path, *more: str):
    return train(parse_command_line(["--data", str(store), "--run", str(folder), *SHORT, *more]))


def resume(folder: Path, *more: str):
    return train(parse_command_line(["--run", str(folder), "--resume", *more]))


def trace(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = load_checkpoint(first), load_checkpoint(second)
    assert a.step == b.step
    assert a.model is not None
    assert b.model is not None
    for ours, theirs in ((a.model, b.model), (a.tokenizer, b.tokenizer)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_a_run_leaves_checkpoints_trace_board_and_pictures(straight):
    assert load_checkpoint(straight).step == 10
    assert [path.name for path in list_checkpoints(straight)] == [checkpoint_name(s) for s in (6, 8, 10)]
    steps = [line["step"] for line in trace(straight) if "held_out" not in line]
    assert steps == list(range(10))
    held_out = [line for line in trace(straight) if "held_out" in line]
    assert {line["phase"] for line in held_out} == {"tokenizer", "world", "joint"}
    # From the first step of each phase on, and what acts tells the best checkpoint.
    assert {0, 3, 6} <= {line["step"] for line in held_out}
    last = json.loads((list_checkpoints(straight)[-1] / "config.json").read_text())
    assert last["held_out_loss"] == held_out[-1]["held_out"]["loss/penalty"]
    assert list((straight / "tensorboard").iterdir())
    assert (straight / "images" / "tokenizer_reconstruction.png").exists()


@pytest.mark.parametrize("stop", [1, 3, 5, 7])
def test_resuming_repeats_the_undisturbed_run_to_the_last_bit(store, straight, tmp_path, stop):
    assert run(store, tmp_path / "broken", "--max-steps", str(stop)).step == stop
    resume(tmp_path / "broken")
    assert trace(tmp_path / "broken") == trace(straight)
    assert_same_weights(tmp_path / "broken", straight)


def test_only_the_joint_phase_learns_from_the_best_episodes_alone(store, straight, tmp_path):
    run(store, tmp_path / "best", "--best-share", "0.1")

    everything, best = trace(straight), trace(tmp_path / "best")
    unlike = {first["phase"] for first, second in zip(everything, best, strict=True) if first != second}
    assert unlike == {"joint"}


def test_a_share_of_nothing_is_refused(store, tmp_path):
    with pytest.raises(UserError, match=r"best_share is 0\.0; it must be above 0"):
        run(store, tmp_path / "run", "--best-share", "0.0")


def test_worker_processes_change_nothing(store, straight, tmp_path):
    run(store, tmp_path / "two", "--loader-workers", "2")
    assert trace(tmp_path / "two") == trace(straight)


def test_a_kill_at_a_random_moment_costs_nothing(store, straight, tmp_path):
    command = [sys.executable, "train.py", "--data", str(store), "--run", str(tmp_path / "killed"), *SHORT]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    moment = random.Random(0).randrange(1, 7)
    while not (tmp_path / "killed" / "checkpoints" / checkpoint_name(2)).exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(moment * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resume(tmp_path / "killed")
    assert trace(tmp_path / "killed") == trace(straight)
    assert_same_weights(tmp_path / "killed", straight)


def test_a_clock_that_jumps_back_changes_nothing(store, straight, tmp_path, monkeypatch):
    run(store, tmp_path / "broken", "--max-steps", "7")
    for age, path in enumerate(list_checkpoints(tmp_path / "broken")):
        for file in (path, *path.iterdir()):
            os.utime(file, (2e9 - age, 2e9 - age))  # the newest seems the oldest, and all are of the future
    monkeypatch.setattr(time, "time", lambda: 1e9)
    resume(tmp_path / "broken")
    assert trace(tmp_path / "broken") == trace(straight)
    kept = [path.name for path in list_checkpoints(tmp_path / "broken")]
    assert kept == [checkpoint_name(step) for step in (7, 8, 10)]


def test_fine_tuning_starts_from_the_weights_on_another_game(store, tmp_path):
    run(store, tmp_path / "first", "--games", "Pong")
    arguments = ["--from", str(tmp_path / "first"), "--run", str(tmp_path / "second"), "--data", str(store)]
    options = "--games Breakout --joint-steps 2 --batch-size 2 --allow-collapse".split()
    config = parse_command_line([*arguments, *options])
    assert (config.tokenizer_steps, config.world_steps, config.context_frames) == (0, 0, 3)
    assert config.loss.supervised_weight == 0.5
    state = train(config)
    assert state.step == 2
    before, after = load_checkpoint(tmp_path / "first"), load_checkpoint(tmp_path / "second")
    assert before.model is not None
    assert after.model is not None
    same = before.model.position_embedding.weight - after.model.position_embedding.weight
    assert 0 < same.abs().max() < 0.05  # two small steps away, not a new draw
    for name, tensor in before.tokenizer.encoder.state_dict().items():
        assert torch.equal(tensor, after.tokenizer.encoder.state_dict()[name]), name


@pytest.mark.parametrize("size", list(RECIPES))
def test_every_size_has_a_recipe_of_its_own_name(size, tmp_path):
    config = parse_command_line(["--size", size, "--data", "a.h5", "--run", str(tmp_path)])
    assert config == replace(RECIPES[size], data=(Path("a.h5"),), run=tmp_path)


def test_an_existing_run_is_not_overwritten(store, straight):
    before = (straight / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="already holds step_00000010; add --resume"):
        run(store, straight)
    assert (straight / "metrics.jsonl").read_bytes() == before


def test_resume_refuses_another_configuration(straight):
    with pytest.raises(UserError, match=r"--batch-size 64 contradicts .* which has 2"):
        resume(straight, "--batch-size", "64")


def test_nothing_to_resume_or_to_start_from(store, tmp_path):
    with pytest.raises(UserError, match="no such run or checkpoint"):
        resume(tmp_path / "absent")
    with pytest.raises(UserError, match="no --data"):
        parse_command_line(["--run", str(tmp_path / "x")])
    with pytest.raises(UserError, match=r"no episodes of Freeway, only of Breakout, Pong"):
        run(store, tmp_path / "x", "--games", "Freeway")


def test_longer_context_than_the_checkpoint_is_refused(store, straight, tmp_path):
    arguments = ["--from", str(straight), "--data", str(store), "--run", str(tmp_path / "second")]
    with pytest.raises(UserError, match=r"takes 3 frames, not 8; lower --context-frames"):
        train(parse_command_line([*arguments, "--context-frames", "8"]))


def test_a_loss_that_is_not_finite_keeps_the_batch_and_the_checkpoints(store, tmp_path, monkeypatch):
    real = learners.compute_loss

    def broken(model, batch, config, *, train_q, **more):
        output = real(model, batch, config, train_q=train_q, **more)
        return replace(output, total=output.total * float("nan")) if train_q else output

    monkeypatch.setattr(learners, "compute_loss", broken)
    with pytest.raises(UserError, match="step 6: the loss or its gradient is not finite"):
        run(store, tmp_path / "run")
    assert list_checkpoints(tmp_path / "run")[-1].name == checkpoint_name(6)
    assert (tmp_path / "run" / "non_finite" / "step_00000006.safetensors").stat().st_size > 0


def test_a_collapsed_tokenizer_stops_the_run(store, tmp_path):
    with pytest.raises(UserError, match="the tokenizer has collapsed"):
        train(
            replace(
                parse_command_line(["--data", str(store), "--run", str(tmp_path), *SHORT]),
                allow_collapse=False,
            )
        )


def test_the_command_line_says_errors_in_one_sentence_with_status_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "train.py", "--data", str(tmp_path / "none.h5"), "--run", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "none.h5" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
