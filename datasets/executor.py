"""Work on episodes, done in this process, by several of this machine, or by a Ray cluster.

The results and their order are the same. A task must decide its result alone. What a worker that dies had
begun is done again, so nothing is lost and nothing counts twice, in the results as in the tally that a
progress bar shows.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Event
from typing import Any, Protocol, TypeVar, runtime_checkable

from datasets.errors import UserError

SECONDS_PER_REPORT = 0.5
MOST_DEATHS = 3
"""Deaths of workers in a row, with no task done between them, that are too many."""

Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True)
class Tally:
    """What has been done."""

    decisions: int = 0
    """Actions chosen, in unfinished episodes too."""
    episodes: int = 0
    """Episodes played to their end."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.decisions + other.decisions, self.episodes + other.episodes)


Report = Callable[[Tally], bool]
"""Told what was done since it was last told; returns whether to go on."""
Show = Callable[[Tally], None]
"""Told what is done altogether; what it raises ends the work."""


class Worker(Protocol[Task, Result]):
    """Does one task after the other."""

    def __call__(self, task: Task, report: Report, /) -> Result:
        """Do a task; if `report` says so, give up, and return anything."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Has tasks done."""

    @property
    def workers(self) -> int:
        """Tasks that are done at once."""
        ...

    def run(
        self, make: Callable[[], Worker[Task, Result]], tasks: Iterable[Task], show: Show
    ) -> Generator[Result]:
        """Results in the order of the tasks; closing the generator abandons what has been begun.

        Args:
            make: makes a worker; called once in each process, so it must be possible to pickle it.
            tasks: as many as wanted, or without end.
            show: for a progress bar.

        Raises:
            UserError: raised by a worker, or worker processes keep dying.
        """
        ...


@dataclass(frozen=True)
class Here:
    """One task after the other, in this process."""

    workers: int = 1
    """Always 1."""

    def run(
        self, make: Callable[[], Worker[Task, Result]], tasks: Iterable[Task], show: Show
    ) -> Generator[Result]:
        """See `Executor`."""
        worker, done = make(), Tally()

        def report(more: Tally) -> bool:
            nonlocal done
            done += more
            show(done)
            return True

        for task in tasks:
            yield worker(task, report)


@dataclass
class _Begun:
    """A task that a pool of processes has been given, and the pool's answer: a result, and its tally."""

    task: Any
    future: Future[tuple[Any, Tally]] = field(default_factory=Future)

    @property
    def is_done(self) -> bool:
        """Whether there is a result."""
        return self.future.done() and not self.future.cancelled() and self.future.exception() is None


@dataclass(frozen=True)
class LocalProcesses:
    """Processes of this machine."""

    workers: int
    """How many."""

    def run(
        self, make: Callable[[], Worker[Task, Result]], tasks: Iterable[Task], show: Show
    ) -> Generator[Result]:
        """See `Executor`."""
        upcoming, begun, finished, deaths = iter(tasks), deque[_Begun](), Tally(), 0
        while True:
            # A pool does not outlive any of its processes, so each death means another pool.
            base = sum((one.future.result()[1] for one in begun if one.is_done), finished)
            with _Pool(make, self.workers) as pool:
                try:
                    for one in begun:
                        if not one.is_done:
                            one.future = pool.submit(one.task)
                    while pool.fill(begun, upcoming):
                        result, tally = pool.wait_for(begun[0].future, base, show)
                        begun.popleft()
                        finished, deaths = finished + tally, 0
                        yield result
                    return
                except BrokenProcessPool as error:
                    deaths += 1
                    if deaths > MOST_DEATHS:
                        raise UserError(
                            "worker processes keep dying, perhaps for lack of memory; try again with fewer "
                            "--workers"
                        ) from error


class _Pool:
    """Processes with a worker each, which are told to stop when the pool is left."""

    def __init__(self, make: Callable[[], Worker[Any, Any]], workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop, self._counts = context.Event(), context.Array("q", 2)
        self._workers = workers
        self._executor = ProcessPoolExecutor(workers, context, _start, (make, self._stop, self._counts))

    @property
    def tally(self) -> Tally:
        """What its workers have done."""
        return Tally(*self._counts)

    def submit(self, task: Any) -> Future[tuple[Any, Tally]]:
        """Have a task done."""
        with _interrupts_blocked():
            return self._executor.submit(_do, task)

    def fill(self, begun: deque[_Begun], upcoming: Iterator[Any]) -> bool:
        """Begin as many tasks as keep all workers busy while one is waited for; False if none is left."""
        while len(begun) < 2 * self._workers:
            try:
                one = _Begun(next(upcoming))
            except StopIteration:
                break
            begun.append(one)
            one.future = self.submit(one.task)
        return bool(begun)

    def wait_for(self, future: Future[tuple[Any, Tally]], base: Tally, show: Show) -> tuple[Any, Tally]:
        """Wait for a task, and keep on showing what this pool has done and what was done before it."""
        while True:
            try:
                found = future.result(timeout=SECONDS_PER_REPORT)
            except TimeoutError:
                show(base + self.tally)
                continue
            show(base + self.tally)
            return found

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._executor.shutdown(cancel_futures=True)


@dataclass
class _Process:
    """What a worker process keeps between tasks."""

    make: Callable[[], Worker[Any, Any]]
    stop: Event
    counts: SynchronizedArray[int]
    worker: Worker[Any, Any] | None = None


_process: _Process | None = None  # a pool's processes have no other place to keep a worker in


def end_with_parent() -> None:
    """End this process at once when the one that started it has ended, even if that was killed.

    There is nobody left to work for then. For processes that write whole files or none.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a process that multiprocessing has started can end with its parent"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _start(make: Callable[[], Worker[Any, Any]], stop: Event, counts: SynchronizedArray[int]) -> None:
    global _process
    end_with_parent()
    _process = _Process(make, stop, counts)
    # What a worker holds goes before the interpreter does: extension modules, such as the emulator's, call
    # it leaked otherwise, and say so on the terminal.
    atexit.register(_forget)


def _forget() -> None:
    global _process
    _process = None


def _do(task: Any) -> tuple[Any, Tally]:
    process, done = _process, Tally()
    assert process is not None
    # Made here and not at the start, so that what it raises reaches whoever waits.
    process.worker = process.worker or process.make()

    def report(more: Tally) -> bool:
        nonlocal done
        done += more
        with process.counts.get_lock():
            process.counts[0] += more.decisions
            process.counts[1] += more.episodes
        return not process.stop.is_set()

    return process.worker(task, report), done


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    # Ctrl-C goes to all processes of a terminal. Workers inherit that they are deaf to it, from their
    # first moment on, and are told to stop by the process that started them.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def find_executor(workers: int, ray: str | None) -> Executor:
    """What has the work done.

    Args:
        workers: how many; 0 for this process alone.
        ray: address of a Ray cluster, or None.

    Raises:
        UserError: a Ray cluster with no workers.
    """
    if ray is not None:
        from datasets.ray_cluster import RayCluster

        if workers < 1:
            raise UserError(f"workers is {workers}; with --ray it must be at least 1")
        return RayCluster(workers, ray)
    return LocalProcesses(workers) if workers else Here()
