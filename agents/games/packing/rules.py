"""The exact rules of offset packing, compiled.

Letters: N buffers, S sections (see `instance`), F = S + W + 1 numbers a state, B rows.

A state is one array of int64: for each section the height reached there (its floor), then W words in whose
bits stands which buffers are placed (`BITS` a word), then the peak so far. Placing a buffer puts it on the
highest floor of its sections. Every packing in which no buffer can slide down is made by placing its
buffers in the order of their offsets, so an optimum can be reached. What was placed where is not part of
the state: a snapshot is a copy of F numbers.

Legal are buffers that are not placed, but of several with the same sections and size only the first. Of
these, CANONICAL placements leave out a buffer whose offset is not below the top of some other buffer,
were that placed now: going by the order of offsets, that other one would come first. With a capacity the
game is lost, and nothing is legal, as soon as some buffer does not fit any more.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numba import njit

from agents.games.packing.instance import PackingInstance, sections

BITS = 62
"""Buffers a word of the state holds."""
NO_CAPACITY = 2**62


class Placements(IntEnum):
    """Which buffers may be placed next."""

    ANY = 0
    CANONICAL = 1


CANONICAL = int(Placements.CANONICAL)


class PackingRules:
    """The rules for one instance. It holds no game: states are the caller's."""

    def __init__(
        self,
        instance: PackingInstance,
        capacity: int | None = None,
        placements: Placements = Placements.CANONICAL,
    ) -> None:
        """Rules for fitting a capacity, or without one for packing as low as can be.

        Args:
            instance: the buffers; the capacity that it states is not looked at.
            capacity: bytes that there are.
            placements: which buffers may be placed next.
        """
        self.instance, self.capacity, self.placements = instance, capacity, placements
        self.limit = NO_CAPACITY if capacity is None else capacity
        self.first, self.last, self.num_sections = sections(instance)
        self.size = np.ascontiguousarray(instance.size, dtype=np.int64)
        self.twin = _earlier_twins(self.first, self.last, self.size)

    @property
    def width(self) -> int:
        """F, numbers of a state."""
        return self.num_sections + -(-self.instance.num_buffers // BITS) + 1

    @property
    def length(self) -> int:
        """Steps of a game that is not lost."""
        return self.instance.num_buffers

    def start(self) -> np.ndarray:
        """The state before the first placement, int64 [F]."""
        return np.zeros(self.width, dtype=np.int64)

    def legal_mask(self, states: np.ndarray) -> np.ndarray:
        """Buffers that may be placed in each of B states: bool [B, N]."""
        legal = np.empty((len(states), self.instance.num_buffers), dtype=np.bool_)
        fill_legal_rows(
            self.first, self.last, self.size, self.twin, states, self.num_sections, self.limit,
            int(self.placements), legal,
        )  # fmt: skip
        return legal

    def step(self, states: np.ndarray, buffers: np.ndarray) -> np.ndarray:
        """Place a buffer in each of B states, in place.

        Args:
            states: int64 [B, F].
            buffers: not placed yet, int [B].

        Returns:
            Increase of each peak, int64 [B].
        """
        increase = np.empty(len(states), dtype=np.int64)
        place_rows(self.first, self.last, self.size, states, self.num_sections, buffers, increase)
        return increase

    def peak(self, states: np.ndarray) -> np.ndarray:
        """Peak so far, [B]."""
        return states[:, -1]

    def placed(self, states: np.ndarray) -> np.ndarray:
        """Which buffers are placed, bool [B, N]."""
        buffer = np.arange(self.instance.num_buffers)
        words = states[:, self.num_sections + buffer // BITS]
        return (words >> (buffer % BITS) & 1).astype(bool)

    def offsets(self, buffers: np.ndarray) -> np.ndarray:
        """Offset of every buffer when they are placed in an order: int64 [N], -1 for one not placed."""
        out = np.full(self.instance.num_buffers, -1, dtype=np.int64)
        order = np.asarray(buffers, dtype=np.int64)
        fill_offsets(self.first, self.last, self.size, self.start(), self.num_sections, order, out)
        return out


def _earlier_twins(first: np.ndarray, last: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The buffer before each with the same sections and size, or -1."""
    seen: dict[tuple[int, int, int], int] = {}
    twin = np.full(len(size), -1, dtype=np.int64)
    for buffer, kind in enumerate(zip(first.tolist(), last.tolist(), size.tolist(), strict=True)):
        twin[buffer] = seen.get(kind, -1)
        seen[kind] = buffer
    return twin


@njit(cache=True, nogil=True)
def is_placed(state, num_sections, buffer):
    """Whether a buffer is placed."""
    return (state[num_sections + buffer // BITS] >> (buffer % BITS)) & 1 == 1


@njit(cache=True, nogil=True)
def offset_of(first, last, state, buffer):
    """Where a buffer would lie if it were placed now."""
    offset = np.int64(0)
    for section in range(first[buffer], last[buffer]):
        offset = max(offset, state[section])
    return offset


@njit(cache=True, nogil=True)
def place(first, last, size, state, num_sections, buffer):
    """Place a buffer; the increase of the peak."""
    top = offset_of(first, last, state, buffer) + size[buffer]
    for section in range(first[buffer], last[buffer]):
        state[section] = top
    state[num_sections + buffer // BITS] |= np.int64(1) << np.int64(buffer % BITS)
    increase = max(top - state[-1], 0)
    state[-1] += increase
    return increase


@njit(cache=True, nogil=True)
def fill_legal(first, last, size, twin, state, num_sections, limit, placements, legal):
    """Write which buffers may be placed; their number."""
    lowest_top, count = np.int64(NO_CAPACITY), 0
    for buffer in range(len(size)):
        legal[buffer] = not is_placed(state, num_sections, buffer)
        if legal[buffer]:
            offset = offset_of(first, last, state, buffer)
            if offset + size[buffer] > limit:
                legal[:] = False
                return 0
            # A buffer of no size must not keep itself from being placed.
            lowest_top = min(lowest_top, offset + max(size[buffer], 1))
    for buffer in range(len(size)):
        if legal[buffer]:
            if twin[buffer] >= 0 and not is_placed(state, num_sections, twin[buffer]):
                legal[buffer] = False
            elif placements == CANONICAL:
                legal[buffer] = offset_of(first, last, state, buffer) < lowest_top
            count += legal[buffer]
    return count


@njit(cache=True, nogil=True)
def fill_legal_rows(first, last, size, twin, states, num_sections, limit, placements, legal):
    """`fill_legal` of B states."""
    for row in range(len(states)):
        fill_legal(first, last, size, twin, states[row], num_sections, limit, placements, legal[row])


@njit(cache=True, nogil=True)
def place_rows(first, last, size, states, num_sections, buffers, increase):
    """`place` in B states."""
    for row in range(len(states)):
        increase[row] = place(first, last, size, states[row], num_sections, buffers[row])


@njit(cache=True, nogil=True)
def fill_offsets(first, last, size, state, num_sections, buffers, out):
    """Place buffers in an order and write where each lies."""
    for buffer in buffers:
        out[buffer] = offset_of(first, last, state, buffer)
        place(first, last, size, state, num_sections, buffer)


@njit(cache=True, nogil=True)
def play_randomly(first, last, size, twin, state, num_sections, limit, placements, draws, buffers):
    """Place the legal buffers that `draws` in [0, 1) point at until none is left; how many were placed."""
    legal = np.empty(len(size), dtype=np.bool_)
    for step in range(len(buffers)):
        count = fill_legal(first, last, size, twin, state, num_sections, limit, placements, legal)
        if count == 0:
            return step
        chosen = int(draws[step] * count)
        for buffer in range(len(size)):
            if legal[buffer]:
                if chosen == 0:
                    buffers[step] = buffer
                    break
                chosen -= 1
        place(first, last, size, state, num_sections, buffers[step])
    return len(buffers)
