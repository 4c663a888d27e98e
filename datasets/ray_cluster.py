"""Work on episodes, done by a Ray cluster (extra `ray`); see `executor.py`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from datasets.errors import UserError
from datasets.executor import MOST_DEATHS, SECONDS_PER_REPORT, Result, Show, Tally, Task, Worker


@dataclass(frozen=True)
class RayCluster:
    """Workers on a Ray cluster.

    The checkout must be at the same place on every machine. Tallies are those of tasks that are done.
    """

    workers: int
    """How many; each takes one CPU of the cluster."""
    address: str
    """`auto` for the cluster that this machine belongs to, or as `ray.init` takes it."""

    def run(
        self, make: Callable[[], Worker[Task, Result]], tasks: Iterable[Task], show: Show
    ) -> Generator[Result]:
        """See `Executor`."""
        ray = connected_ray(self.address)
        crew = _Crew(ray, make, self.workers)
        upcoming, begun, given, finished = iter(tasks), 0, 0, Tally()
        done: dict[int, Any] = {}
        try:
            while True:
                while crew.is_free and begun < given + 2 * self.workers:
                    try:
                        task = next(upcoming)
                    except StopIteration:
                        break
                    crew.begin(begun, task)
                    begun += 1
                if given == begun:
                    return
                for number, result, tally in crew.finished():
                    done[number] = result
                    finished += tally
                show(finished)
                while given in done:
                    given += 1
                    yield done.pop(given - 1)
        finally:
            crew.dismiss()


class _Crew:
    """Actors of a cluster, of which a new one takes over the task of each that dies."""

    def __init__(self, ray: ModuleType, make: Callable[[], Worker[Any, Any]], workers: int) -> None:
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if workers > cpus:
            raise UserError(
                f"the Ray cluster has {cpus} CPUs for {workers} workers, one each; give --workers {cpus}, "
                "or add machines with `ray start --address`"
            )
        self._ray, self._make = ray, make
        self._actor_class = ray.remote(num_cpus=1)(_RayWorker)
        self._idle = [self._hire() for _ in range(workers)]
        self._running: dict[Any, tuple[int, Any, Any]] = {}
        self._deaths = 0

    @property
    def is_free(self) -> bool:
        """Whether a task can begin."""
        return bool(self._idle)

    def begin(self, number: int, task: Any) -> None:
        """Have a free actor do a task of this number."""
        actor = self._idle.pop()
        self._running[actor.do.remote(task)] = (number, task, actor)

    def finished(self) -> Generator[tuple[int, Any, Tally]]:
        """Number, result and tally of what is done within half a second.

        Raises:
            UserError: raised by a worker, or workers keep dying.
        """
        for answer in self._ray.wait(list(self._running), timeout=SECONDS_PER_REPORT)[0]:
            number, task, actor = self._running.pop(answer)
            try:
                result, tally = self._ray.get(answer)
            except self._ray.exceptions.RayActorError as error:
                self._deaths += 1
                if self._deaths > MOST_DEATHS:
                    raise UserError(
                        "workers of the Ray cluster keep dying, perhaps for lack of memory; try again with "
                        "fewer --workers"
                    ) from error
                self._idle.append(self._hire())
                self.begin(number, task)
            except self._ray.exceptions.RayTaskError as error:
                # Ray's own message is the worker's whole traceback.
                raise error.cause or error from error
            else:
                self._deaths = 0
                self._idle.append(actor)
                yield number, result, tally

    def dismiss(self) -> None:
        """End all actors, whatever they do."""
        for actor in [*self._idle, *(actor for _, _, actor in self._running.values())]:
            self._ray.kill(actor)

    def _hire(self) -> Any:
        return self._actor_class.remote(self._make)


class _RayWorker:
    """A worker as an actor of Ray."""

    def __init__(self, make: Callable[[], Worker[Any, Any]]) -> None:
        self._make = make
        self._worker: Worker[Any, Any] | None = None

    def do(self, task: Any) -> tuple[Any, Tally]:
        """Do a task; its result and its tally."""
        # Made here and not at the start, so that what it raises reaches whoever waits.
        if self._worker is None:
            self._worker = self._make()
        done = Tally()

        def report(more: Tally) -> bool:
            nonlocal done
            done += more
            return True

        return self._worker(task, report), done


def connected_ray(address: str) -> ModuleType:
    """Ray, once this process belongs to the cluster.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError('--ray needs Ray, which is not installed; run pip install -e ".[ray]"') from error
    if not ray.is_initialized():
        root = str(Path(__file__).resolve().parents[1])
        try:
            _knock(address)
            ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": root}}, log_to_driver=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"there is no Ray cluster at {address}; start one with `ray start --head`, or leave --ray out"
            ) from error
    return ray


def _knock(address: str) -> None:
    """Find out at once what Ray finds out after many minutes: that nobody listens there."""
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10).close()
