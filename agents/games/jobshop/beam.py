"""Beam search over active schedules, each path closed by a rollout, compiled.

Letters: J jobs, K operations of the longest job, F numbers a state (see `rules`), W beam width,
C candidates of a depth, L operations of all jobs.

At each depth one more operation is dispatched. Every kept state tries all jobs of its conflict set; each
child is played to its end by priorities, in active schedules, and the makespan of that play is its score.
The W best children are kept, equals in random order. Two children in which the same may happen from now on
count as one. The best play seen is the result, so a search is never worse than its priorities alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from agents.games.jobshop.heuristics import Play
from agents.games.jobshop.rules import ACTIVE, JobShopRules, dispatch, fill_legal
from agents.games.state_table import hash_state

FAR = 2**30


def beam_play(
    rules: JobShopRules, priorities: np.ndarray, width: int, seed: int, stop: np.ndarray
) -> Play | None:
    """Search once.

    Args:
        rules: of the instance.
        priorities: float32 [J, K]; of the operations in conflict the one of lowest number goes first.
        width: W.
        seed: of the order of equals.
        stop: int64 [1]; the search ends early once this is not 0.

    Returns:
        The best play, or None if it was stopped.
    """
    jobs = np.empty(rules.length, dtype=np.int64)
    makespan = _beam(
        rules.machine,
        rules.duration,
        rules.num_operations,
        priorities,
        rules.start(),
        width,
        seed,
        stop,
        jobs,
    )
    return None if makespan < 0 else Play(jobs, int(makespan))


@njit(cache=True, nogil=True)
def _beam(machine, duration, num_operations, priorities, start, width, seed, stop, jobs):
    """The best play's jobs and makespan; -1 if stopped."""
    count, length = machine.shape[0], len(jobs)
    states, children = (
        np.empty((width, len(start)), np.int32),
        np.empty((width * count, len(start)), np.int32),
    )
    parent, action = np.empty(width * count, np.int64), np.empty(width * count, np.int64)
    score, tie = np.empty(width * count, np.int64), np.empty(width * count)
    essence, hashes = np.empty((width, len(start) - 1), np.int32), np.empty(width, np.int64)
    history = np.empty((length, width, 2), np.int32)
    states[0] = start
    kept, best = 1, np.int64(FAR)
    for depth in range(length):
        if stop[0] != 0:
            return -1
        found = _expand(machine, duration, num_operations, states[:kept], parent, action, children)
        for child in range(found):
            score[child] = rollout(machine, duration, num_operations, priorities, children[child])
            tie[child] = score[child] + _draw(seed, depth, child)
        leader = np.argmin(score[:found])
        if score[leader] < best:
            best = score[leader]
            _trace(history, depth, parent[leader], action[leader], jobs)
            play_out(
                machine, duration, num_operations, priorities, children[leader].copy(), jobs[depth + 1 :]
            )
        kept = 0
        for child in np.argsort(tie[:found]):
            if kept < width and _is_new(machine, num_operations, children[child], essence, hashes, kept):
                history[depth, kept, 0], history[depth, kept, 1] = parent[child], action[child]
                states[kept] = children[child]
                kept += 1
    return best


