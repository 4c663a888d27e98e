"""Games played by a wish for each access, and the search for wishes whose games end well.

This is who the network learns from first: no network is asked, and no rule is broken. Letters:
A accesses, U units.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from agents.games.memory.book import LOG_SIZE, NONE, SLOW, clear
from agents.games.memory.compiled import kernel, part
from agents.games.memory.game import MemoryGame
from agents.games.memory.rules import COPY, DROP, KEEP, NUM_ACTIONS, finish, try_action
from agents.games.memory.simulator import simulate
from agents.games.memory.tables import FIRST, MAY_BE_FAST, NEXT, UNIT

HOT, COLD = 3e-3, 3e-5
"""Temperatures at the start and at the end, as shares of the score."""


def instead_of(wish: int, legal: np.ndarray) -> int:
    """What is done where a wish is not legal: copy for keep, else drop, else anything."""
    for action in (wish, COPY if wish == KEEP else wish, DROP, KEEP, COPY):
        if legal[action]:
            return action
    raise ValueError("no action is legal")


def find_wishes(
    game: MemoryGame, wishes: Int[np.ndarray, "A"], changes: int, seed: int
) -> tuple[Int[np.ndarray, "A"], float]:
    """Change one wish, or those of one unit, at a time; keep what is no worse, and at times what is.

    Args:
        game: program, clock and offsets.
        wishes: where to start.
        changes: how many to try.
        seed: of the random numbers.

    Returns:
        The best wishes, and the simulated seconds of the game that follows them.
    """
    access, unit = game.tables.access, game.tables.unit
    can_gain = (game.benefit > 0) & (unit[access[:, UNIT], MAY_BE_FAST] == 1)
    best = wishes.copy()
    seconds = _climb(
        game.new_book(1 << 12), game.tables, np.zeros(len(unit), dtype=bool), wishes.copy(), best,
        np.flatnonzero(can_gain), changes if can_gain.any() else 0, np.random.default_rng(seed),
        np.zeros(2 * (len(unit) + len(access))), np.zeros(len(game.tables.compute_seconds)),
    )  # fmt: skip
    return best, seconds


@part
def _follow(book, tables, dropped, wishes):
    """Play by wishes; the unit at whose access no action was left, or `NONE`."""
    clear(book, tables)
    for unit in range(len(dropped)):
        if dropped[unit]:
            book.words[book.unit_decision + unit] = SLOW
    for access in range(len(tables.access)):
        book.words[LOG_SIZE] = 0
        wish = wishes[access]
        done = try_action(book, tables, access, wish, NONE)
        done = done or (wish == KEEP and try_action(book, tables, access, COPY, NONE))
        done = done or try_action(book, tables, access, DROP, NONE)
        done = (
            done
            or try_action(book, tables, access, KEEP, NONE)
            or try_action(book, tables, access, COPY, NONE)
        )
        if not done:
            return tables.access[access, UNIT]
    book.words[LOG_SIZE] = 0
    return finish(book, tables)


@part
def _judge(book, tables, dropped, wishes, copy_done, stalls):
    dropped[:] = False
    while True:
        unit = _follow(book, tables, dropped, wishes)
        if unit == NONE:
            return simulate(book, tables, copy_done, stalls)
        dropped[unit] = True


@kernel
def _climb(book, tables, dropped, wishes, best, candidates, changes, random, copy_done, stalls):
    now = _judge(book, tables, dropped, wishes, copy_done, stalls)
    least, before = now, wishes.copy()
    for change in range(changes):
        temperature = HOT * (COLD / HOT) ** (change / changes)
        access = candidates[random.integers(0, len(candidates))]
        before[:] = wishes
        wish = random.integers(0, NUM_ACTIONS)
        if random.integers(0, 3) == 0:
            access = tables.unit[tables.access[access, UNIT], FIRST]
            while access != NONE:
                wishes[access] = wish
                access = tables.access[access, NEXT]
        else:
            wishes[access] = wish
        after = _judge(book, tables, dropped, wishes, copy_done, stalls)
        if after <= now or random.random() < np.exp((now - after) / (temperature * now + 1e-30)):
            now = after
            if after < least:
                least = after
                best[:] = wishes
        else:
            wishes[:] = before
    return least
