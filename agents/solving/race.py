"""Several searches of one instance side by side, a process each; the best plan so far is kept."""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Any

from agents.solving.task import Task
from datasets.errors import UserError
from datasets.executor import end_with_parent

GRACE = 20.0
"""Seconds beyond the limit after which a search that does not end by itself is ended."""


REHEARSAL, MOST_REHEARSALS = 0.5, 6
"""Seconds of a search of a small instance, and how often it is repeated at most."""


@dataclass(frozen=True)
class Improvement:
    """A plan that was the best so far when it was found."""

    seconds: float
    """Since the start."""
    objective: float
    """What it costs."""
    plan: Any
    """The plan."""
    by: str
    """Which start, or which heuristic, found it."""


def race(
    task: Task,
    *,
    seconds: float,
    starts: int,
    seed: int,
    improved: Callable[[Improvement], None],
    best: Improvement | None = None,
) -> list[Improvement]:
    """Search until the time is over or Ctrl-C is pressed; every plan is validated before it counts.

    Args:
        task: the instance.
        seconds: wall-clock limit, measured from when the first search has begun; before, it compiles.
        starts: processes.
        seed: start i searches with seed `seed + i`.
        improved: told of each improvement at once, so that it can be written down.
        best: what is there already, to be improved on.

    Returns:
        The improvements in order, `best` not among them.

    Raises:
        UserError: a search failed and none found a plan, or a plan breaks an invariant.
    """
    context = multiprocessing.get_context("spawn")
    messages: Queue = context.Queue()
    workers = [
        context.Process(target=_search, args=(task, seed + place, seconds, place, messages), daemon=True)
        for place in range(starts)
    ]
    found: list[Improvement] = []
    for worker in workers:
        worker.start()
    try:
        for improvement in _improvements(task, messages, starts, seconds, best):
            found.append(improvement)
            improved(improvement)
    except KeyboardInterrupt:
        print("\nstopped; the best plan so far is kept", flush=True)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
    return found


def _improvements(task: Task, messages: Queue, starts: int, seconds: float, best: Improvement | None):
    """Improvements as they come, until all searches have ended."""
    running, failures, began = starts, [], None
    lowest = best.objective if best else float("inf")
    while running:
        left = 600.0 if began is None else began + seconds + GRACE - time.perf_counter()
        try:
            place, kind, content = messages.get(timeout=max(left, 0.01))
        except queue.Empty:
            break
        if kind == "begun":
            began = began or time.perf_counter()
        elif kind == "ended":
            running -= 1
            failures += [content] if content else []
        else:
            objective = task.objective(content)
            if objective < lowest:
                _check(task, content)
                lowest = objective
                now = time.perf_counter() - (began or time.perf_counter())
                yield Improvement(now, objective, content, f"start {place}")
    if failures and lowest == float("inf"):
        raise UserError(f"{task.name}: no plan was found, as the search failed: {failures[0]}")


def _check(task: Task, plan: Any) -> None:
    wrong = task.violations(plan)
    if wrong:
        raise UserError(
            f"{task.name}: the search made a plan that is not valid ({wrong[0]}); this is a fault of the "
            "program, please report it with the instance"
        )


def _rehearse(small: Task) -> None:
    """Search a small instance until it takes no longer than it should: then everything is compiled.

    The first search on a machine compiles for a minute, which must not be taken from its time. What compiles
    leaves no time for what follows, so it is repeated.
    """
    for _ in range(MOST_REHEARSALS):
        begun = time.perf_counter()
        small.search(0, REHEARSAL, lambda plan: None)
        if time.perf_counter() - begun < 2 * REHEARSAL:
            return


def _search(task: Task, seed: int, seconds: float, place: int, messages: Queue) -> None:
    """A process of its own: search, and send plans as they are found."""
    # The parent is who hears Ctrl-C; it ends this process, which also ends if the parent is killed.
    import signal

    import torch

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    try:
        _rehearse(task.small())
        messages.put((place, "begun", None))
        task.search(seed, seconds, lambda plan: messages.put((place, "plan", plan)))
    except Exception as error:  # whatever it is, the other searches go on and the parent says so
        messages.put((place, "ended", f"{type(error).__name__}: {error}"))
        raise
    messages.put((place, "ended", None))
