"""The rules: what each action does to the book, whether it is allowed, and what follows by force.

Actions are taken one access at a time in schedule order (SPEC sections 4 to 6). `DROP` serves an access
from slow memory. `KEEP` (NoCopy) serves a write from a new block of fast memory, and a read from the block
that the buffer is in. `COPY` serves a read from a new block that the copy engine fills as late as possible.

An attempt either does all that an action needs, or leaves partial writes to be undone and returns False; that
is also how legality is found, so the two cannot disagree.
"""

from __future__ import annotations

from agents.games.memory.blocks import add_block, can_extend, extend_block, find_offset
from agents.games.memory.book import (
    FAST,
    HASH_ONE,
    HASH_TWO,
    LOG_SIZE,
    NONE,
    PICOSECONDS,
    POSITION,
    SAVED,
    SLOW,
    UNDECIDED,
    undo,
    write,
)
from agents.games.memory.compiled import part
from agents.games.memory.copies import add_copy, earliest_slot, latest_slot
from agents.games.memory.sparing import find_sparing_offset, note_lost
from agents.games.memory.tables import (
    BYTES,
    COPY_TIME,
    FIRST,
    FIRST_STEP,
    IS_GROUP,
    IS_OUTPUT,
    IS_STORED,
    IS_WRITE,
    LAST_STEP,
    MAY_BE_FAST,
    MULT,
    NEVER,
    NEXT,
    PLACES,
    SEGMENT_END,
    SEGMENT_START,
    STEP,
    STEP_BYTES,
    UNIT,
)

DROP, KEEP, COPY = range(3)
NUM_ACTIONS = 3
ACTION_NAMES = ("drop", "keep", "copy")


@part
def mix(kind, one, two, three, salt):
    """A 64-bit hash of one fact about a state (the finaliser of SplitMix64, Steele et al. 2014)."""
    value = salt + kind * 0x1E3779B97F4A7C15
    for word in (one, two, three):
        value = (value ^ word) + 0x1E3779B97F4A7C15
        value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
        value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
        value = value ^ ((value >> 31) & 0x1FFFFFFFF)
    return value


BLOCK_FACT, ACCESS_FACT, BACK_FACT, DROPPED_FACT, PLACE_FACT = range(1, 6)


@part
def toggle(book, kind, one, two, three):
    """Add a fact to the hash of the state, or take it out again."""
    write(book, HASH_ONE, book.words[HASH_ONE] ^ mix(kind, one, two, three, 0x5851F42D4C957F2D))
    write(book, HASH_TWO, book.words[HASH_TWO] ^ mix(kind, one, two, three, 0x14057B7EF767814F))


@part
def block_fact(book, block):
    """Toggle what the hash knows of a block: whose, where and when."""
    words = book.words
    toggle(
        book,
        BLOCK_FACT + (words[book.block_unit + block] << 8),
        words[book.block_offset + block],
        words[book.block_start + block],
        words[book.block_end + block],
    )


@part
def step_seconds(tables, step, fast_bytes):
    """Roofline time of one execution of an instruction with some of its bytes in fast memory."""
    slow_bytes = tables.step[step, STEP_BYTES] - fast_bytes
    memory = slow_bytes * tables.seconds_per_slow_byte + fast_bytes * tables.seconds_per_fast_byte
    return max(tables.compute_seconds[step], memory)


@part
def serve(book, tables, access, block):
    """Serve an access from a block, and note the time that it saves."""
    words = book.words
    step = tables.access[access, STEP]
    before = words[book.step_fast + step]
    after = before + tables.access[access, BYTES]
    saved = round(step_seconds(tables, step, before) * PICOSECONDS) - round(
        step_seconds(tables, step, after) * PICOSECONDS
    )
    write(book, book.access_block + access, block)
    write(book, book.step_fast + step, after)
    write(book, SAVED, words[SAVED] + saved * tables.step[step, MULT])
    toggle(book, ACCESS_FACT, access, words[book.block_offset + block], words[book.block_start + block])


