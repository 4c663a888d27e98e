"""What a network sees of a packing: fixed-size float32 arrays, whatever was placed when.

Letters: B rows, N buffers, S sections, F numbers a state (see `rules`).

Bytes are in units of the instance's lower bound, counts in units of their largest, so that one network
serves instances of any size. The limit is the capacity, or the lower bound where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from agents.games.packing.guides import tightness
from agents.games.packing.rules import PackingRules, fill_legal, is_placed, offset_of

GLOBAL_FEATURES = (
    "peak",
    "limit",
    "share of buffers placed",
    "share of buffers that may be placed",
    "lower bound of the final peak",
)
BUFFER_FEATURES = (
    "may be placed",
    "is not placed yet",
    "size",
    "share of all sections that it lives through",
    "most bytes alive at one time of its life",
    "offset if placed now",
    "end if placed now",
    "bytes wasted below it, mean of its sections",
    "least room left above what must still go into one of its sections, placed now",
    "offset above the lowest offset of any buffer",
)
SECTION_FEATURES = (
    "floor",
    "bytes that must still go in",
    "room left above them",
    "share of buffers that must still go in",
)


@dataclass(frozen=True)
class Features:
    """Features of B states; the columns are named above."""

    overall: np.ndarray
    """Of the state, float32 [B, 5]."""
    buffers: np.ndarray
    """Of each buffer, which is an action, float32 [B, N, 10]; 0 for a placed one."""
    sections: np.ndarray
    """Of each section, in the order of time, float32 [B, S, 4]."""


class FeatureExtractor:
    """Features of states of one instance."""

    def __init__(self, rules: PackingRules) -> None:
        self._rules = rules
        self._unit = max(rules.instance.lower_bound, 1)
        self._limit = rules.instance.lower_bound if rules.capacity is None else rules.capacity
        self._tightness = tightness(rules.instance)

    def __call__(self, states: np.ndarray) -> Features:
        """Features of B states, int64 [B, F]."""
        rules, rows = self._rules, len(states)
        features = Features(
            overall=np.zeros((rows, len(GLOBAL_FEATURES)), dtype=np.float32),
            buffers=np.zeros((rows, rules.instance.num_buffers, len(BUFFER_FEATURES)), dtype=np.float32),
            sections=np.zeros((rows, rules.num_sections, len(SECTION_FEATURES)), dtype=np.float32),
        )
        _fill(
            rules.first, rules.last, rules.size, rules.twin, self._tightness, states, rules.num_sections,
            rules.limit, int(rules.placements), float(self._limit), float(self._unit),
            features.overall, features.buffers, features.sections,
        )  # fmt: skip
        return features


@njit(cache=True, nogil=True)
def _fill(
    first, last, size, twin, tightness, states, num_sections, limit, placements, stated_limit, unit,
    overall, buffers, sections,
):  # fmt: skip
    count = len(size)
    legal = np.empty(count, dtype=np.bool_)
    left = np.empty(num_sections)
    for row in range(len(states)):
        state = states[row]
        may = fill_legal(first, last, size, twin, state, num_sections, limit, placements, legal)
        left[:] = 0
        placed, lowest = 0, np.int64(2) ** 62
        for buffer in range(count):
            if is_placed(state, num_sections, buffer):
                placed += 1
                continue
            lowest = min(lowest, offset_of(first, last, state, buffer))
            for section in range(first[buffer], last[buffer]):
                left[section] += size[buffer]
                sections[row, section, 3] += 1 / count
        bound = float(state[-1])
        for section in range(num_sections):
            sections[row, section, 0] = state[section] / unit
            sections[row, section, 1] = left[section] / unit
            sections[row, section, 2] = (stated_limit - state[section] - left[section]) / unit
            bound = max(bound, state[section] + left[section])
        for buffer in range(count):
            if not is_placed(state, num_sections, buffer):
                _fill_buffer(
                    first[buffer],
                    last[buffer],
                    size[buffer],
                    state,
                    left,
                    stated_limit,
                    unit,
                    buffers[row, buffer],
                )
                buffers[row, buffer, 0] = legal[buffer]
                buffers[row, buffer, 4] = tightness[buffer] / unit
                buffers[row, buffer, 9] = buffers[row, buffer, 5] - lowest / unit
        overall[row, 0] = state[-1] / unit
        overall[row, 1] = stated_limit / unit
        overall[row, 2] = placed / count
        overall[row, 3] = may / count
        overall[row, 4] = bound / unit


@njit(cache=True, nogil=True)
def _fill_buffer(first, last, size, state, left, stated_limit, unit, out):
    """Write what is known of a buffer from its own sections."""
    offset, floors, most = np.int64(0), 0.0, 0.0
    for section in range(first, last):
        offset = max(offset, state[section])
        floors += state[section]
        most = max(most, left[section])
    out[1] = 1
    out[2] = size / unit
    out[3] = (last - first) / len(left)
    out[5] = offset / unit
    out[6] = (offset + size) / unit
    out[7] = (offset - floors / (last - first)) / unit
    out[8] = (stated_limit - offset - most) / unit
