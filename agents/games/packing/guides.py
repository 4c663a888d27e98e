"""What guides a search of offset packing: a value of each state and a policy over its buffers.

Letters: B rows, N buffers, F numbers a state (see `rules`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from agents.games.packing.heuristics import follow_skyline
from agents.games.packing.instance import PackingInstance, sections
from agents.games.packing.rules import PackingRules


def tightness(instance: PackingInstance) -> np.ndarray:
    """Most bytes alive at one time of each buffer's life, int64 [N]."""
    first, last, count = sections(instance)
    change = np.zeros(count + 1, dtype=np.int64)
    np.add.at(change, first, instance.size)
    np.add.at(change, last, -instance.size)
    alive = np.cumsum(change)
    return np.array([alive[start:end].max() for start, end in zip(first, last, strict=True)])


class SkylineGuide:
    """Plays the skyline by an order of the buffers: values are its results, its order is the policy."""

    def __init__(self, rules: PackingRules, keys: tuple[np.ndarray, ...], sharpness: float = 1.0) -> None:
        """Guide by one order.

        Args:
            rules: of the instance.
            keys: numbers [N] by which larger goes first, the first of them foremost.
            sharpness: how much likelier a buffer is than one a tenth of all buffers behind it in the order.
        """
        self._rules = rules
        self.rank = np.empty(rules.instance.num_buffers, dtype=np.int64)
        self.rank[np.lexsort([-key for key in reversed(keys)])] = np.arange(len(self.rank))
        self._logits = -sharpness * 10 * self.rank / len(self.rank)

    def values(self, states: np.ndarray) -> np.ndarray:
        """Results of the skyline from B states on, [B]."""
        out, rules = np.empty(len(states)), self._rules
        _rollouts(rules.first, rules.last, rules.size, self.rank, states, rules.num_sections, out)
        return out

    def prior_logits(self, states: np.ndarray) -> np.ndarray:
        """The order of the buffers, the first highest, [B, N]."""
        return np.repeat(self._logits[None], len(states), axis=0)


@njit(cache=True, nogil=True)
def _rollouts(first, last, size, rank, states, num_sections, out):
    order = np.empty(len(size), dtype=np.int64)
    for row in range(len(states)):
        before = states[row, -1]
        out[row] = before - follow_skyline(first, last, size, rank, states[row].copy(), num_sections, order)