@part
def choose_offset(book, tables, access, start, end, look_ahead):
    """The best gap for a block over [start, end), one that stays free for later uses if there is one.

    Args:
        book: the plan.
        tables: the program.
        access: the first access in the block.
        start: when the block is taken.
        end: until when it must be free.
        look_ahead: longest time between two uses for which a block is kept; `NONE` to see no later use.
    """
    places = tables.unit[tables.access[access, UNIT], PLACES]
    if look_ahead == NONE:
        return find_offset(book, tables, start, end, places)
    best = NONE
    while True:
        offset = find_offset(book, tables, start, end, places)
        access = tables.access[access, NEXT]
        if offset == NONE or access == NONE or tables.clock[tables.access[access, STEP]] - end > look_ahead:
            return best if offset == NONE else offset
        best, end = offset, tables.clock[tables.access[access, STEP] + 1]


@part
def take_block(book, tables, access, start, end, copy_length, look_ahead):
    """Take the best gap for an access over [start, end), filled by a copy from `start` on if it has a length.

    Returns:
        The block, or `NONE` if there is no room.
    """
    unit = tables.access[access, UNIT]
    places = tables.unit[unit, PLACES]
    if tables.is_sparing:
        offset = find_sparing_offset(book, tables, unit, start, end, places)
    else:
        offset = choose_offset(book, tables, access, start, end, look_ahead)
    if offset == NONE:
        return NONE
    if tables.is_sparing:
        note_lost(book, tables, unit, offset, places)
    block = add_block(book, unit, offset, start, end, NONE)
    if copy_length > 0:
        write(book, book.block_copy + block, add_copy(book, start, copy_length, block))
    block_fact(book, block)
    return block


@part
def lengthen(book, block, end):
    """Keep a block until `end`, which must have been found free."""
    block_fact(book, block)
    extend_block(book, block, end)
    block_fact(book, block)


@part
def write_back(book, tables, unit, deadline):
    """Copy what a unit wrote to its block into slow memory, as early as possible and by `deadline`."""
    words = book.words
    block = words[book.unit_run + unit]
    if block == NONE:
        return False
    # A run that is not stored began with the unit's write, whose end is when the copy may start.
    defined = tables.access[tables.unit[unit, FIRST], STEP]
    length = tables.unit[unit, COPY_TIME]
    start = earliest_slot(
        book, tables.clock[defined + 1], min(deadline, tables.step[defined, SEGMENT_END]), length
    )
    if start == NONE or not can_extend(book, tables, block, start + length):
        return False
    lengthen(book, block, start + length)
    copy = add_copy(book, start, length, block)
    write(book, book.block_back + block, copy)
    write(book, book.unit_back + unit, copy)
    write(book, book.unit_stored + unit, start + length)
    toggle(book, BACK_FACT, unit, start, words[book.block_start + block])
    return True


@part
def drop(book, tables, access):
    """Serve an access from slow memory, after a write-back where only fast memory holds the data."""
    words = book.words
    unit, step = tables.access[access, UNIT], tables.access[access, STEP]
    if tables.access[access, IS_WRITE]:
        write(book, book.unit_stored + unit, tables.clock[step + 1])
    elif words[book.unit_stored + unit] > tables.clock[step] and not write_back(
        book, tables, unit, tables.clock[step]
    ):
        return False
    if tables.unit[unit, IS_GROUP]:
        write(book, book.unit_decision + unit, SLOW)
    write(book, book.unit_run + unit, NONE)
    return True


@part
def keep(book, tables, access, look_ahead):
    """Write to a new block of fast memory, or read from the block that the buffer is still in."""
    words = book.words
    unit, step = tables.access[access, UNIT], tables.access[access, STEP]
    start, end = tables.clock[step], tables.clock[step + 1]
    block = words[book.unit_run + unit]
    if tables.unit[unit, IS_GROUP]:
        return not tables.unit[unit, IS_STORED] and hold_group(book, tables, access, 0)
    if tables.access[access, IS_WRITE]:
        block = take_block(book, tables, access, start, end, 0, look_ahead)
        if block == NONE:
            return False
        write(book, book.unit_run + unit, block)
    elif block == NONE or not can_extend(book, tables, block, end):
        return False
    else:
        lengthen(book, block, end)
    serve(book, tables, access, block)
    return True