@njit(cache=True, nogil=True)
def _draw(seed, depth, child):
    """A number in [0, 1) that depends on nothing else (SplitMix64 of Steele, Lea and Flood 2014)."""
    number = (np.uint64(seed) << np.uint64(40)) ^ (np.uint64(depth) << np.uint64(20)) ^ np.uint64(child)
    number = (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (number >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def _expand(machine, duration, num_operations, states, parent, action, children):
    """Write all children of the states; their number C."""
    legal = np.empty(machine.shape[0], dtype=np.bool_)
    found = 0
    for row in range(len(states)):
        fill_legal(machine, duration, num_operations, states[row], ACTIVE, legal)
        for job in range(machine.shape[0]):
            if legal[job]:
                parent[found], action[found] = row, job
                children[found] = states[row]
                dispatch(machine, duration, children[found], job)
                found += 1
    return found


@njit(cache=True, nogil=True)
def _trace(history, depth, row, job, jobs):
    """Write the jobs that lead to a child at a depth."""
    jobs[depth] = job
    for earlier in range(depth - 1, -1, -1):
        jobs[earlier] = history[earlier, row, 1]
        row = history[earlier, row, 0]


@njit(cache=True, nogil=True)
def _is_new(machine, num_operations, state, essence, hashes, kept):
    """Whether no kept state has the same future; note what the future of this one depends on."""
    count = machine.shape[0]
    own = essence[kept]
    own[:] = state[:-1]
    for job in range(count):
        operation = state[job]
        if operation == num_operations[job]:
            own[count + job] = 0
        else:
            # When a job came free does not matter while its machine is busy for longer.
            own[count + job] = max(state[count + job], state[2 * count + machine[job, operation]])
    hashes[kept] = hash_state(own)
    for other in range(kept):
        if hashes[other] == hashes[kept] and np.array_equal(essence[other], own):
            return False
    return True


@njit(cache=True, nogil=True)
def rollout(machine, duration, num_operations, priorities, state):
    """Makespan of a state played to its end by priorities, in active schedules."""
    count = machine.shape[0]
    operation, needed = np.empty(count, np.int32), np.empty(count, np.int32)
    start, length, priority = (
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.float32),
    )
    free = state[2 * count : len(state) - 1].copy()
    makespan, left = state[-1], 0
    for job in range(count):
        place = operation[job] = state[job]
        left += num_operations[job] - place
        needed[job], start[job], length[job], priority[job] = -1, FAR, 0, 0.0
        if place < num_operations[job]:
            needed[job], length[job] = machine[job, place], duration[job, place]
            start[job], priority[job] = max(state[count + job], free[needed[job]]), priorities[job, place]
    for _ in range(left):
        earliest = np.int32(FAR)
        for job in range(count):
            earliest = min(earliest, start[job] + length[job])
        first = 0
        while start[first] + length[first] != earliest:
            first += 1
        used, best, lowest = needed[first], first, np.float32(np.inf)
        for job in range(count):
            if needed[job] == used and priority[job] < lowest and start[job] < earliest:
                best, lowest = job, priority[job]
        end = start[best] + length[best]
        makespan = max(makespan, end)
        place = operation[best] = operation[best] + 1
        free[used] = end
        for job in range(count):
            if needed[job] == used:
                start[job] = max(start[job], end)
        needed[best], start[best], length[best] = -1, FAR, 0
        if place < num_operations[best]:
            needed[best], length[best] = machine[best, place], duration[best, place]
            start[best], priority[best] = max(end, free[needed[best]]), priorities[best, place]
    return makespan


@njit(cache=True, nogil=True)
def play_out(machine, duration, num_operations, priorities, state, jobs):
    """The same play as `rollout`, in place, by the rules; write its jobs and return its makespan."""
    count = machine.shape[0]
    legal = np.empty(count, dtype=np.bool_)
    for step in range(len(jobs)):
        fill_legal(machine, duration, num_operations, state, ACTIVE, legal)
        first = -1
        earliest = np.int64(FAR)
        for job in range(count):
            if legal[job]:
                place = state[job]
                end = max(state[count + job], state[2 * count + machine[job, place]]) + duration[job, place]
                if end < earliest:
                    earliest, first = end, job
        best, lowest = first, np.float32(np.inf)
        for job in range(count):
            if legal[job] and priorities[job, state[job]] < lowest:
                start = max(state[count + job], state[2 * count + machine[job, state[job]]])
                if start < earliest:
                    best, lowest = job, priorities[job, state[job]]
        dispatch(machine, duration, state, best)
        jobs[step] = best
    return state[-1]
