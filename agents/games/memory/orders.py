"""Plans made at one go: in schedule order by a fixed preference, or unit by unit in a given order.

Letters: A accesses, U units.
"""

from __future__ import annotations

from agents.games.memory.book import (
    LOG_SIZE,
    NONE,
    SLOW,
    UNDECIDED,
    clear,
    undo,
)
from agents.games.memory.compiled import kernel, part
from agents.games.memory.rules import COPY, DROP, KEEP, finish, try_action, write_back
from agents.games.memory.simulator import simulate
from agents.games.memory.tables import (
    FIRST,
    IS_GROUP,
    IS_OUTPUT,
    IS_WRITE,
    NEVER,
    NEXT,
    STEP,
    UNIT,
)

ANY, DEFINED_SLOW, ALL_SLOW, WHOLE = range(4)
"""How a unit is placed: any mix of memories; the same, but written to slow memory; in slow memory; or all
of it kept in one block and, failing that, in slow memory."""


@kernel
def score(book, tables, copy_done, stalls):
    """Simulated seconds of a finished plan; see `simulator.simulate`."""
    return simulate(book, tables, copy_done, stalls)


@kernel
def play_in_order(book, tables, dropped, benefit, copies):
    """Serve each access in schedule order from fast memory where that is allowed.

    Args:
        book: an empty plan; it receives the result.
        tables: the program.
        dropped: bool [U]; units that stay in slow memory.
        benefit: float64 [A]; only accesses that gain anything are copied for, unless nothing else is allowed.
        copies: False to copy for none.

    Returns:
        `NONE`, or the unit at whose access no action was left (SPEC section 6: drop it and play again).
    """
    clear(book, tables)
    for unit in range(len(dropped)):
        if dropped[unit]:
            book.words[book.unit_decision + unit] = SLOW
    for access in range(len(tables.access)):
        book.words[LOG_SIZE] = 0
        worth = copies and benefit[access] > 0
        done = try_action(book, tables, access, KEEP, NONE) or (
            worth and try_action(book, tables, access, COPY, NONE)
        )
        done = done or try_action(book, tables, access, DROP, NONE)
        if not done and copies:
            done = try_action(book, tables, access, COPY, NONE)
        if not done:
            return tables.access[access, UNIT]
    book.words[LOG_SIZE] = 0
    return finish(book, tables)


@kernel
def place_in_order(book, tables, order, manner, allowed, benefit, residency, looks_ahead):
    """Place units one after another, each as well as what was placed before lets it.

    Args:
        book: receives the plan.
        tables: the program.
        order: int64 [U] units, most important first.
        manner: int64 [U] `ANY`, `DEFINED_SLOW`, `ALL_SLOW` or `WHOLE` for each unit.
        allowed: int64 [A] bit mask of the actions that may be tried at each access; `DROP` always may.
        benefit: float64 [A] accesses that gain nothing are not copied for.
        residency: int64 [U] longest time between two uses for which the unit is kept in its block.
        looks_ahead: whether to prefer room that stays free for the next uses.
    """
    clear(book, tables)
    for unit in order:
        book.words[LOG_SIZE] = 0
        if tables.unit[unit, FIRST] == len(tables.access):
            continue
        first = manner[unit]
        for attempted in (first, DEFINED_SLOW, ALL_SLOW):
            if first == WHOLE and attempted == DEFINED_SLOW:
                continue
            if _place(book, tables, unit, attempted, allowed, benefit, residency[unit], looks_ahead):
                break
            undo(book, 0)


@part
def _place(book, tables, unit, manner, allowed, benefit, residency, looks_ahead):
    """Place one unit; on False the caller undoes it."""
    words = book.words
    access = tables.unit[unit, FIRST]
    look_ahead = residency if looks_ahead else NONE
    while access != NONE:
        run = words[book.unit_run + unit]
        waits = run != NONE and not tables.unit[unit, IS_GROUP]
        waits = waits and tables.clock[tables.access[access, STEP]] - words[book.block_end + run] > residency
        fast = manner != ALL_SLOW and not (manner == DEFINED_SLOW and tables.access[access, IS_WRITE])
        keeps = fast and not waits and (allowed[access] >> KEEP) & 1
        copies = fast and benefit[access] > 0 and (allowed[access] >> COPY) & 1
        copies = copies and (manner != WHOLE or access == tables.unit[unit, FIRST])
        done = keeps and try_action(book, tables, access, KEEP, look_ahead)
        done = done or (copies and try_action(book, tables, access, COPY, look_ahead))
        if not done and manner == WHOLE and words[book.unit_decision + unit] == UNDECIDED:
            return False
        if not done and not try_action(book, tables, access, DROP, NONE):
            return False
        access = tables.access[access, NEXT]
    if tables.unit[unit, IS_OUTPUT] and words[book.unit_stored + unit] == NEVER:
        return write_back(book, tables, unit, NEVER)
    return True
