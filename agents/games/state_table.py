"""States of a game kept once each, behind integer handles: equal states have equal handles.

Letters: M rows, C capacity, F numbers a state.

A table of places is found by a hash of a state's numbers and compared number by number, so two states
share a handle only if they are equal, whatever the hash.
"""

from __future__ import annotations

import numpy as np
from numba import njit

EMPTY = -1


class StateTable:
    """All states of one search, in the order in which they were first seen."""

    def __init__(self, width: int, dtype: type = np.int64, capacity: int = 1024) -> None:
        """Make an empty table.

        Args:
            width: F, numbers that a state consists of.
            dtype: their type.
            capacity: states to make room for at first; the table grows.
        """
        self._states = np.empty((capacity, width), dtype=dtype)
        self._places = np.full(4 * capacity, EMPTY, dtype=np.int64)
        self._count = 0

    def __len__(self) -> int:
        """States held."""
        return self._count

    def clear(self) -> None:
        """Forget all states."""
        self._places.fill(EMPTY)
        self._count = 0

    def insert(self, rows: np.ndarray) -> np.ndarray:
        """Keep M states.

        Args:
            rows: states [M, F].

        Returns:
            Handles int64 [M]; those of equal states are equal.
        """
        while self._count + len(rows) > len(self._states):
            self._grow()
        handles = np.empty(len(rows), dtype=np.int64)
        self._count = insert_rows(self._states, self._count, self._places, rows, handles)
        return handles

    def states(self, handles: np.ndarray) -> np.ndarray:
        """The states behind M handles, as a copy [M, F]."""
        return self._states[handles]

    def _grow(self) -> None:
        kept = self._states[: self._count]
        self._states = np.empty((2 * len(self._states), kept.shape[1]), dtype=kept.dtype)
        self._places = np.full(4 * len(self._states), EMPTY, dtype=np.int64)
        self._count = insert_rows(self._states, 0, self._places, kept, np.empty(len(kept), dtype=np.int64))


@njit(cache=True, nogil=True)
def hash_state(state):
    """A number in 0..2^63 - 1 of a state's numbers, each mixed into the product of those before it."""
    value = np.uint64(0x9E3779B97F4A7C15)
    for number in state:
        value = (value ^ np.uint64(number)) * np.uint64(0xBF58476D1CE4E5B9)
        value ^= value >> np.uint64(29)
    return np.int64(value >> np.uint64(1))


@njit(cache=True, nogil=True)
def insert_rows(states, count, places, rows, handles):
    """Write the handles of `rows` and append those not among the first `count` states; the new count.

    `places` is a table of open addressing whose length is a power of two and above the number of states.
    """
    mask = len(places) - 1
    for row in range(len(rows)):
        place = hash_state(rows[row]) & mask
        while True:
            handle = places[place]
            if handle == EMPTY:
                states[count] = rows[row]
                places[place] = handle = count
                count += 1
                break
            if _equal(states[handle], rows[row]):
                break
            place = (place + 1) & mask
        handles[row] = handle
    return count


@njit(cache=True, nogil=True)
def _equal(left, right):
    for place in range(len(left)):  # noqa: SIM110 - a generator costs more here
        if left[place] != right[place]:
            return False
    return True
