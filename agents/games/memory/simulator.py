"""The score: how long a program takes if copies run late and instructions wait for them (SPEC section 7)."""

from __future__ import annotations

from agents.games.memory.book import FIRST_COPY, NONE
from agents.games.memory.compiled import part
from agents.games.memory.rules import step_seconds
from agents.games.memory.tables import FIRST_ACCESS, IS_OUTPUT, IS_WRITE, MULT, PLACES, STEP, UNIT


@part
def simulate(book, tables, copy_done, stalls):
    """Run a finished plan.

    Instructions take their real times. A copy is issued when the instruction begins in whose planned slot its
    start lies, and runs when all copies before it are done. A loop body is run through once, with the times
    of its instructions and copies taken as often as it is executed.

    Args:
        book: the plan.
        tables: the program.
        copy_done: float64, one place for every copy that the book can hold; receives when each is done.
        stalls: float64 [T]; receives how long each instruction waits for copies.

    Returns:
        Seconds.
    """
    words, clock = book.words, tables.clock
    copy, last_issued = words[FIRST_COPY], NONE
    now, engine_free = 0.0, 0.0
    for step in range(len(tables.compute_seconds)):
        ready = now
        for access in range(tables.step[step, FIRST_ACCESS], tables.step[step + 1, FIRST_ACCESS]):
            ready = max(ready, awaited(book, tables, access, copy_done, last_issued, now))
        stalls[step] = ready - now
        now = ready
        mult = tables.step[step, MULT]
        while copy != NONE and words[book.copy_start + copy] < clock[step + 1]:
            engine_free = max(engine_free, now) + mult * copy_seconds(book, copy)
            copy_done[copy] = engine_free
            last_issued, copy = copy, words[book.copy_after + copy]
        now += mult * step_seconds(tables, step, words[book.step_fast + step])
    while copy != NONE:
        engine_free = max(engine_free, now) + copy_seconds(book, copy)
        copy_done[copy] = engine_free
        copy = words[book.copy_after + copy]
    finish = now
    for unit in range(len(tables.unit)):
        if tables.unit[unit, IS_OUTPUT] and words[book.unit_back + unit] != NONE:
            finish = max(finish, copy_done[words[book.unit_back + unit]])
    return finish


@part
def copy_seconds(book, copy):
    """How long a copy keeps the engine busy: whole nanoseconds, as it was booked."""
    return (book.words[book.copy_end + copy] - book.words[book.copy_start + copy]) * 1e-9


@part
def awaited(book, tables, access, copy_done, last_issued, now):
    """When the copies that an access waits for are done; 0 if it waits for none.

    An access in fast memory waits for the copy that filled its block, one in slow memory for the write-back
    of its data, and the write that begins a block for what is still written back out of that room.
    """
    words = book.words
    block = words[book.access_block + access]
    if block == NONE:
        back = words[book.unit_back + tables.access[access, UNIT]]
        return 0.0 if back == NONE or tables.access[access, IS_WRITE] else copy_done[back]
    copy = words[book.block_copy + block]
    if copy != NONE:
        return copy_done[copy]
    begins = tables.clock[tables.access[access, STEP]]
    if not tables.access[access, IS_WRITE] or words[book.block_start + block] != begins:
        return 0.0
    offset = words[book.block_offset + block]
    after = offset + tables.unit[words[book.block_unit + block], PLACES]
    copy = last_issued
    # Copies are done in order: the first that is late and in the way is the last of them.
    while copy != NONE and copy_done[copy] > now:
        tenant = words[book.copy_block + copy]
        other = words[book.block_offset + tenant]
        is_back = words[book.block_back + tenant] == copy
        if (
            is_back
            and other < after
            and other + tables.unit[words[book.block_unit + tenant], PLACES] > offset
        ):
            return copy_done[copy]
        copy = words[book.copy_before + copy]
    return 0.0
