"""The exact rules of the job shop, compiled.

Letters: J jobs, K operations of the longest job, M machines, F = 2 J + M + 1 numbers a state, B rows.

A state is one array of int32: for each job the number of operations dispatched, then the end of the last
of them, then for each machine the end of its last operation, then the makespan so far. Dispatching a job
starts its next operation as soon as job and machine are free. What was dispatched when is not part of the
state: a snapshot is a copy of F numbers, however long the game.

Which jobs may be dispatched is the kind of schedule that is built: all with operations left (SEMI_ACTIVE),
those of Giffler and Thompson's conflict set (ACTIVE: one of its schedules is optimal), or those that can
start earliest (NON_DELAY: how dispatching rules are used; all of its schedules may miss the optimum).
Source: Giffler and Thompson 1960, "Algorithms for Solving Production-Scheduling Problems".
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numba import njit

from agents.games.jobshop.instance import JobShopInstance


class Schedules(IntEnum):
    """Which schedules a game can build."""

    SEMI_ACTIVE = 0
    ACTIVE = 1
    NON_DELAY = 2


SEMI_ACTIVE, ACTIVE, NON_DELAY = (int(kind) for kind in Schedules)


class JobShopRules:
    """The rules for one instance. It holds no game: states are the caller's."""

    def __init__(self, instance: JobShopInstance, schedules: Schedules = Schedules.ACTIVE) -> None:
        self.instance = instance
        self.schedules = schedules
        self.machine = np.ascontiguousarray(instance.machine, dtype=np.int32)
        self.duration = np.ascontiguousarray(instance.duration, dtype=np.int32)
        self.num_operations = np.ascontiguousarray(instance.num_operations, dtype=np.int32)

    @property
    def width(self) -> int:
        """F, numbers of a state."""
        return 2 * self.instance.num_jobs + self.instance.num_machines + 1

    @property
    def length(self) -> int:
        """Steps of a game."""
        return self.instance.total_operations

    def start(self) -> np.ndarray:
        """The state before the first operation, int32 [F]."""
        return np.zeros(self.width, dtype=np.int32)

    def legal_mask(self, states: np.ndarray) -> np.ndarray:
        """Jobs that may be dispatched in each of B states: bool [B, J]; none where all is done."""
        legal = np.empty((len(states), self.instance.num_jobs), dtype=np.bool_)
        fill_legal_rows(self.machine, self.duration, self.num_operations, states, int(self.schedules), legal)
        return legal

    def step(self, states: np.ndarray, jobs: np.ndarray) -> np.ndarray:
        """Dispatch a job in each of B states, in place.

        Args:
            states: int32 [B, F].
            jobs: with operations left, int [B]; which of them the schedules allow is not checked here.

        Returns:
            Increase of each makespan, int64 [B].
        """
        increase = np.empty(len(states), dtype=np.int64)
        dispatch_rows(self.machine, self.duration, states, jobs, increase)
        return increase

    def makespan(self, states: np.ndarray) -> np.ndarray:
        """Makespan so far, [B]."""
        return states[:, -1]

    def done(self, states: np.ndarray) -> np.ndarray:
        """Whether all operations are dispatched, bool [B]."""
        return states[:, : self.instance.num_jobs].sum(axis=1) == self.length

    def start_times(self, jobs: np.ndarray) -> np.ndarray:
        """Start of each operation when jobs are dispatched in an order: int32 [J, K], -1 where is none."""
        times = np.full(self.machine.shape, -1, dtype=np.int32)
        fill_start_times(self.machine, self.duration, np.asarray(jobs, dtype=np.int64), self.start(), times)
        return times


@njit(cache=True, nogil=True)
def dispatch(machine, duration, state, job):
    """Dispatch the next operation of a job; the increase of the makespan."""
    jobs = machine.shape[0]
    operation = state[job]
    place = 2 * jobs + machine[job, operation]
    end = max(state[jobs + job], state[place]) + duration[job, operation]
    state[job] = operation + 1
    state[jobs + job] = end
    state[place] = end
    increase = max(end - state[-1], 0)
    state[-1] += increase
    return increase


@njit(cache=True, nogil=True)
def fill_legal(machine, duration, num_operations, state, schedules, legal):
    """Write which jobs may be dispatched; their number."""
    jobs = machine.shape[0]
    earliest_end = earliest_start = np.int64(2) ** 62
    busiest = -1
    for job in range(jobs):
        operation = state[job]
        legal[job] = operation < num_operations[job]
        if not legal[job]:
            continue
        start = max(state[jobs + job], state[2 * jobs + machine[job, operation]])
        earliest_start = min(earliest_start, start)
        end = start + duration[job, operation]
        if end < earliest_end:
            earliest_end, busiest = end, machine[job, operation]
    count = 0
    for job in range(jobs):
        if legal[job] and schedules != SEMI_ACTIVE:
            operation = state[job]
            start = max(state[jobs + job], state[2 * jobs + machine[job, operation]])
            if schedules == NON_DELAY:
                legal[job] = start == earliest_start
            else:
                # An operation without duration may end when it starts: it conflicts with itself.
                at_once = start == earliest_end and duration[job, operation] == 0
                legal[job] = machine[job, operation] == busiest and (start < earliest_end or at_once)
        count += legal[job]
    return count


@njit(cache=True, nogil=True)
def fill_legal_rows(machine, duration, num_operations, states, schedules, legal):
    """`fill_legal` of B states."""
    for row in range(len(states)):
        fill_legal(machine, duration, num_operations, states[row], schedules, legal[row])


@njit(cache=True, nogil=True)
def dispatch_rows(machine, duration, states, jobs, increase):
    """`dispatch` in B states."""
    for row in range(len(states)):
        increase[row] = dispatch(machine, duration, states[row], jobs[row])


@njit(cache=True, nogil=True)
def fill_start_times(machine, duration, jobs, state, times):
    """Dispatch jobs in an order and write when each operation starts."""
    count = machine.shape[0]
    for job in jobs:
        operation = state[job]
        dispatch(machine, duration, state, job)
        times[job, operation] = state[count + job] - duration[job, operation]


@njit(cache=True, nogil=True)
def play_randomly(machine, duration, num_operations, state, schedules, draws, jobs):
    """Dispatch the legal jobs that `draws` in [0, 1) point at until all is done; the makespan."""
    legal = np.empty(machine.shape[0], dtype=np.bool_)
    for step in range(len(jobs)):
        chosen = int(draws[step] * fill_legal(machine, duration, num_operations, state, schedules, legal))
        for job in range(machine.shape[0]):
            if legal[job]:
                if chosen == 0:
                    jobs[step] = job
                    break
                chosen -= 1
        dispatch(machine, duration, state, jobs[step])
    return state[-1]
