"""The command line: its subcommands, its one-sentence errors, and tokens with a real tokenizer."""

import shlex
import sys

import h5py
import numpy as np
import pytest

from datasets import convert
from datasets.errors import run_command
from datasets.store import EpisodeStore
from datasets.tokens import build_token_cache
from tests.datasets.conversion_sources import dqn_path, write_checkpoint, write_trajectories
from world_model.checkpoint import load_checkpoint, save_checkpoint
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TokenizerConfig


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs a command line in the test's folder; returns its exit status, output and error."""

    def run(line):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["convert", *shlex.split(line)])
        status = 0
        try:
            run_command(convert.main)
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


def test_dqn_replay_to_a_store_and_on_to_the_published_layout(tmp_path, command):
    write_checkpoint(tmp_path / "dqn", [4, 18], 20)
    status, output, _ = command("dqn-replay --root dqn --out data --workers 1")
    assert status == 0
    assert "Pong: 2 episodes, 19 steps in Pong.h5 from dqn" in output
    assert "dropped: 1 episodes, 1 steps: unfinished at the end of its checkpoint" in output
    status, output, _ = command("dqn-replay --root dqn --out data --workers 1")
    assert (status, "was made from the same files before" in output) == (0, True)
    status, output, _ = command("export-published --store data/Pong.h5 --out jowa")
    assert (status, "2 episodes, 19 steps" in output) == (0, True)
    status, output, _ = command("published --root jowa --out again --workers 1")
    assert (status, "the 6 segments of Pong_right_padding.csv are those we cut" in output) == (0, True)
    first, again = (EpisodeStore(tmp_path / folder / "Pong.h5") for folder in ("data", "again"))
    assert [info.digest for info in first.episodes] == [info.digest for info in again.episodes]


def test_minari_there_and_back(tmp_path, command, monkeypatch):
    pytest.importorskip("minari", reason="the extra `minari` is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    write_checkpoint(tmp_path / "dqn", [4, 18], 20)
    assert command("dqn-replay --root dqn --out data --workers 1")[0] == 0
    status, output, _ = command("export-minari --store data/Pong.h5 --dataset worldbeam/pong/tests-v0")
    assert (status, "worldbeam/pong/tests-v0 is in" in output) == (0, True)
    status, output, _ = command("minari --dataset worldbeam/pong/tests-v0 --out again --workers 1")
    assert (status, "Pong: 2 episodes, 19 steps" in output) == (0, True)


def test_a_mistake_is_one_sentence_and_status_2(tmp_path, command):
    write_checkpoint(tmp_path / "dqn", [4], 5)
    path = dqn_path(tmp_path / "dqn")
    path.write_bytes(path.read_bytes()[:-100])
    status, output, error = command("dqn-replay --root dqn --out data --workers 1")
    assert status == 2
    assert output == ""
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "$store$_observation_ckpt.1.gz is truncated" in line
    assert list((tmp_path / "data").iterdir()) == []


@pytest.fixture
def tokenizer(tmp_path):
    config = TokenizerConfig(
        codebook_size=50, code_width=8, channels=8, num_residual_blocks=1, latent_channels=8
    )
    save_checkpoint(
        tmp_path / "run" / "checkpoints" / "step_00000001",
        step=1,
        tokenizer=Tokenizer(config).eval(),
        model=None,
        optimizer={},
        training={},
    )
    return load_checkpoint(tmp_path / "run").tokenizer


def test_published_tokens_reach_training_unchanged(tmp_path, command, tokenizer):
    vocabulary = tokenizer.config.vocab_size
    source = write_trajectories(tmp_path / "jowa", [3, 5], tokens=vocabulary)
    status, output, _ = command("published --root jowa --tokenizer run --out data")
    assert (status, "the tokens are in data/Pong.tokens-" in output) == (0, True)
    store = EpisodeStore(tmp_path / "data" / "Pong.h5")
    (path,) = (tmp_path / "data").glob("Pong.tokens-*.safetensors")
    cache = build_token_cache(store, tokenizer, progress=False)
    assert cache.path == path
    with h5py.File(source) as file:
        recorded = np.concatenate([file[str(number)]["observations"][()] for number in range(2)])
    np.testing.assert_array_equal(cache.tokens, recorded)
    status, _, _ = command(f"export-published --store data/Pong.h5 --tokens {path} --out back")
    assert status == 0
    with h5py.File(tmp_path / "back" / "trajectory" / "token_data" / "Pong.h5") as file:
        back = np.concatenate([file[str(number)]["observations"][()] for number in range(2)])
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, recorded)
