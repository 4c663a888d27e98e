"""Blocks of fast memory in the book: adding, extending, and finding room among them."""

from __future__ import annotations

from agents.games.memory.book import BLOCKS, LEVELS, NONE, write
from agents.games.memory.compiled import part
from agents.games.memory.tables import NEVER, PLACES


@part
def _cell_of(book, start, end):
    """Place of the head of the list for a block [start, end)."""
    shift, head = book.block_shift, book.block_heads
    for _ in range(LEVELS - 1):
        if end - start <= 1 << shift:
            break
        head += (book.horizon >> shift) + 1
        shift += 2
    return head + (min(start, book.horizon) >> shift)


@part
def _enlist(book, block, start, end):
    """Put a block at the head of the list of its cell."""
    words = book.words
    cell = _cell_of(book, start, end)
    older = words[cell]
    write(book, book.block_cell + block, cell)
    write(book, book.block_newer + block, NONE)
    write(book, book.block_older + block, older)
    if older != NONE:
        write(book, book.block_newer + older, block)
    write(book, cell, block)


@part
def _delist(book, block):
    words = book.words
    newer, older = words[book.block_newer + block], words[book.block_older + block]
    if newer == NONE:
        write(book, words[book.block_cell + block], older)
    else:
        write(book, book.block_older + newer, older)
    if older != NONE:
        write(book, book.block_newer + older, newer)


@part
def add_block(book, unit, offset, start, end, copy):
    """Take room for [start, end); return the new block."""
    block = book.words[BLOCKS]
    write(book, BLOCKS, block + 1)
    write(book, book.block_unit + block, unit)
    write(book, book.block_offset + block, offset)
    write(book, book.block_start + block, start)
    write(book, book.block_end + block, end)
    write(book, book.block_copy + block, copy)
    write(book, book.block_back + block, NONE)
    _enlist(book, block, start, end)
    return block


@part
def extend_block(book, block, end):
    """Keep a block until `end`, if that is later than so far."""
    words = book.words
    if end <= words[book.block_end + block]:
        return
    start = words[book.block_start + block]
    write(book, book.block_end + block, end)
    if _cell_of(book, start, end) != words[book.block_cell + block]:
        _delist(book, block)
        _enlist(book, block, start, end)


@part
def blocks_between(book, start, end):
    """Collect the blocks that are taken at any time in [start, end).

    Returns:
        Their number; keys[0 .. number) are the blocks.
    """
    words, keys = book.words, book.keys
    number = 0
    shift, heads = book.block_shift, book.block_heads
    for level in range(LEVELS):
        first = max(0, (min(start, book.horizon) >> shift) - 1) if level < LEVELS - 1 else 0
        for cell in range(first, (min(end - 1, book.horizon) >> shift) + 1):
            block = words[heads + cell]
            while block != NONE:
                if words[book.block_start + block] < end and words[book.block_end + block] > start:
                    keys[number] = block
                    number += 1
                block = words[book.block_older + block]
        heads += (book.horizon >> shift) + 1
        shift += 2
    return number


@part
def gather(book, tables, start, end):
    """Collect what is taken at any time in [start, end).

    Returns:
        Its number; keys[0 .. number) are first place * 2^31 + place after the last.
    """
    words, keys = book.words, book.keys
    number = blocks_between(book, start, end)
    for index in range(number):
        offset = words[book.block_offset + keys[index]]
        places = tables.unit[words[book.block_unit + keys[index]], PLACES]
        keys[index] = (offset << 31) + offset + places
    return number


@part
def find_offset(book, tables, start, end, places):
    """The lowest of the tightest gaps that is free throughout [start, end) (best fit), or `NONE`."""
    keys = book.keys
    number = gather(book, tables, start, end)
    if number > 48:
        keys[:number].sort()
    else:
        for index in range(1, number):
            key = keys[index]
            slot = index
            while slot > 0 and keys[slot - 1] > key:
                keys[slot] = keys[slot - 1]
                slot -= 1
            keys[slot] = key
    best, best_gap, free_from = NONE, NEVER, 0
    for index in range(number + 1):
        offset = keys[index] >> 31 if index < number else tables.capacity
        gap = offset - free_from
        if gap >= places and gap < best_gap:
            best, best_gap = free_from, gap
        if index < number:
            free_from = max(free_from, keys[index] & 0x7FFFFFFF)
    return best


@part
def is_free(book, tables, offset, places, start, end):
    """Whether [offset, offset + places) is free throughout [start, end)."""
    keys = book.keys
    for index in range(gather(book, tables, start, end)):
        if keys[index] >> 31 < offset + places and keys[index] & 0x7FFFFFFF > offset:
            return False
    return True


@part
def can_extend(book, tables, block, end):
    """Whether a block can be kept until `end`."""
    words = book.words
    now = words[book.block_end + block]
    if end <= now:
        return True
    places = tables.unit[words[book.block_unit + block], PLACES]
    return is_free(book, tables, words[book.block_offset + block], places, now, end)
