"""A cheap estimate of what is still to be saved in a state.

It is what the heuristic would save from here on, less what can no longer be kept.
One decision in a program of a thousand is worth a thousandth of the return. The estimate differs between two
states by just what a decision changes: which runs can still go on.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from agents.games.memory.advice import Advice
from agents.games.memory.book import FAST, NONE, SLOW
from agents.games.memory.compiled import kernel
from agents.games.memory.nodes import MASK, move_to
from agents.games.memory.rules import DROP, KEEP
from agents.games.memory.sparing import is_live
from agents.games.memory.tables import IS_WRITE, NEXT
from agents.games.memory.tree import StateTree

LOST_SHARE = 0.7
"""Share of a use's saving that is gone with the run in which the heuristic would have kept it."""
GAINED_SHARE = 0.3
"""Share of a use's saving that a run is worth in which the heuristic would not have kept it."""


class Outlook:
    """Estimates for the states of one tree."""

    def __init__(self, tree: StateTree, advice: Advice) -> None:
        """Add up what each unit's accesses from each one on save, all of them and those that are advised."""
        self._tree, self._advice = tree, advice
        following = tree.game.tables.access[:, NEXT]
        self._tail = np.zeros((2, len(following)))
        served = np.where(advice.action == DROP, 0, advice.saving)
        for access in range(len(following) - 1, -1, -1):
            after = following[access]
            rest = self._tail[:, after] if after != NONE else 0.0
            self._tail[:, access] = np.array([served[access], advice.saving[access]]) + rest

    def __call__(self, node: Int[np.ndarray, "M"]) -> Float[np.ndarray, "M"]:
        """Share of the time with everything slow that is still to be saved; 0 where the game is over."""
        tree = self._tree
        out = np.zeros(len(node))
        _estimate(
            tree.book, tree.game.tables, tree.nodes, np.asarray(node, dtype=np.int64), self._tail,
            self._advice.action, self._advice.saving, out,
        )  # fmt: skip
        return out / tree.game.all_slow_seconds


@kernel
def _estimate(book, tables, nodes, states, tail, advised, saving, out):
    words = book.words
    for index in range(len(states)):
        if nodes.row[states[index], MASK] == 0:
            continue
        move_to(book, nodes, states[index])
        total = 0.0
        for unit in range(len(tables.unit)):
            access = words[book.unit_next + unit]
            decision = words[book.unit_decision + unit]
            if access == NONE or decision == SLOW:
                continue
            if decision == FAST:
                total += tail[1, access]
                continue
            total += tail[0, access]
            if is_live(book, unit):
                if advised[access] != KEEP:
                    total += GAINED_SHARE * saving[access]
            elif advised[access] == KEEP and not tables.access[access, IS_WRITE]:
                total -= LOST_SHARE * saving[access]
        out[index] = total
