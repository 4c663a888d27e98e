"""Room for a block where it does least harm to runs that could still be prolonged.

A run's room is booked only up to its last use so far, so best fit often gives it to another buffer before the
next use, which can then no longer be kept. The sparing rule looks at these rooms as well: it takes the
tightest gap outside all of them, or else the place where the uses that would be lost save least.

Only play in schedule order may use it: there a run's next use is the first that is still to be decided.
"""

from __future__ import annotations

from agents.games.memory.blocks import gather
from agents.games.memory.book import HARM, NONE, PICOSECONDS, write
from agents.games.memory.compiled import part
from agents.games.memory.tables import NEVER, PLACES


@part
def find_live(book, tables, unit):
    """Collect the other units whose run can still be prolonged to a use to come.

    Returns:
        Their number; live[0 .. number) are the units.
    """
    number = 0
    for other in range(len(tables.unit)):
        if other != unit and is_live(book, other):
            book.live[number] = other
            number += 1
    return number


@part
def is_live(book, unit):
    """Whether a unit is in a run that its next use could prolong, as far as its room goes."""
    run = book.words[book.unit_run + unit]
    return (
        run != NONE and book.words[book.unit_lost + unit] != run and book.words[book.unit_next + unit] != NONE
    )


@part
def _harm(book, tables, number, offset, places):
    """What the next uses of the live runs in [offset, offset + places) are worth."""
    words, harm = book.words, 0.0
    for index in range(number):
        unit = book.live[index]
        low = words[book.block_offset + words[book.unit_run + unit]]
        if low < offset + places and low + tables.unit[unit, PLACES] > offset:
            harm += tables.worth[words[book.unit_next + unit]]
    return harm


@part
def find_sparing_offset(book, tables, unit, start, end, places):
    """The offset that is free throughout [start, end) and does least harm, or `NONE`.

    Ties go to the tightest gap if no harm is done, then to the lowest offset.
    """
    words, keys = book.words, book.keys
    taken = gather(book, tables, start, end)
    number = find_live(book, tables, unit)
    for index in range(number):
        offset = words[book.block_offset + words[book.unit_run + book.live[index]]]
        keys[taken + index] = (offset << 31) + offset + tables.unit[book.live[index], PLACES]
    booked = keys[:taken].copy()
    keys[: taken + number].sort()
    best, best_gap, free_from = NONE, NEVER, 0
    for index in range(taken + number + 1):
        offset = keys[index] >> 31 if index < taken + number else tables.capacity
        gap = offset - free_from
        if gap >= places and gap < best_gap:
            best, best_gap = free_from, gap
        if index < taken + number:
            free_from = max(free_from, keys[index] & 0x7FFFFFFF)
    if best != NONE:
        return best
    booked.sort()
    least, free_from = 1e300, 0
    for index in range(taken + 1):
        offset = booked[index] >> 31 if index < taken else tables.capacity
        if offset - free_from >= places:
            for edge in range(-1, number):
                # Harm is least at the bottom of the gap or on top of a live run.
                place = free_from
                if edge >= 0:
                    live = book.live[edge]
                    low = words[book.block_offset + words[book.unit_run + live]]
                    place = low + tables.unit[live, PLACES]
                if place < free_from or place + places > offset:
                    continue
                harm = _harm(book, tables, number, place, places)
                if harm < least or (harm == least and place < best):
                    best, least = place, harm
        if index < taken:
            free_from = max(free_from, booked[index] & 0x7FFFFFFF)
    return best


@part
def note_lost(book, tables, unit, offset, places):
    """Note which live runs can no longer be prolonged now that a block is in their room."""
    words = book.words
    for index in range(find_live(book, tables, unit)):
        other = book.live[index]
        run = words[book.unit_run + other]
        low = words[book.block_offset + run]
        if low < offset + places and low + tables.unit[other, PLACES] > offset:
            write(book, book.unit_lost + other, run)
            worth = tables.worth[words[book.unit_next + other]]
            write(book, HARM, words[HARM] + round(worth * PICOSECONDS))
