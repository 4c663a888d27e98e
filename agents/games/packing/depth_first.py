"""Depth-first search for a packing within a capacity, compiled.

Letters: N buffers, S sections.

If there is a packing at all, there is one in which no buffer can slide down. Taken in the order of its
offsets, the lower rank first where they are equal, each of its buffers lies on the highest floor of its
sections. The search goes through such orders only, the lowest offset first, and leaves out

- a buffer whose offset is not below the top that another one would have: that one could slide beneath it;
- a state with a section in which what is left does not fit between the lowest offset that any of it can
  have and the capacity;
- combinations across a moment that no buffer left lives through: both sides are packed on their own, and
  if one side cannot be, the other is not packed differently.

These reductions are known from Moffitt 2024, "MiniMalloc: A Lightweight Memory Allocator for
Hardware-Accelerated Machine Learning"; this is an implementation of our own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from agents.games.packing.rules import PackingRules

PACKED, IMPOSSIBLE, STOPPED = 1, 0, -1
NODES, MOST_NODES, STOP = 0, 1, 2
FAR = 2**62


class Problem(NamedTuple):
    """What does not change during a search."""

    first: np.ndarray
    """First section of each buffer, int64 [N]."""
    last: np.ndarray
    """Section behind its last, int64 [N]."""
    size: np.ndarray
    """Its bytes, int64 [N]."""
    rank: np.ndarray
    """Its place in the order in which buffers of equal offset are tried, int64 [N]."""
    capacity: int
    """Bytes that there are."""


class Scratch(NamedTuple):
    """What the search writes in."""

    offset: np.ndarray
    """Lowest offset that each buffer can have now, int64 [N]."""
    position: np.ndarray
    """Offset that it was placed at, int64 [N]."""
    left: np.ndarray
    """Bytes of each section that are not placed yet, int64 [S]."""
    floor: np.ndarray
    """Numbers of sections that last no longer than a call, int64 [S]."""
    raised: np.ndarray
    """Buffers whose offset was raised, and the offset before, in order, int64 [., 2]."""
    members: np.ndarray
    """Stack of the buffers that the open calls have left to place, and of their candidates, int64."""
    blame: np.ndarray
    """How often each section was where something did not fit, int64 [S]."""
    counters: np.ndarray
    """Nodes so far, most nodes, and not 0 if the search shall stop, int64 [3]."""


def begin(rules: PackingRules, capacity: int, order: np.ndarray, most_nodes: int) -> tuple[Problem, Scratch]:
    """Prepare a search.

    Args:
        rules: of the instance.
        capacity: bytes that there are.
        order: buffers, int64 [N]; of those that can lie equally low the earlier is tried first.
        most_nodes: after which the search gives up.
    """
    count = len(order)
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    left = np.zeros(rules.num_sections, dtype=np.int64)
    for first, last, size in zip(rules.first, rules.last, rules.size, strict=True):
        left[first:last] += size
    members = np.empty(count * (count + 5), dtype=np.int64)
    members[:count] = order
    scratch = Scratch(
        offset=np.zeros(count, dtype=np.int64),
        position=np.zeros(count, dtype=np.int64),
        left=left,
        floor=np.zeros(rules.num_sections, dtype=np.int64),
        raised=np.empty((count * (count + 1) // 2 + 1, 2), dtype=np.int64),
        members=members,
        blame=np.zeros(rules.num_sections, dtype=np.int64),
        counters=np.array([0, most_nodes, 0]),
    )
    return Problem(rules.first, rules.last, rules.size, rank, capacity), scratch


@njit(cache=True, nogil=True)
def descend(problem, scratch, low, high, base, count, level, level_rank, top):
    """Place the buffers `members[base : base + count]`, which live in sections low to high only.

    Args:
        problem: what is to be packed.
        scratch: where things stand.
        low: first section.
        high: section behind the last.
        base: where the buffers stand on the stack, in the order of their ranks.
        count: how many they are.
        level: offset of the buffer placed last; none may lie lower.
        level_rank: its rank; at the same offset only higher ones may follow.
        top: raised offsets to keep when undoing.

    Returns:
        PACKED, with all in `scratch.position`; IMPOSSIBLE; or STOPPED.
    """
    if count == 0:
        return PACKED
    scratch.counters[NODES] += 1
    if scratch.counters[NODES] > scratch.counters[MOST_NODES] or scratch.counters[STOP] != 0:
        return STOPPED
    highest = _highest_offset(problem, scratch, low, high, base, count, level)
    if highest < level:
        return IMPOSSIBLE
    cut = _cut(problem, scratch, low, high, base, count)
    if cut < high:
        behind = _split(problem, scratch, base, count, cut)
        place = base + count
        status = descend(problem, scratch, low, cut, place + behind, count - behind, level, level_rank, top)
        if status == PACKED:
            status = descend(problem, scratch, cut, high, place, behind, level, level_rank, top)
        return status
    found = _candidates(problem, scratch, base, count, level, level_rank, highest)
    for place in range(base + count, base + count + found):
        buffer = scratch.members[place]
        offset = scratch.offset[buffer]
        scratch.position[buffer] = offset
        child = base + count + found
        now = _put(problem, scratch, base, count, child, buffer, top)
        rank = problem.rank[buffer]
        status = descend(problem, scratch, low, high, child, count - 1, offset, rank, now)
        # Taken back in any case: the other side of a cut may yet fail, and what was placed is kept elsewhere.
        _take_back(problem, scratch, buffer, top, now)
        if status != IMPOSSIBLE:
            return status
    return IMPOSSIBLE


@njit(cache=True, nogil=True)
def _highest_offset(problem, scratch, low, high, base, count, level):
    """The highest offset at which every section could still take all that it must; -1 if one cannot now."""
    for section in range(low, high):
        scratch.floor[section] = FAR
    for place in range(base, base + count):
        buffer = scratch.members[place]
        offset = max(scratch.offset[buffer], level)
        for section in range(problem.first[buffer], problem.last[buffer]):
            scratch.floor[section] = min(scratch.floor[section], offset)
    highest = FAR
    for section in range(low, high):
        if scratch.left[section] > 0:
            room = problem.capacity - scratch.left[section]
            if scratch.floor[section] > room:
                scratch.blame[section] += 1
                return -1
            highest = min(highest, room)
    return highest


@njit(cache=True, nogil=True)
def _cut(problem, scratch, low, high, base, count):
    """First section that no buffer comes into from before, with buffers on both sides; high without one."""
    for section in range(low, high):
        scratch.floor[section] = 0
    reach = high
    for place in range(base, base + count):
        buffer = scratch.members[place]
        first = problem.first[buffer]
        scratch.floor[first] = max(scratch.floor[first], problem.last[buffer])
        reach = min(reach, first)
    reach = scratch.floor[reach]
    for section in range(low, high):
        if scratch.floor[section] > 0:
            if section >= reach:
                return section
            reach = max(reach, scratch.floor[section])
    return high


@njit(cache=True, nogil=True)
def _split(problem, scratch, base, count, cut):
    """Copy the buffers onto the stack, those behind the cut first, in their order; how many these are.

    The others are packed first, and what they push onto the stack must not be in the way of these.
    """
    behind = 0
    for place in range(base, base + count):
        if problem.first[scratch.members[place]] >= cut:
            scratch.members[base + count + behind] = scratch.members[place]
            behind += 1
    before = base + count + behind
    for place in range(base, base + count):
        if problem.first[scratch.members[place]] < cut:
            scratch.members[before] = scratch.members[place]
            before += 1
    return behind


@njit(cache=True, nogil=True)
def _candidates(problem, scratch, base, count, level, level_rank, highest):
    """Put what may be placed next onto the stack, lowest offset first, then by rank; how many these are."""
    lowest_top = FAR
    for place in range(base, base + count):
        buffer = scratch.members[place]
        lowest_top = min(lowest_top, scratch.offset[buffer] + max(problem.size[buffer], 1))
    start = end = base + count
    for place in range(base, base + count):
        buffer = scratch.members[place]
        offset = scratch.offset[buffer]
        if offset < level or offset > highest or offset >= lowest_top:
            continue
        if offset == level and problem.rank[buffer] <= level_rank:
            continue
        at = end
        while at > start and scratch.offset[scratch.members[at - 1]] > offset:
            scratch.members[at] = scratch.members[at - 1]
            at -= 1
        scratch.members[at] = buffer
        end += 1
    return end - start


@njit(cache=True, nogil=True)
def _put(problem, scratch, base, count, child, buffer, top):
    """Place a buffer, raise what meets it, and put the others onto the stack; the end of the raised ones."""
    first, last = problem.first[buffer], problem.last[buffer]
    end = scratch.offset[buffer] + problem.size[buffer]
    for place in range(base, base + count):
        other = scratch.members[place]
        if other == buffer:
            continue
        scratch.members[child] = other
        child += 1
        if problem.first[other] < last and first < problem.last[other] and scratch.offset[other] < end:
            scratch.raised[top, 0] = other
            scratch.raised[top, 1] = scratch.offset[other]
            top += 1
            scratch.offset[other] = end
    for section in range(first, last):
        scratch.left[section] -= problem.size[buffer]
    return top


@njit(cache=True, nogil=True)
def _take_back(problem, scratch, buffer, top, now):
    """Undo `_put`."""
    while now > top:
        now -= 1
        scratch.offset[scratch.raised[now, 0]] = scratch.raised[now, 1]
    for section in range(problem.first[buffer], problem.last[buffer]):
        scratch.left[section] += problem.size[buffer]
