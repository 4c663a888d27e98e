"""Training with several processes: the trace of one, any layout after another, one message at a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.kills import children, losses, wait_for_step
from datasets.errors import UserError
from tests.house.processes import limit_file_size, run_processes, set_dropout, spoil_loss
from tests.house.small_store import write_small_store
from train import train
from world_model.checkpoint import checkpoint_name, list_checkpoints, load_checkpoint
from world_model.distributed import Processes, own_device
from world_model.export import ExportConfig, export
from world_model.recipes import parse_command_line
from world_model.sizes import SIZES
from world_model.train_config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = (
    "--tokenizer-steps 2 --world-steps 3 --joint-steps 4 --batch-size 4 --tokenizer-batch 6 "
    "--context-frames 4 --target-update-every 2 --loop.save-every 4 --loop.held-out-every 3 --device cpu "
    "--allow-collapse --imagination.share 0.5 --imagination.after 0.25 --loss.penalty combo --loss.use-rem "
    "--padding left --loss.td-target n_step --value-head --loss.advantage-temperature 0.5"
).split()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_small_store(tmp_path_factory.mktemp("data") / "two_games.h5")


@pytest.fixture(scope="module")
def straight(store, tmp_path_factory) -> Path:
    """A run of one process, left alone."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    train(parse_command_line(command(store, folder)))
    return folder


@pytest.fixture(scope="module")
def relay(store, tmp_path_factory) -> Path:
    """A run begun by two copies, carried on by two shards, and finished by one process."""
    folder = tmp_path_factory.mktemp("relay") / "run"
    assert run_processes(2, [*command(store, folder), "--max-steps", "4"], folder) == [0, 0]
    resumed = ["--run", str(folder), "--resume"]
    assert run_processes(2, [*resumed, "--parallel", "fsdp", "--max-steps", "4"], folder) == [0, 0]
    train(parse_command_line(resumed))
    return folder


def command(store: Path, folder: Path, *more: str) -> list[str]:
    return ["--data", str(store), "--run", str(folder), *OPTIONS, *more]


def trace(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line.get("held_out", {}) | {k: v for k, v in line.items() if k != "held_out"} for line in lines]


def assert_same_trace(first: Path, second: Path) -> None:
    ours, theirs = trace(first), trace(second)
    assert len(ours) == len(theirs) > 9
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        numbers = {name: value for name, value in a.items() if name != "phase"}
        assert numbers == pytest.approx({name: b[name] for name in numbers}, rel=1e-5, abs=1e-6)


def test_one_process_learns_what_it_learned_before(straight):
    recorded = [
        *(1.0660408735275269, 1.100496768951416, 8.743399620056152, 8.729082107543945, 8.744668960571289),
        *(16.696552276611328, 4.131242752075195, 6.8257904052734375, 18.04524040222168),
    ]
    # Another processor rounds otherwise; here every digit was the same.
    assert [line["loss"] for line in trace(straight) if "loss" in line] == pytest.approx(recorded, rel=1e-5)


def test_copies_shards_and_one_process_make_one_trace(straight, relay):
    assert_same_trace(straight, relay)


def test_micro_batches_and_recomputing_change_nothing(store, straight, tmp_path):
    train(parse_command_line(command(store, tmp_path / "run", "--micro-batches", "4", "--recompute")))
    assert_same_trace(straight, tmp_path / "run")


def test_four_processes_draw_the_dropout_of_one_in_as_many_parts(store, straight, tmp_path, monkeypatch):
    parts = ["--micro-batches", "4"]
    monkeypatch.setitem(SIZES, "tiny", SIZES["tiny"])
    set_dropout(0)
    train(parse_command_line(command(store, tmp_path / "one", *parts)))
    assert losses(tmp_path / "one")[5] != pytest.approx(losses(straight)[5], rel=1e-4)
    found = run_processes(4, command(store, tmp_path / "four", *parts), tmp_path / "four", set_dropout)
    assert found == [0] * 4
    assert_same_trace(tmp_path / "one", tmp_path / "four")


def test_checkpoints_of_shards_are_whole_and_exported_as_files(relay, tmp_path):
    saved = relay / "checkpoints" / checkpoint_name(8)
    assert len(list((saved / "sharded").iterdir())) == 2
    before = load_checkpoint(saved)
    assert before.model is not None
    assert before.optimizer.keys() >= {"head_q.linear1.weight.exp_avg", "head_q.linear1.weight.step"}
    export(ExportConfig(checkpoint=saved, out=tmp_path / "exported"))
    assert sorted(file.name for file in (tmp_path / "exported").iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.safetensors",
    ]
    after = load_checkpoint(tmp_path / "exported")
    assert after.model is not None
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(tensor, after.model.state_dict()[name]), name
    assert after.tokenizer.content_hash() == before.tokenizer.content_hash()
    assert after.step == 8