@part
def fetch(book, tables, access, look_ahead):
    """Read from a new block that a copy fills as late as possible."""
    words = book.words
    unit, step = tables.access[access, UNIT], tables.access[access, STEP]
    if tables.unit[unit, IS_GROUP]:
        return tables.unit[unit, IS_STORED] == 1 and hold_group(
            book, tables, access, tables.unit[unit, COPY_TIME]
        )
    if tables.access[access, IS_WRITE]:
        return False
    deadline = tables.clock[step]
    if words[book.unit_stored + unit] > deadline and not write_back(book, tables, unit, deadline):
        return False
    earliest = max(words[book.unit_stored + unit], tables.step[step, SEGMENT_START])
    length = tables.unit[unit, COPY_TIME]
    start = latest_slot(book, earliest, deadline, length)
    if start == NONE:
        return False
    block = take_block(book, tables, access, start, tables.clock[step + 1], length, look_ahead)
    if block == NONE:
        return False
    write(book, book.unit_run + unit, block)
    serve(book, tables, access, block)
    return True


@part
def hold_group(book, tables, access, copy_length):
    """Keep a group in one block from its first use to its last, after a copy of `copy_length` if not 0."""
    unit = tables.access[access, UNIT]
    first = tables.unit[unit, FIRST_STEP]
    start, end = tables.clock[first], tables.clock[tables.unit[unit, LAST_STEP] + 1]
    if copy_length > 0:
        start = latest_slot(book, tables.step[first, SEGMENT_START], start, copy_length)
        if start == NONE:
            return False
    block = take_block(book, tables, access, start, end, copy_length, NONE)
    if block == NONE:
        return False
    write(book, book.unit_decision + unit, FAST)
    write(book, book.unit_run + unit, block)
    serve(book, tables, access, block)
    return True


@part
def attempt(book, tables, access, action, look_ahead):
    """Take an action at an access; on False the caller undoes what was written.

    `look_ahead` is that of `choose_offset`; in schedule order nothing later is booked, so it changes nothing.
    """
    unit = tables.access[access, UNIT]
    decision = book.words[book.unit_decision + unit]
    done = False
    if decision == FAST:
        serve(book, tables, access, book.words[book.unit_run + unit])
        done = True
    elif action == DROP:
        done = drop(book, tables, access)
    elif decision == UNDECIDED and tables.unit[unit, MAY_BE_FAST]:
        done = (
            keep(book, tables, access, look_ahead)
            if action == KEEP
            else fetch(book, tables, access, look_ahead)
        )
    if done:
        write(book, POSITION, access + 1)
        if tables.is_sparing:
            write(book, book.unit_next + unit, tables.access[access, NEXT])
        write(book, book.access_action + access, action)
        if decision == SLOW and not tables.unit[unit, IS_GROUP] and tables.access[access, NEXT] == NONE:
            toggle(book, DROPPED_FACT, unit, 0, 0)
    return done


@part
def try_action(book, tables, access, action, look_ahead):
    """Take an action at an access, or leave the book as it was and return False."""
    mark = book.words[LOG_SIZE]
    if attempt(book, tables, access, action, look_ahead):
        return True
    undo(book, mark)
    return False


@part
def legal_actions(book, tables, access):
    """The actions allowed at an access, as a bit mask; `1 << DROP` alone where the group has decided."""
    if book.words[book.unit_decision + tables.access[access, UNIT]] != UNDECIDED:
        return 1 << DROP
    mask = 0
    for action in range(NUM_ACTIONS):
        mark = book.words[LOG_SIZE]
        if attempt(book, tables, access, action, NONE):
            mask |= 1 << action
        undo(book, mark)
    return mask


@part
def finish(book, tables):
    """Write back every output that only fast memory holds, in the order of units.

    Returns:
        `NONE`, or the unit whose write-back cannot be booked.
    """
    words = book.words
    for unit in range(len(tables.unit)):
        if (
            tables.unit[unit, IS_OUTPUT]
            and words[book.unit_stored + unit] == NEVER
            and not write_back(book, tables, unit, NEVER)
        ):
            return unit
    return NONE
