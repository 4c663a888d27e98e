"""What has been planned so far: blocks of fast memory and copies of the one queue, in one journaled array.

Everything that changes during play is one flat int64 array `words`, and each write to it is noted in `log` as
(place, old value, new value). So a state is restored by running notes backwards and reached again by running
them forwards; nothing is ever copied.

Blocks lie in cells of a hierarchical time grid: a block no longer than a cell of level l is listed in the
level-l cell of its start, so what overlaps an interval is found in a few cells of each level. Copies
never overlap each other and form one list by start; each cell of a finer grid knows the last that
starts in it.

Times are nanoseconds of the planning clock, room in fast memory is counted in multiples of the alignment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.games.memory.compiled import kernel, part
from agents.games.memory.tables import COPY_TIME, FIRST, IS_STORED, NEVER, Tables

NONE = -1

# Places of single numbers in `words`. The length of the log is the one that is not itself noted in it.
POSITION, BLOCKS, COPIES, FIRST_COPY, SAVED, HARM, HASH_ONE, HASH_TWO, LOG_SIZE, SINGLES = range(10)

PICOSECONDS = 1e12
"""Unit of `SAVED` and `HARM`, what was saved and what the sparing rule had to give up."""

# What a unit that is decided at once has been told.
UNDECIDED, FAST, SLOW = range(3)

LEVELS = 6
"""Levels of the grid of blocks, each with cells four times as long as the one below."""
COPY_CELLS = 4096
"""About as many cells in the grid of copies."""
ROOM = 512
"""Log entries that the steps between two checks of the log's length never exceed."""


class Book(NamedTuple):
    """The array of everything that changes, and where in it things are."""

    words: np.ndarray
    """int64, all of the state."""
    log: np.ndarray
    """int64 [N, 3] place, old and new value of each write."""
    keys: np.ndarray
    """int64, scratch for sorting what lies in the way."""
    live: np.ndarray
    """int64 [U], scratch for the units whose runs could go on."""
    block_unit: int
    """Whose block it is."""
    block_offset: int
    """First place in fast memory."""
    block_start: int
    """When it is taken."""
    block_end: int
    """When it is free again."""
    block_copy: int
    """The copy that filled it, or `NONE` if an instruction did."""
    block_back: int
    """The copy that wrote it back, or `NONE`."""
    block_cell: int
    """Place of the head of the list that it is in."""
    block_newer: int
    """Neighbour in that list towards its head."""
    block_older: int
    """Neighbour in that list away from its head."""
    copy_start: int
    """When it starts."""
    copy_end: int
    """When it is done."""
    copy_before: int
    """The copy before it in the queue."""
    copy_after: int
    """The copy after it in the queue."""
    copy_block: int
    """The block that it fills or writes back."""
    unit_run: int
    """The block in which the unit could stay, or `NONE`."""
    unit_stored: int
    """When slow memory holds the unit's data; `NEVER` if it does not."""
    unit_back: int
    """The copy that wrote the unit back, or `NONE`."""
    unit_decision: int
    """`UNDECIDED`, or what the unit as a whole was told; `SLOW` also after a dead end."""
    unit_next: int
    """The unit's next access to be decided, `NONE` after the last."""
    unit_lost: int
    """The run whose room another block has taken, so that it cannot go on; noted by the sparing rule."""
    access_block: int
    """The block that an access is served from, or `NONE`."""
    access_action: int
    """The action taken at an access."""
    step_fast: int
    """Bytes of an instruction that are in fast memory."""
    block_heads: int
    """Newest block of each cell, level by level."""
    copy_heads: int
    """Last copy that starts in each cell."""
    block_shift: int
    """log2 of the length of a level-0 cell of blocks."""
    copy_shift: int
    """log2 of the length of a cell of copies."""
    horizon: int
    """The last time that the grids tell apart."""


_BLOCK_FIELDS = tuple(f"block_{name}" for name in "unit offset start end copy back cell newer older".split())
_COPY_FIELDS = tuple(f"copy_{name}" for name in "start end before after block".split())


def new_book(tables: Tables, log_entries: int = 1 << 16) -> Book:
    """An empty plan for a program.

    Args:
        tables: the program.
        log_entries: writes that the log can hold.
    """
    accesses, units, steps = len(tables.access), len(tables.unit), len(tables.compute_seconds)
    blocks = accesses + units
    horizon = int(tables.clock[-1]) + int(tables.unit[:, COPY_TIME].max(initial=1))
    copy_shift = max(0, (horizon // COPY_CELLS).bit_length())
    block_shift = max(0, (horizon >> (2 * (LEVELS - 1))).bit_length())
    lengths = {
        "singles": SINGLES,
        **{name: units for name in Book._fields if name.startswith("unit_")},
        "access_block": accesses,
        "access_action": accesses,
        "step_fast": steps,
        "block_heads": sum((horizon >> (block_shift + 2 * level)) + 1 for level in range(LEVELS)),
        "copy_heads": (horizon >> copy_shift) + 1,
        **dict.fromkeys(_BLOCK_FIELDS, blocks),
        **dict.fromkeys(_COPY_FIELDS, 2 * blocks),
    }
    places, total = {}, 0
    for name, length in lengths.items():
        places[name] = total
        total += length
    places.pop("singles")
    places |= {"block_shift": block_shift, "copy_shift": copy_shift, "horizon": horizon}
    book = Book(
        words=np.full(total, NONE),
        log=np.empty((log_entries, 3), dtype=np.int64),
        keys=np.empty(blocks + 1, dtype=np.int64),
        live=np.empty(units, dtype=np.int64),
        **places,
    )
    clear(book, tables)
    return book


@kernel
def clear(book, tables):
    """Make a book empty; what old blocks and copies left behind is overwritten when there are new ones."""
    words = book.words
    words[SINGLES : book.block_unit] = NONE
    words[book.step_fast : book.step_fast + len(tables.compute_seconds)] = 0
    for unit in range(len(tables.unit)):
        words[book.unit_decision + unit] = UNDECIDED
        words[book.unit_stored + unit] = 0 if tables.unit[unit, IS_STORED] else NEVER
        first = tables.unit[unit, FIRST]
        words[book.unit_next + unit] = first if first < len(tables.access) else NONE
    words[:SINGLES] = 0
    words[FIRST_COPY] = NONE


@part
def write(book, place, value):
    """Change one word and note it."""
    entry = book.words[LOG_SIZE]
    book.log[entry, 0] = place
    book.log[entry, 1] = book.words[place]
    book.log[entry, 2] = value
    book.words[LOG_SIZE] = entry + 1
    book.words[place] = value


@part
def undo(book, entry):
    """Take back every write since the log had `entry` entries, and forget them."""
    for index in range(book.words[LOG_SIZE] - 1, entry - 1, -1):
        book.words[book.log[index, 0]] = book.log[index, 1]
    book.words[LOG_SIZE] = entry


@part
def backward(book, first, last):
    """Take back the writes of log entries [first, last), and keep them."""
    for index in range(last - 1, first - 1, -1):
        book.words[book.log[index, 0]] = book.log[index, 1]


@part
def forward(book, first, last):
    """Do the writes of log entries [first, last) again."""
    for index in range(first, last):
        book.words[book.log[index, 0]] = book.log[index, 2]