def test_an_altered_shard_is_named(relay):
    saved = relay / "checkpoints" / checkpoint_name(8)
    shard = sorted((saved / "sharded").iterdir())[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(UserError, match=rf"{shard.name} is truncated or altered; delete .* earlier"):
            load_checkpoint(saved)
    finally:
        shard.write_bytes(content)


def test_a_loss_that_is_not_finite_in_one_process_stops_all_with_one_message(store, tmp_path):
    folder = tmp_path / "run"
    assert run_processes(2, command(store, folder), folder, spoil_loss) == [2, 2]
    first, second = ((folder / f"rank_{rank}.txt").read_text() for rank in (0, 1))
    assert second.count("error: rank 1: step 5: the loss or its gradient is not finite") == 1
    assert "error:" not in first
    assert "Traceback" not in first + second
    assert (folder / "non_finite" / "step_00000005_rank_1.safetensors").exists()
    assert load_checkpoint(folder).step == 5


def test_a_full_disk_of_one_process_stops_all_and_keeps_the_last_checkpoint(store, tmp_path):
    folder = tmp_path / "run"
    train(parse_command_line(command(store, folder, "--max-steps", "5")))
    resumed = ["--run", str(folder), "--resume"]
    assert run_processes(2, resumed, folder, limit_file_size) == [2, 2]
    first, second = ((folder / f"rank_{rank}.txt").read_text() for rank in (0, 1))
    assert "error: rank 1: step 8: the checkpoint was not written" in second
    assert "error:" not in first
    assert [path.name for path in list_checkpoints(folder)][-1] == checkpoint_name(5)
    assert load_checkpoint(folder).step == 5
    assert not list((folder / "checkpoints").glob(".*"))


def test_under_torchrun_the_same_command_goes_on_and_another_is_refused(store, straight, monkeypatch):
    assert not parse_command_line(command(store, straight)).resume
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    config = parse_command_line(command(store, straight, "--parallel", "fsdp"))
    assert config.resume
    assert config.parallel == "fsdp"
    with pytest.raises(UserError, match=r"--seed 7 contradicts"):
        parse_command_line(command(store, straight, "--seed", "7"))


@pytest.mark.slow
def test_torchrun_starts_a_killed_worker_again_and_the_trace_stays(store, tmp_path):
    options = [*OPTIONS, "--micro-batches", "2"]
    options[options.index("--joint-steps") + 1] = "20"
    train(parse_command_line(["--data", str(store), "--run", str(tmp_path / "one"), *options]))
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 --max-restarts 2 --".split()
    run = tmp_path / "two"
    process = subprocess.Popen(
        [sys.executable, *torchrun, "train.py", "--data", str(store), "--run", str(run), *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wait_for_step(run, 9, process)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    assert process.wait(120) == 0
    assert_same_trace(tmp_path / "one", run)


def test_shards_and_adapters_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="fsdp does not take lora_rank"):
        TrainConfig(run=tmp_path, from_checkpoint=tmp_path, lora_rank=2, parallel="fsdp")


@pytest.mark.parametrize(
    ("batch_size", "micro_batches", "message"),
    [(8, 3, "2 processes cannot share evenly"), (3, 4, "cannot be cut into 4 parts")],
)
def test_parts_that_do_not_fit_are_refused(batch_size, micro_batches, message):
    with pytest.raises(UserError, match=message):
        Processes(rank=1, size=2, parallel="ddp").parts(batch_size, micro_batches)


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch):
    assert own_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("cuda") == "cuda:3"
    assert own_device("cuda:1") == "cuda:1"
    assert own_device("cpu") == "cpu"
    for there, name in ((True, "cuda:3"), (False, "auto")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert own_device("auto") == name


def test_parts_make_up_the_batch():
    both = [Processes(rank=rank, size=2, parallel="ddp").parts(7, 4) for rank in (0, 1)]
    assert [len(parts) for parts in both] == [2, 2]
    assert sorted(row for parts in both for rows in parts for row in rows) == list(range(7))
    assert Processes().parts(7, None) == (range(0, 7, 1),)
