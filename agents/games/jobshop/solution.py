"""Schedules as files.

format: "jobshop-plan-v1"; instance: its name; makespan: whole number
starts: one list per job, the start of each of its operations in order
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.rules import JobShopRules
from agents.games.jobshop.validator import violations
from datasets.errors import UserError
from datasets.files import replace_file

FORMAT = "jobshop-plan-v1"


@dataclass(frozen=True)
class Schedule:
    """When each operation starts."""

    instance: str
    """Name of the instance it is for."""
    starts: tuple[tuple[int, ...], ...]
    """One tuple per job, in the order of its operations."""
    makespan: int
    """End of the last operation."""


def schedule_of(instance: JobShopInstance, jobs: np.ndarray) -> Schedule:
    """The schedule that dispatching jobs in an order makes.

    Args:
        instance: the shop.
        jobs: int [total operations]; each job as often as it has operations.
    """
    times = JobShopRules(instance).start_times(jobs)
    rows = zip(times, instance.num_operations, strict=True)
    starts = tuple(tuple(int(time) for time in row[:count]) for row, count in rows)
    ends = times + instance.duration
    return Schedule(instance.name, starts, int(ends[instance.machine >= 0].max()))


def reversed_schedule(instance: JobShopInstance, schedule: Schedule) -> Schedule:
    """A schedule of the reversed shop as one of the shop itself, each operation as early as its order allows.

    Args:
        instance: the shop itself.
        schedule: of `instance.reversed()`.
    """
    runs = []
    for job, times in enumerate(schedule.starts):
        for place, begin in enumerate(times):
            own = len(times) - 1 - place
            end = schedule.makespan - begin
            # What takes no time goes before what starts at that moment.
            runs.append((end - int(instance.duration[job, own]), end, own, job))
    return schedule_of(instance, np.array([job for *_, job in sorted(runs)], dtype=np.int64))


def write_schedule(schedule: Schedule, path: str | Path) -> None:
    """Write a schedule to a JSON file."""
    content = {
        "format": FORMAT,
        "instance": schedule.instance,
        "makespan": schedule.makespan,
        "starts": [list(times) for times in schedule.starts],
    }
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(content) + "\n")


def read_schedule(path: str | Path, instance: JobShopInstance) -> Schedule:
    """Read a schedule and hold it to its instance.

    Raises:
        UserError: it cannot be read, is for another instance, or breaks an invariant; says which.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a schedule in JSON") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}; give a schedule in JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f'{path}: format must be "{FORMAT}"')
    if content.get("instance") != instance.name:
        raise UserError(
            f"{path}: instance is {content.get('instance')!r}, not {instance.name!r}; give that one's plan"
        )
    starts = _checked_starts(content.get("starts"), path)
    makespan = content.get("makespan")
    if isinstance(makespan, bool) or not isinstance(makespan, int):
        raise UserError(f"{path}: makespan is {makespan!r}; it must be a whole number")
    broken = violations(instance, starts, makespan)
    if broken:
        raise UserError(f"{path}: starts do not make a schedule; {broken[0]}")
    return Schedule(instance.name, starts, makespan)


def _checked_starts(starts: Any, path: Path) -> tuple[tuple[int, ...], ...]:
    if not isinstance(starts, list) or not all(isinstance(times, list) for times in starts):
        raise UserError(f"{path}: starts must be a list with one list of times per job")
    for job, times in enumerate(starts):
        for place, begin in enumerate(times):
            if isinstance(begin, bool) or not isinstance(begin, int):
                raise UserError(f"{path}: starts[{job}][{place}] is {begin!r}; it must be a whole number")
    return tuple(tuple(times) for times in starts)
