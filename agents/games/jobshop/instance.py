"""Job-shop instances: their format, reading and checking.

Letters: J jobs, K operations of the longest job, M machines.

A file is JSON: `jobs` is a list of jobs, a job a list of `[machine, duration]`; `name`, `optimum`,
`upper_bound` and `lower_bound` may stand beside it, and `machines`, their number. Without that number
there are as many machines as are used, and their numbers are 0 to one less.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from datasets.errors import UserError

LONGEST = 2**30
"""Times are kept in 32 bits, with room for one beyond all; all durations together must stay below this."""


@dataclass(frozen=True)
class JobShopInstance:
    """Jobs whose operations run in order, each on its machine, one at a time on a machine."""

    name: str
    """What plans are tied to."""
    machine: Int[np.ndarray, "J K"]
    """Machine of each operation, int32; -1 behind a job's last."""
    duration: Int[np.ndarray, "J K"]
    """Its duration, int32; 0 behind a job's last."""
    num_operations: Int[np.ndarray, "J"]
    """Operations of each job, int32, at least 1."""
    num_machines: int
    """M."""
    best_known: int | None = None
    """Makespan of the best known schedule."""
    proven_bound: int | None = None
    """Makespan that no schedule can be below, as published."""

    @property
    def num_jobs(self) -> int:
        """J."""
        return len(self.machine)

    @property
    def total_operations(self) -> int:
        """Operations of all jobs, which is the number of steps of a game."""
        return int(self.num_operations.sum())

    @property
    def lower_bound(self) -> int:
        """The larger of the longest job and the busiest machine with the least time before and after it."""
        job_bound = int(self.duration.sum(axis=1).max())
        head = np.cumsum(self.duration, axis=1) - self.duration
        tail = self.duration.sum(axis=1, keepdims=True) - head - self.duration
        machine_bound = 0
        for machine in range(self.num_machines):
            runs = self.machine == machine
            if runs.any():
                load = int(self.duration[runs].sum())
                machine_bound = max(machine_bound, load + int(head[runs].min()) + int(tail[runs].min()))
        return max(job_bound, machine_bound)

    def reversed(self) -> JobShopInstance:
        """The shop with time running backwards: a schedule of one read from its end is one of the other."""
        machine, duration = np.full_like(self.machine, -1), np.zeros_like(self.duration)
        for job, count in enumerate(self.num_operations):
            machine[job, :count] = self.machine[job, :count][::-1]
            duration[job, :count] = self.duration[job, :count][::-1]
        return JobShopInstance(
            self.name,
            machine,
            duration,
            self.num_operations,
            self.num_machines,
            self.best_known,
            self.proven_bound,
        )


def read_instance(path: str | Path) -> JobShopInstance:
    """Read an instance from a JSON file.

    Raises:
        UserError: the file cannot be read or holds no instance; names the line or the field.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a job-shop instance in JSON") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}; give a job-shop instance in JSON") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no object; write one with a field `jobs`")
    return instance_from_json(content, str(path), default_name=path.stem)


def instance_from_json(content: dict[str, Any], source: str, default_name: str) -> JobShopInstance:
    """Check what was read from a file and make an instance of it.

    Args:
        content: the object of the file.
        source: what to call it in errors.
        default_name: name of an instance that says none.

    Raises:
        UserError: naming the source and the field.
    """
    jobs = content.get("jobs")
    if not isinstance(jobs, list) or not jobs:
        raise UserError(f"{source}: jobs must be a list of at least one job of [machine, duration] pairs")
    for number, job in enumerate(jobs):
        _check_job(job, f"{source}: jobs[{number}]")
    _check_machines(jobs, content.get("machines"), source)
    if sum(duration for job in jobs for _, duration in job) >= LONGEST:
        raise UserError(f"{source}: the durations add up to {LONGEST} or more; use a coarser unit of time")
    used = {machine for job in jobs for machine, _ in job}
    num_machines = content.get("machines", len(used))
    longest = max(len(job) for job in jobs)
    machine = np.full((len(jobs), longest), -1, dtype=np.int32)
    duration = np.zeros((len(jobs), longest), dtype=np.int32)
    for number, job in enumerate(jobs):
        machine[number, : len(job)] = [operation[0] for operation in job]
        duration[number, : len(job)] = [operation[1] for operation in job]
    return JobShopInstance(
        name=str(content.get("name", default_name)),
        machine=machine,
        duration=duration,
        num_operations=np.array([len(job) for job in jobs], dtype=np.int32),
        num_machines=num_machines,
        best_known=_bound(content, ("optimum", "upper_bound"), source),
        proven_bound=_bound(content, ("optimum", "lower_bound"), source),
    )


def _check_job(job: Any, place: str) -> None:
    if not isinstance(job, list):
        raise UserError(f"{place} is {job!r}; it must be a list of [machine, duration] pairs")
    if not job:
        raise UserError(
            f"{place} has no operation; give it at least one [machine, duration] or remove the job"
        )
    for number, operation in enumerate(job):
        if not isinstance(operation, list) or len(operation) != 2 or not all(map(_is_integer, operation)):
            raise UserError(
                f"{place}[{number}] is {operation!r}; it must be [machine, duration] in whole numbers"
            )
        if operation[1] < 0:
            raise UserError(f"{place}[{number}]: duration {operation[1]} is negative; it must be 0 or more")


def _check_machines(jobs: list, count: Any, source: str) -> None:
    if count is not None and (not _is_integer(count) or count < 1):
        raise UserError(f"{source}: machines is {count!r}; it must be the number of machines, at least 1")
    known = len({machine for job in jobs for machine, _ in job}) if count is None else count
    for number, job in enumerate(jobs):
        for place, (machine, _) in enumerate(job):
            if not 0 <= machine < known:
                raise UserError(
                    f"{source}: jobs[{number}][{place}]: machine {machine} is unknown; "
                    f"there are {known} machines, numbered from 0"
                )


def _bound(content: dict[str, Any], fields: tuple[str, ...], source: str) -> int | None:
    """The first of the fields that is given."""
    for field in fields:
        value = content.get(field)
        if value is None:
            continue
        if not _is_integer(value) or value < 0:
            raise UserError(f"{source}: {field} is {value!r}; it must be a makespan, 0 or more, or null")
        return value
    return None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
