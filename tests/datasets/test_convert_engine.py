"""A plan is carried out the same by any number of workers, and goes on after any kind of end."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from datasets.conversion import workers
from datasets.conversion.engine import convert
from datasets.conversion.merge import merge_stores
from datasets.conversion.plan import Plan, in_order, neighbours
from datasets.conversion.report import SourceSummary, read_report, report_path
from datasets.errors import UserError
from datasets.segments import Episode
from datasets.store import EpisodeStore
from tests.datasets.episodes import make_episode, write_store

ROOT = Path(__file__).resolve().parents[2]
SUMMARY = SourceSummary("tests", "all of them", 6, 90, ())


@dataclass(frozen=True)
class FakePart:
    """Two episodes, or what happens instead of the second."""

    number: int
    log: Path
    fails: str = ""

    @property
    def identity(self) -> str:
        return f"fake {self.number}"

    @property
    def num_steps(self) -> int:
        return 30

    def episodes(self) -> Iterator[Episode]:
        with self.log.open("a") as file:
            file.write(f"{self.number} by {os.getpid()}\n")
        yield make_episode(10, seed=2 * self.number)
        if self.fails == "damage":
            raise UserError(f"part {self.number} is damaged")
        if self.fails == "bug":
            raise ZeroDivisionError("a bug")
        if self.fails == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails == "interrupted":
            raise KeyboardInterrupt
        yield make_episode(20, seed=2 * self.number + 1)


def make_plan(tmp_path, fails="", order=None):
    parts = [FakePart(number, tmp_path / "log", fails if number == 1 else "") for number in range(3)]
    return Plan("Pong", parts, order or in_order([2, 2, 2]), SUMMARY)


def seeds(out):
    return [info.seed for info in EpisodeStore(out / "Pong.h5").episodes]


@pytest.fixture
def many_workers(monkeypatch):
    monkeypatch.setattr(workers, "_STEPS_WORTH_A_WORKER", 1)


def log_lines(tmp_path):
    return (tmp_path / "log").read_text().splitlines()


def test_the_store_equals_one_written_at_once(tmp_path):
    out = tmp_path / "out"
    report = convert(make_plan(tmp_path), out, 1, progress=False).report
    episodes = [make_episode(20 if seed % 2 else 10, seed=seed) for seed in range(6)]
    direct = write_store(tmp_path / "direct.h5", episodes)
    store = EpisodeStore(out / "Pong.h5")
    assert store.content_id == direct.content_id == report.content_id
    for info, episode in zip(store.episodes, episodes, strict=True):
        np.testing.assert_array_equal(store.frames(info.key), episode.frames)
    assert sorted(entry.name for entry in out.iterdir()) == ["Pong.h5", "Pong.report.json"]
    assert read_report(report_path(out / "Pong.h5")) == report
    assert report.peak_memory_mb > 50


def test_workers_write_the_same(tmp_path, many_workers):
    convert(make_plan(tmp_path), tmp_path / "one", 1, progress=False)
    report = convert(make_plan(tmp_path), tmp_path / "two", 2, progress=False).report
    assert report.content_id == EpisodeStore(tmp_path / "one" / "Pong.h5").content_id
    processes = {line.split(" by ")[1] for line in log_lines(tmp_path)[3:]}
    assert len(processes) >= 1
    assert str(os.getpid()) not in processes


def test_episodes_may_come_in_any_order_and_twice(tmp_path):
    convert(make_plan(tmp_path, order=[(2, 1), (0, 0), (0, 0), (1, 0)]), tmp_path / "out", 1, progress=False)
    assert seeds(tmp_path / "out") == [5, 0, 0, 2]


@pytest.mark.parametrize(
    ("fails", "num_workers", "error"),
    [
        ("damage", 1, UserError),
        ("interrupted", 1, KeyboardInterrupt),
        ("bug", 1, ZeroDivisionError),
        ("damage", 2, UserError),
        ("killed", 2, UserError),
    ],
)
def test_an_end_in_the_middle_keeps_finished_parts_alone(tmp_path, many_workers, fails, num_workers, error):
    out = tmp_path / "out"
    write_store(out / "Pong.h5", [make_episode(3, seed=77)])
    with pytest.raises(error):
        convert(make_plan(tmp_path, fails), out, num_workers, progress=False)
    assert seeds(out) == [77]
    finished = len(list(out.glob(".Pong.parts/*.h5")))
    # A second worker may have finished a part by then, or be stopped within its first.
    assert finished == 1 if num_workers == 1 else finished <= 2
    before = len(log_lines(tmp_path))
    report = convert(make_plan(tmp_path), out, 1, progress=False).report
    assert len(log_lines(tmp_path)) - before == 3 - finished
    assert report.reused_steps == 30 * finished
    assert seeds(out) == [0, 1, 2, 3, 4, 5]
    assert not (out / ".Pong.parts").exists()


def test_a_failure_before_any_part_leaves_nothing(tmp_path):
    plan = make_plan(tmp_path, "damage")
    plan = Plan("Pong", plan.parts[1:2], in_order([2]), SUMMARY)
    with pytest.raises(UserError, match="part 1 is damaged"):
        convert(plan, tmp_path / "out", 1, progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_two_conversions_into_one_store_are_refused(tmp_path):
    folder = tmp_path / "out" / ".Pong.parts"
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UserError, match=r"another conversion is writing .*Pong\.h5"):
        convert(make_plan(tmp_path), tmp_path / "out", 1, progress=False)
    os.close(handle)
    convert(make_plan(tmp_path), tmp_path / "out", 1, progress=False)
    assert seeds(tmp_path / "out") == [0, 1, 2, 3, 4, 5]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*Pong\.h5"):
        convert(make_plan(tmp_path), tmp_path / "out", 1, progress=False)


def test_parts_of_another_plan_are_not_used_and_go(tmp_path):
    with pytest.raises(UserError):
        convert(make_plan(tmp_path, "damage"), tmp_path / "out", 1, progress=False)
    parts = [FakePart(number, tmp_path / "log") for number in (5, 6)]
    report = convert(
        Plan("Pong", parts, in_order([2, 2]), SUMMARY), tmp_path / "out", 1, progress=False
    ).report
    assert report.reused_steps == 0
    assert seeds(tmp_path / "out") == [10, 11, 12, 13]
    assert not (tmp_path / "out" / ".Pong.parts").exists()


def test_the_same_plan_is_not_carried_out_twice(tmp_path):
    first = convert(make_plan(tmp_path), tmp_path / "out", 1, progress=False)
    again = convert(make_plan(tmp_path), tmp_path / "out", 1, progress=False)
    assert (first.already_there, again.already_there) == (False, True)
    assert again.report == first.report
    assert len(log_lines(tmp_path)) == 3
    other = convert(make_plan(tmp_path, order=[(0, 1)]), tmp_path / "out", 1, progress=False)
    assert not other.already_there
    assert seeds(tmp_path / "out") == [1]


@pytest.mark.parametrize("name", ["Pong.h5", "Pong.report.json"])
def test_what_was_damaged_since_is_written_again(tmp_path, name):
    out = tmp_path / "out"
    convert(make_plan(tmp_path), out, 1, progress=False)
    (out / name).write_text("damage")
    assert not convert(make_plan(tmp_path), out, 1, progress=False).already_there
    assert seeds(out) == [0, 1, 2, 3, 4, 5]


def test_a_damaged_part_is_written_again(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError):
        convert(make_plan(tmp_path, "damage"), out, 1, progress=False)
    (part,) = (out / ".Pong.parts").glob("*.h5")
    part.write_bytes(part.read_bytes()[:-500])
    convert(make_plan(tmp_path), out, 1, progress=False)
    assert seeds(out) == [0, 1, 2, 3, 4, 5]


SLOW_RUN = """
import sys, time
from pathlib import Path
from datasets.conversion.engine import convert
from tests.datasets import test_convert_engine as tests

