import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.behaviour_mixtures import parse_mixture
from datasets.collect import CollectConfig, _Line, collect, mean_with_interval, summarise
from datasets.errors import UserError
from datasets.games import find_game
from datasets.segments import PUBLISHED_PREPROCESSING
from datasets.store import EpisodeStore

ROOT = Path(__file__).resolve().parents[2]


def config(out: Path) -> CollectConfig:
    return CollectConfig(
        game="Pong",
        out=out,
        steps=150,
        behaviour="tracker@0.1..0.5:2,random:1",
        seed=4,
        workers=1,
        max_episode_decisions=40,
    )


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> EpisodeStore:
    """A store collected by one process."""
    out = tmp_path_factory.mktemp("collect") / "pong.h5"
    collect(config(out))
    return EpisodeStore(out)


def test_whole_episodes_are_kept_until_there_are_enough_steps(collected):
    assert [info.length for info in collected.episodes] == [40, 40, 40, 40]
    assert not any(info.ended for info in collected.episodes)


def test_what_played_is_recorded_with_every_episode(collected):
    behaviours = [info.behaviour for info in collected.episodes]
    assert all(behaviour == "random" or behaviour.startswith("tracker@0.") for behaviour in behaviours)
    assert len(set(behaviours)) >= 3
    assert len({info.seed for info in collected.episodes}) == 4
    assert {info.game for info in collected.episodes} == {"Pong"}


def test_lives_are_recorded_before_each_action(collected, tmp_path):
    assert not any(collected.lives(info.key).any() for info in collected.episodes)  # Pong has none
    asked = replace(config(tmp_path / "breakout.h5"), game="Breakout", behaviour="random")
    collect(replace(asked, steps=200, max_episode_decisions=1000))
    played = EpisodeStore(asked.out)
    for info in played.episodes:
        lives = played.lives(info.key)
        assert info.ended
        assert lives[0] == 5
        assert lives[-1] == 1
        assert set(np.diff(lives.astype(int)).tolist()) == {0, -1}


def test_emulator_and_preprocessing_are_recorded(collected):
    h5py = pytest.importorskip("h5py")
    with h5py.File(collected.path, "r") as file:
        attributes = dict(file["episodes/000000"].attrs)
    assert attributes["preprocessing"] == PUBLISHED_PREPROCESSING
    assert attributes["emulator"].startswith("ale-py 0.")


def test_the_file_does_not_depend_on_the_number_of_workers_or_on_appending(collected, tmp_path):
    out = tmp_path / "pong.h5"
    collect(replace(config(out), steps=40, workers=2))
    collect(replace(config(out), steps=110, workers=2, append=True))
    assert EpisodeStore(out).content_id == collected.content_id


def test_a_file_that_exists_is_not_overwritten(tmp_path):
    out = tmp_path / "pong.h5"
    out.write_bytes(b"something else")
    with pytest.raises(UserError, match="exists already; give another --out, or --append"):
        collect(config(out))
    with pytest.raises(UserError, match=r"cannot be read|not a"):
        collect(replace(config(out), append=True))
    assert out.read_bytes() == b"something else"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("workers", 0),
        ("max_episode_decisions", 0),
        ("max_noops", -1),
        ("seed", -1),
        ("sticky", 1.0),
    ],
)
def test_numbers_out_of_range_are_told(field, value, tmp_path):
    with pytest.raises(UserError, match=f"{field} is {value}"):
        replace(config(tmp_path / "pong.h5"), **{field: value})


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [({"game": "Pongg"}, "did you mean Pong"), ({"behaviour": "up=0.5"}, "up plays Freeway, not Pong")],
)
def test_unknown_names_are_told_before_anything_is_played(wrong, expected, tmp_path):
    with pytest.raises(UserError, match=expected):
        collect(replace(config(tmp_path / "pong.h5"), **wrong))
    assert not list(tmp_path.iterdir())


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "datasets.collect", *arguments]


def test_the_command_answers_a_mistake_with_one_sentence_and_status_2(tmp_path):
    arguments = command("--game", "Pongg", "--steps", "10", "--out", str(tmp_path / "x.h5"))
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown game 'Pongg'; did you mean Pong")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_keeps_the_episodes_that_are_complete(tmp_path):
    out = tmp_path / "pong.h5"
    arguments = command(
        *("--game", "Pong", "--steps", "1000000", "--workers", "1", "--max-episode-decisions", "50"),
        *("--out", str(out)),
    )
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        # The unfinished file beside the final name grows with the first episodes.
        while not any(file.stat().st_size > 20_000 for file in tmp_path.iterdir()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "leaked" not in output  # as the emulator's module says of one that outlives the interpreter
    assert f"kept in {out}" in output
    store = EpisodeStore(out)
    assert len(store.episodes) >= 1
    assert all(info.length == 50 for info in store.episodes)
    assert list(tmp_path.iterdir()) == [out]


def test_the_table_counts_each_behaviour_as_it_was_written():
    mixture = parse_mixture("tracker@0.1..0.5:2,random:1", find_game("Pong"))
    lines = [
        _Line("tracker@0.1..0.5", length=300, total_reward=2.0),
        _Line("tracker@0.1..0.5", length=500, total_reward=4.0),
        _Line("random", length=200, total_reward=-5.0),
    ]
    rows = [line.split() for line in summarise(lines, mixture, seconds=10.0).splitlines()]
    assert rows[1][:4] == ["tracker@0.1..0.5", "2", "800", "80%"]
    assert rows[1][-1] == "4"
    assert rows[2] == ["random", "1", "200", "20%", "-5.0", "-5"]
    assert rows[3][:4] == ["all", "3", "1000", "100%"]
    assert rows[-1][0] == "1000"
    assert rows[-1][-2:] == ["100", "steps/s"]


def test_the_interval_of_a_mean_is_that_of_students_t():
    # Four values with mean 3 and standard error 1; t of 3 degrees of freedom at 97.5% is 3.182.
    returns = np.array([1.0, 5.0, 3.0 - np.sqrt(2.0), 3.0 + np.sqrt(2.0)])
    assert mean_with_interval(returns) == "3.0 +- 3.2"
    assert mean_with_interval(np.array([7.0])) == "7.0"
    assert mean_with_interval(np.array([])) == "-"
