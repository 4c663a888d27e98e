"""The same work done here, by processes and by Ray; what is lost when a worker dies is done again."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from datasets.errors import UserError
from datasets.executor import Executor, Here, LocalProcesses, Report, Tally, find_executor
from datasets.ray_cluster import RayCluster


def make_squares() -> Callable[[int, Report], int]:
    def square(task: int, report: Report) -> int:
        for _ in range(task):
            report(Tally(decisions=1))
        report(Tally(episodes=1))
        return task * task

    return square


def make_dying(folder: Path) -> Callable[[int, Report], int]:
    """Dies once amid task 3, having told of half of it."""

    def work(task: int, report: Report) -> int:
        report(Tally(decisions=1))
        if task == 3 and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / f"{task}_{time.monotonic_ns()}").touch()
        report(Tally(decisions=1, episodes=1))
        return task

    return work


def make_mortal() -> Callable[[int, Report], int]:
    def die(task: int, report: Report) -> int:
        os._exit(1)

    return die


def make_refusing() -> Callable[[int, Report], int]:
    raise UserError("no ROM of Pong")


def run(executor: Executor, make, tasks) -> tuple[list[int], list[Tally]]:
    shown: list[Tally] = []
    return list(executor.run(make, tasks, shown.append)), shown


@pytest.mark.parametrize("executor", [Here(), LocalProcesses(2)], ids=str)
def test_results_come_in_order_and_the_tally_is_true(executor):
    results, shown = run(executor, make_squares, range(9))
    assert results == [number**2 for number in range(9)]
    assert shown[-1] == Tally(decisions=sum(range(9)), episodes=9)
    assert all(before.decisions <= after.decisions for before, after in itertools.pairwise(shown))


@pytest.mark.parametrize("executor", [Here(), LocalProcesses(1)], ids=str)
def test_tasks_without_end_stop_with_whoever_asks(executor):
    with closing(executor.run(make_squares, itertools.count(), lambda _: None)) as results:
        assert list(itertools.islice(results, 3)) == [0, 1, 4]


def test_what_a_dead_worker_had_begun_is_done_again_and_counts_once(tmp_path):
    results, shown = run(LocalProcesses(2), partial(make_dying, tmp_path), range(6))
    assert (tmp_path / "died").exists()
    assert results == list(range(6))
    assert shown[-1] == Tally(decisions=12, episodes=6)


def test_workers_that_keep_dying_are_told():
    with pytest.raises(UserError, match="keep dying"):
        run(LocalProcesses(1), make_mortal, range(2))


def test_what_a_worker_cannot_do_reaches_the_caller():
    with pytest.raises(UserError, match="no ROM of Pong"):
        run(LocalProcesses(1), make_refusing, range(2))


def test_the_executor_follows_the_command_line():
    assert find_executor(0, None) == Here()
    assert find_executor(3, None) == LocalProcesses(3)
    assert find_executor(3, "auto") == RayCluster(3, "auto")
    with pytest.raises(UserError, match="workers is 0"):
        find_executor(0, "auto")


@pytest.mark.slow
def test_two_ray_nodes_do_the_same_and_again_what_a_dead_worker_had_begun(tmp_path):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        executor = RayCluster(2, cluster.address)
        results, shown = run(executor, make_squares, range(9))
        assert results == [number**2 for number in range(9)]
        assert shown[-1] == Tally(decisions=sum(range(9)), episodes=9)
        results, shown = run(executor, partial(make_dying, tmp_path), range(6))
        assert results == list(range(6))
        assert shown[-1] == Tally(decisions=12, episodes=6)
        with pytest.raises(UserError, match="keep dying"):
            run(executor, make_mortal, range(2))
        with pytest.raises(UserError, match=r"^no ROM of Pong$"):
            run(executor, make_refusing, range(2))
        with pytest.raises(UserError, match=r"has 2 CPUs for 3 workers.*give --workers 2"):
            run(RayCluster(3, cluster.address), make_squares, range(2))
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_ray_cluster_that_is_not_there_is_told(monkeypatch, address):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

    def refuse(address: str, **_) -> None:
        # What Ray itself says, if it is not kept from asking around.
        raise ConnectionError("no running instance") if address == "auto" else ValueError("not an address")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match=f"there is no Ray cluster at {address}; start one with `ray start"):
        run(RayCluster(1, address), make_squares, range(2))
