"""Judges finished schedules from the instance alone; shares no code with the rules.

The invariants, by name:

- `complete`: every operation has exactly one start.
- `time`: starts are whole numbers, 0 or more.
- `precedence`: an operation starts no sooner than the one before it in its job ends.
- `machine`: a machine runs one operation at a time.
- `makespan`: the stated makespan is the end of the last operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.games.jobshop.instance import JobShopInstance


@dataclass(frozen=True)
class Violation:
    """One broken invariant."""

    invariant: str
    """Its name; see above."""
    detail: str
    """Which operations break it, and by what times."""

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


def violations(
    instance: JobShopInstance, starts: Sequence[Sequence[int]], makespan: int | None = None
) -> list[Violation]:
    """Everything that is wrong with a schedule.

    Args:
        instance: what was to be scheduled.
        starts: the start of each operation, one list per job.
        makespan: what the schedule is said to take, if that is to be checked.

    Returns:
        The broken invariants; none for a valid schedule. Where operations are missing or starts are no times,
        nothing else is looked at.
    """
    malformed = _malformed(instance, starts)
    if malformed:
        return malformed
    found, by_machine, last_end = [], {}, 0
    for job, times in enumerate(starts):
        previous_end = 0
        for place, begin in enumerate(times):
            begin, end = int(begin), int(begin) + int(instance.duration[job, place])
            if begin < previous_end:
                detail = f"operation {place} of job {job} starts at {begin}, its turn is at {previous_end}"
                found.append(Violation("precedence", detail))
            by_machine.setdefault(int(instance.machine[job, place]), []).append((begin, end, job, place))
            previous_end, last_end = end, max(last_end, end)
    for machine, runs in sorted(by_machine.items()):
        found.extend(_overlaps(machine, sorted(runs)))
    if makespan is not None and makespan != last_end:
        found.append(
            Violation(
                "makespan", f"the makespan is said to be {makespan}, the last operation ends at {last_end}"
            )
        )
    return found


def _malformed(instance: JobShopInstance, starts: Sequence[Sequence[int]]) -> list[Violation]:
    if len(starts) != instance.num_jobs:
        return [
            Violation(
                "complete", f"there are starts for {len(starts)} jobs, the instance has {instance.num_jobs}"
            )
        ]
    found = []
    for job, times in enumerate(starts):
        expected = int(instance.num_operations[job])
        if len(times) != expected:
            found.append(
                Violation("complete", f"job {job} has {len(times)} starts and {expected} operations")
            )
        for place, begin in enumerate(times):
            if isinstance(begin, bool) or begin != int(begin) or begin < 0:
                detail = (
                    f"operation {place} of job {job} starts at {begin!r}, which is no whole number from 0 on"
                )
                found.append(Violation("time", detail))
    return found


def _overlaps(machine: int, runs: list[tuple[int, int, int, int]]) -> list[Violation]:
    """Operations of a machine, in the order of their starts, that begin before an earlier one ends."""
    found, latest = [], None
    for run in runs:
        begin, end, job, place = run
        if latest is not None and begin < latest[1]:
            detail = (
                f"machine {machine} runs operation {latest[3]} of job {latest[2]} until {latest[1]} "
                f"and operation {place} of job {job} from {begin}"
            )
            found.append(Violation("machine", detail))
        if latest is None or end > latest[1]:
            latest = run
    return found
