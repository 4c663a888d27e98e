"""Dispatching rules: reference play of the job shop, and the rollouts of the search.

Letters: J jobs, K operations of the longest job, F numbers a state (see `rules`), B rows.

Among the jobs that may be dispatched a rule takes the one of lowest key, the lowest number where keys are
equal. Rules are usually played in NON_DELAY schedules; the recorded baselines are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numba import njit

from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.rules import JobShopRules, Schedules, dispatch, fill_legal


class Rule(IntEnum):
    """Dispatching rules by their usual names."""

    SPT = 0
    """Shortest processing time of the next operation."""
    LPT = 1
    """Longest processing time of the next operation."""
    MWKR = 2
    """Most work remaining in the job."""
    LWKR = 3
    """Least work remaining in the job."""
    MOPNR = 4
    """Most operations remaining in the job."""
    FIFO = 5
    """The job that has waited longest: earliest end of its last operation."""


SPT, LPT, MWKR, LWKR, MOPNR, FIFO = (int(rule) for rule in Rule)


@dataclass(frozen=True)
class Play:
    """A complete game."""

    jobs: np.ndarray
    """Jobs in the order of dispatching, int64 [total operations]."""
    makespan: int
    """Its result."""


def play_rule(instance: JobShopInstance, rule: Rule, schedules: Schedules = Schedules.NON_DELAY) -> Play:
    """Play a whole game by one rule."""
    rules = JobShopRules(instance, schedules)
    jobs = np.empty(rules.length, dtype=np.int64)
    makespan = follow_rule(
        rules.machine,
        rules.duration,
        rules.num_operations,
        remaining_work(instance),
        rules.start(),
        int(schedules),
        int(rule),
        jobs,
    )
    return Play(jobs, int(makespan))


def best_of_rules(instance: JobShopInstance) -> Play:
    """The best play of all rules; of equal ones the first."""
    return min((play_rule(instance, rule) for rule in Rule), key=lambda play: play.makespan)


def remaining_work(instance: JobShopInstance) -> np.ndarray:
    """Time that a job needs from each of its operations on: int32 [J, K + 1]; 0 behind the last."""
    total = np.zeros((instance.num_jobs, instance.duration.shape[1] + 1), dtype=np.int32)
    total[:, :-1] = np.cumsum(instance.duration[:, ::-1], axis=1)[:, ::-1]
    return total


@njit(cache=True, nogil=True)
def key_of(rule, duration, num_operations, work, state, job):
    """Key of a job's next operation under a rule; the lowest is dispatched."""
    operation = state[job]
    if rule == SPT:
        return duration[job, operation]
    if rule == LPT:
        return -duration[job, operation]
    if rule == MWKR:
        return -work[job, operation]
    if rule == LWKR:
        return work[job, operation]
    if rule == MOPNR:
        return operation - num_operations[job]
    return state[len(num_operations) + job]


@njit(cache=True, nogil=True)
def follow_rule(machine, duration, num_operations, work, state, schedules, rule, jobs):
    """Play a rule from a state to the end, in place; write the jobs and return the makespan."""
    count = machine.shape[0]
    legal = np.empty(count, dtype=np.bool_)
    for step in range(len(jobs)):
        fill_legal(machine, duration, num_operations, state, schedules, legal)
        best, best_key = -1, np.int64(2) ** 62
        for job in range(count):
            if legal[job]:
                key = key_of(rule, duration, num_operations, work, state, job)
                if key < best_key:
                    best, best_key = job, key
        dispatch(machine, duration, state, best)
        jobs[step] = best
    return state[-1]
