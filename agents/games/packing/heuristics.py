"""List heuristics: reference play of offset packing.

Letters: N buffers.

First fit and best fit go through the buffers in an order and put each into the lowest, or the smallest,
gap between those placed that it fits in, on top of all if there is none. The skyline heuristic always
places the buffer that can lie lowest, the largest of those.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numba import njit

from agents.games.packing.instance import PackingInstance
from agents.games.packing.rules import PackingRules, is_placed, offset_of, place
from agents.games.packing.solution import Packing, packing_of


class Heuristic(Enum):
    """What is tried, by the names of the recorded baselines."""

    FIRST_FIT_TIME = "ff_time"
    """First fit, in the order in which buffers come to life."""
    FIRST_FIT_SIZE = "ff_size"
    """First fit, largest first."""
    BEST_FIT_SIZE = "bf_size"
    """Best fit, largest first."""
    BEST_FIT_AREA = "bf_area"
    """Best fit, by size times lifetime."""
    BEST_FIT_LENGTH = "bf_len"
    """Best fit, longest lifetime first."""
    SKYLINE = "skyline"
    """Lowest offset first, then largest, then longest."""


def play_heuristic(instance: PackingInstance, heuristic: Heuristic) -> Packing:
    """Pack all buffers by one heuristic."""
    size, length = instance.size, instance.upper - instance.lower
    if heuristic is Heuristic.SKYLINE:
        rules = PackingRules(instance)
        rank = np.empty(instance.num_buffers, dtype=np.int64)
        rank[np.lexsort((-length, -size))] = np.arange(instance.num_buffers)
        order = np.empty(instance.num_buffers, dtype=np.int64)
        follow_skyline(rules.first, rules.last, rules.size, rank, rules.start(), rules.num_sections, order)
        return packing_of(instance, rules.offsets(order).tolist())
    keys = {
        Heuristic.FIRST_FIT_TIME: (-size, instance.lower),
        Heuristic.FIRST_FIT_SIZE: (-size,),
        Heuristic.BEST_FIT_SIZE: (-size,),
        Heuristic.BEST_FIT_AREA: (-size * length,),
        Heuristic.BEST_FIT_LENGTH: (-size, -length),
    }
    order = np.lexsort(keys[heuristic])
    is_best_fit = heuristic not in (Heuristic.FIRST_FIT_TIME, Heuristic.FIRST_FIT_SIZE)
    return packing_of(
        instance, fit_in_order(instance.lower, instance.upper, size, order, is_best_fit).tolist()
    )


def best_of_heuristics(instance: PackingInstance) -> Packing:
    """The packing of lowest peak of all heuristics; of equal ones the first."""
    return min((play_heuristic(instance, heuristic) for heuristic in Heuristic), key=lambda found: found.peak)


@njit(cache=True, nogil=True)
def fit_in_order(lower, upper, size, order, is_best_fit):
    """Offsets int64 [N] of first fit or best fit in an order."""
    offsets = np.zeros(len(size), dtype=np.int64)
    meeting = np.empty(len(size), dtype=np.int64)
    for step in range(len(order)):
        buffer, count = order[step], 0
        for earlier in order[:step]:
            if lower[earlier] < upper[buffer] and lower[buffer] < upper[earlier]:
                meeting[count] = earlier
                count += 1
        floor, chosen, smallest = np.int64(0), np.int64(-1), np.int64(2) ** 62
        for other in meeting[:count][np.argsort(offsets[meeting[:count]])]:
            gap = offsets[other] - floor
            if gap >= size[buffer] and (gap < smallest if is_best_fit else chosen < 0):
                chosen, smallest = floor, gap
            floor = max(floor, offsets[other] + size[other])
        offsets[buffer] = floor if chosen < 0 else chosen
    return offsets


@njit(cache=True, nogil=True)
def follow_skyline(first, last, size, rank, state, num_sections, order):
    """Place what lies lowest, of equals what ranks first, in place; write the order and return the peak.

    Buffers that are placed in the state stay out; `order` has room for the others.
    """
    offsets = np.empty(len(size), dtype=np.int64)
    left = np.empty(len(size), dtype=np.int64)
    count = 0
    for buffer in range(len(size)):
        if not is_placed(state, num_sections, buffer):
            offsets[buffer] = offset_of(first, last, state, buffer)
            left[count] = buffer
            count += 1
    for step in range(count):
        best = 0
        for i in range(1, count - step):
            buffer, leader = left[i], left[best]
            lower = offsets[buffer] < offsets[leader]
            if lower or (offsets[buffer] == offsets[leader] and rank[buffer] < rank[leader]):
                best = i
        chosen = left[best]
        left[best] = left[count - step - 1]
        order[step] = chosen
        place(first, last, size, state, num_sections, chosen)
        top = offsets[chosen] + size[chosen]
        for i in range(count - step - 1):
            buffer = left[i]
            if first[buffer] < last[chosen] and first[chosen] < last[buffer]:
                offsets[buffer] = max(offsets[buffer], top)
    return state[-1]
