"""The queue of copies in the book: free slots and bookings."""

from __future__ import annotations

from agents.games.memory.book import COPIES, FIRST_COPY, NONE, write
from agents.games.memory.compiled import part


@part
def _copy_before(book, time):
    """The last copy that starts before `time`, or `NONE`."""
    words = book.words
    copy = NONE
    for cell in range(min(time, book.horizon) >> book.copy_shift, -1, -1):
        copy = words[book.copy_heads + cell]
        if copy != NONE:
            break
    while copy != NONE and words[book.copy_start + copy] >= time:
        copy = words[book.copy_before + copy]
    return copy


@part
def latest_slot(book, earliest, deadline, length):
    """The latest start of a free slot within [earliest, deadline], or `NONE`."""
    words = book.words
    end = deadline
    copy = _copy_before(book, deadline)
    while end - length >= earliest:
        if copy == NONE or words[book.copy_end + copy] <= end - length:
            return end - length
        end = min(end, words[book.copy_start + copy])
        copy = words[book.copy_before + copy]
    return NONE


@part
def earliest_slot(book, earliest, deadline, length):
    """The earliest start of a free slot within [earliest, deadline], or `NONE`."""
    words = book.words
    start = earliest
    copy = _copy_before(book, earliest + 1)
    if copy != NONE:
        start = max(start, words[book.copy_end + copy])
        copy = words[book.copy_after + copy]
    else:
        copy = words[FIRST_COPY]
    while start + length <= deadline:
        if copy == NONE or words[book.copy_start + copy] >= start + length:
            return start
        start = words[book.copy_end + copy]
        copy = words[book.copy_after + copy]
    return NONE


@part
def add_copy(book, start, length, block):
    """Put a copy into a free slot of the queue; return it."""
    words = book.words
    copy = words[COPIES]
    before = _copy_before(book, start + 1)
    after = words[book.copy_after + before] if before != NONE else words[FIRST_COPY]
    write(book, COPIES, copy + 1)
    write(book, book.copy_start + copy, start)
    write(book, book.copy_end + copy, start + length)
    write(book, book.copy_before + copy, before)
    write(book, book.copy_after + copy, after)
    write(book, book.copy_block + copy, block)
    if before != NONE:
        write(book, book.copy_after + before, copy)
    else:
        write(book, FIRST_COPY, copy)
    if after != NONE:
        write(book, book.copy_before + after, copy)
    cell = book.copy_heads + (min(start, book.horizon) >> book.copy_shift)
    if words[cell] == NONE or words[book.copy_start + words[cell]] < start:
        write(book, cell, copy)
    return copy
