"""Worker processes that write the parts of a plan, each part whole or not at all."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from datasets.conversion.plan import Part
from datasets.conversion.report import peak_memory_mb
from datasets.errors import UserError
from datasets.store import EpisodeWriter

_STEPS_WORTH_A_WORKER = 10_000
"""A process takes seconds to start; this is what it converts in that time."""


@dataclass(frozen=True)
class Job:
    """One part to write."""

    part: Part
    """What to read."""
    path: Path
    """The store to write it to."""


def write_parts(jobs: Sequence[Job], num_workers: int, on_steps: Callable[[int], object]) -> float:
    """Write parts, several at a time.

    A single worker, a single part, or little work is written by this process.

    Args:
        jobs: the parts; the largest ones are best first.
        num_workers: most processes at work.
        on_steps: called with the number of steps of every episode written.

    Returns:
        Sum of the workers' peak memory in MB, 0 where this process did the work.

    Raises:
        UserError: a source is damaged, the disk is full or a worker was killed; parts already written stay.
    """
    total = sum(job.part.num_steps for job in jobs)
    num_workers = min(num_workers, len(jobs), total // _STEPS_WORTH_A_WORKER)
    if num_workers <= 1:
        for job in jobs:
            _write_part(job, on_steps)
        return 0.0
    waiting = list(reversed(jobs))
    busy: dict[Connection, Job] = {}
    peaks: dict[Connection, float] = {}

    def give_work(connection: Connection) -> None:
        if waiting:
            busy[connection] = waiting.pop()
            with _told_death(busy[connection]):
                connection.send(busy[connection])

    with ExitStack() as stack:
        for connection in [stack.enter_context(_worker()) for _ in range(num_workers)]:
            give_work(connection)
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                message = _receive(connection, busy[connection])
                if isinstance(message, int):
                    on_steps(message)
                    continue
                peaks[connection] = message
                del busy[connection]
                give_work(connection)
    return sum(peaks.values())


def _write_part(job: Job, on_steps: Callable[[int], object]) -> None:
    with EpisodeWriter(job.path) as writer:
        for episode in job.part.episodes():
            writer.add(episode)
            on_steps(len(episode.actions))
            # The next episode is read before the name is bound again: two would be held at once.
            del episode


def _receive(connection: Connection, job: Job) -> int | float:
    """Steps written (int), or a worker's peak memory (float) when it has finished its part."""
    with _told_death(job):
        message = connection.recv()
    if isinstance(message, BaseException):
        raise message
    return message


@contextmanager
def _told_death(job: Job) -> Iterator[None]:
    """Tell of a worker that is gone as a `UserError`."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise UserError(
            f"{job.path} was not written: its worker process was killed, perhaps for want of memory; "
            "run again with fewer workers, and finished parts are kept"
        ) from error


@contextmanager
def _worker() -> Iterator[Connection]:
    """A process that writes every part sent to it; it ends when the block does."""
    # Spawned: a forked copy of a process that has used PyTorch or HDF5 may hang.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.terminate()
        process.join()


def _work(connection: Connection) -> None:
    """Write parts until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    while True:
        try:
            job: Job = connection.recv()
            try:
                _write_part(job, connection.send)
            except ConnectionError:
                raise
            except Exception as error:
                if not isinstance(error, UserError):
                    error.add_note(traceback.format_exc())
                connection.send(error)
            else:
                connection.send(peak_memory_mb())
        except (EOFError, ConnectionError):
            return
