"""What a network sees of a job shop: fixed-size float32 arrays, whatever is dispatched when.

Letters: B rows, J jobs, M machines, F numbers a state (see `rules`).

Times are in units of the instance's lower bound, counts in units of their largest, so that one network
serves shops of any size. "Now" is the earliest time at which any job could start its next operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from agents.games.jobshop.heuristics import remaining_work
from agents.games.jobshop.rules import JobShopRules, fill_legal

GLOBAL_FEATURES = (
    "makespan",
    "now",
    "share of operations dispatched",
    "share of jobs that may be dispatched",
    "lower bound of the final makespan",
)
JOB_FEATURES = (
    "may be dispatched",
    "has operations left",
    "share of its operations left",
    "work left",
    "end of its last operation, after now",
    "start of its next operation, after now",
    "duration of its next operation",
    "wait for the machine",
    "idle time of the machine before it",
    "work left on that machine",
    "jobs whose next operation needs that machine, of all",
    "start of its next operation and work left, beyond the makespan (below 0 if within)",
)
MACHINE_FEATURES = (
    "end of its last operation, after now",
    "work left",
    "share of its operations left",
    "earliest start and work left, beyond the makespan (below 0 if within)",
)


@dataclass(frozen=True)
class Features:
    """Features of B states; the columns are named above."""

    overall: np.ndarray
    """Of the state, float32 [B, 5]."""
    jobs: np.ndarray
    """Of each job, which is an action, float32 [B, J, 12]; 0 for a finished job."""
    machines: np.ndarray
    """Of each machine, float32 [B, M, 4]."""


class FeatureExtractor:
    """Features of states of one instance."""

    def __init__(self, rules: JobShopRules) -> None:
        self._rules = rules
        self._work = remaining_work(rules.instance)
        self._unit = float(max(rules.instance.lower_bound, 1))

    def __call__(self, states: np.ndarray) -> Features:
        """Features of B states, int32 [B, F]."""
        rules, rows = self._rules, len(states)
        features = Features(
            overall=np.zeros((rows, len(GLOBAL_FEATURES)), dtype=np.float32),
            jobs=np.zeros((rows, rules.instance.num_jobs, len(JOB_FEATURES)), dtype=np.float32),
            machines=np.zeros((rows, rules.instance.num_machines, len(MACHINE_FEATURES)), dtype=np.float32),
        )
        _fill(
            rules.machine, rules.duration, rules.num_operations, self._work, states, int(rules.schedules),
            self._unit, features.overall, features.jobs, features.machines,
        )  # fmt: skip
        return features


@njit(cache=True, nogil=True)
def _fill(machine, duration, num_operations, work, states, schedules, unit, overall, jobs, machines):
    count, num_machines = machine.shape[0], machines.shape[1]
    legal = np.empty(count, dtype=np.bool_)
    left, operations = np.empty(num_machines), np.empty(num_machines)
    waiting, total = np.empty(num_machines), np.zeros(num_machines)
    for job in range(count):
        for operation in range(num_operations[job]):
            total[machine[job, operation]] += 1
    for row in range(len(states)):
        state = states[row]
        may = fill_legal(machine, duration, num_operations, state, schedules, legal)
        now = _loads(machine, duration, num_operations, state, left, operations, waiting)
        makespan = state[-1]
        bound = float(makespan)
        for k in range(num_machines):
            ready = state[2 * count + k]
            beyond = (max(ready, now) + left[k] - makespan) / unit if operations[k] else 0.0
            machines[row, k, 0] = (ready - now) / unit
            machines[row, k, 1] = left[k] / unit
            machines[row, k, 2] = operations[k] / max(total[k], 1)
            machines[row, k, 3] = beyond
            bound = max(bound, makespan + beyond * unit)
        dispatched = 0
        for job in range(count):
            operation = state[job]
            dispatched += operation
            if operation == num_operations[job]:
                continue
            needed, ready = machine[job, operation], state[count + job]
            free = state[2 * count + needed]
            start = max(ready, free)
            beyond = start + work[job, operation] - makespan
            bound = max(bound, makespan + beyond)
            out = jobs[row, job]
            out[0] = legal[job]
            out[1] = 1
            out[2] = (num_operations[job] - operation) / num_operations[job]
            out[3] = work[job, operation] / unit
            out[4] = (ready - now) / unit
            out[5] = (start - now) / unit
            out[6] = duration[job, operation] / unit
            out[7] = (start - ready) / unit
            out[8] = (start - free) / unit
            out[9] = left[needed] / unit
            out[10] = waiting[needed] / count
            out[11] = beyond / unit
        overall[row, 0] = makespan / unit
        overall[row, 1] = now / unit
        overall[row, 2] = dispatched / num_operations.sum()
        overall[row, 3] = may / count
        overall[row, 4] = bound / unit


@njit(cache=True, nogil=True)
def _loads(machine, duration, num_operations, state, left, operations, waiting):
    """Write work and operations left on each machine and jobs waiting for it; the time that is now."""
    count = machine.shape[0]
    left[:] = 0
    operations[:] = 0
    waiting[:] = 0
    now = np.int64(2) ** 62
    for job in range(count):
        for operation in range(state[job], num_operations[job]):
            left[machine[job, operation]] += duration[job, operation]
            operations[machine[job, operation]] += 1
        if state[job] < num_operations[job]:
            needed = machine[job, state[job]]
            waiting[needed] += 1
            now = min(now, max(state[count + job], state[2 * count + needed]))
    return now if now < np.int64(2) ** 62 else np.int64(state[-1])