class Slow(tests.FakePart):
    def episodes(self):
        for episode in super().episodes():
            time.sleep(0.15)
            yield episode

folder = Path(sys.argv[1])
parts = [Slow(number, folder / "log") for number in range(3)]
convert(tests.Plan("Pong", parts, tests.in_order([2, 2, 2]), tests.SUMMARY), folder / "out", 1, False)
"""


def test_a_killed_process_goes_on_where_it_was(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(tmp_path)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/.Pong.parts/*.h5")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finished = len(list(tmp_path.glob("out/.Pong.parts/[!.]*.h5")))
    assert finished >= 1
    assert not (tmp_path / "out" / "Pong.h5").exists()
    before = len(log_lines(tmp_path))
    report = convert(make_plan(tmp_path), tmp_path / "out", 1, progress=False).report
    assert len(log_lines(tmp_path)) - before == 3 - finished
    assert report.reused_steps == 30 * finished
    assert seeds(tmp_path / "out") == [0, 1, 2, 3, 4, 5]
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["Pong.h5", "Pong.report.json"]


def test_a_full_disk_while_merging_is_told_and_the_old_store_stays(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_store(out / "Pong.h5", [make_episode(3, seed=77)])
    plan = make_plan(tmp_path)
    monkeypatch.setattr("datasets.hdf5.shutil.disk_usage", lambda _: FullAfter.usage())
    FullAfter.left = 7
    with pytest.raises(UserError, match="the disk is full"):
        convert(plan, out, 1, progress=False)
    assert FullAfter.left == 0
    assert seeds(out) == [77]


class FullAfter:
    """A disk with room for so many questions."""

    left = 0

    @classmethod
    def usage(cls):
        if cls.left == 0:
            return type("Usage", (), {"free": 0})
        cls.left -= 1
        return type("Usage", (), {"free": 1 << 40})


def test_merging_refuses_a_damaged_store(tmp_path):
    write_store(tmp_path / "a.h5", [make_episode(5)])
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.h5 is truncated"):
        merge_stores([tmp_path / "a.h5"], [(0, 0)], tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_large_files_are_cut_between_episodes(monkeypatch):
    monkeypatch.setattr("datasets.conversion.plan._STEPS_PER_PART", 10)
    lengths = np.array([4, 5, 3, 25, 1, 2])
    parts = neighbours(lengths)
    assert parts == [(0, (4, 5, 3)), (3, (25,)), (4, (1, 2))]
    assert in_order(len(group) for _, group in parts) == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1)]


def test_a_report_that_is_none_is_named(tmp_path):
    path = tmp_path / "Pong.report.json"
    assert read_report(path) is None
    path.write_text('{"game": "Pong"}')
    with pytest.raises(UserError, match=r"Pong\.report\.json is not a conversion report"):
        read_report(path)
