"""Compiled parts of the tree of states: stepping, and what follows by force."""

from __future__ import annotations

from agents.games.memory.book import HASH_ONE, HASH_TWO, LOG_SIZE, NONE, POSITION, ROOM, SAVED, Book, undo
from agents.games.memory.compiled import kernel, part
from agents.games.memory.dead_ends import resolve
from agents.games.memory.nodes import (
    ACCESS,
    DEPTH,
    KEY_ONE,
    KEY_TWO,
    LOG_END,
    LOG_START,
    MASK,
    PARENT,
    Nodes,
    find,
    has_room,
    move_to,
    shorten,
)
from agents.games.memory.rules import (
    COPY,
    DROP,
    KEEP,
    PICOSECONDS,
    PLACE_FACT,
    attempt,
    finish,
    legal_actions,
    mix,
)
from agents.games.memory.simulator import simulate
from agents.games.memory.tables import UNIT, Tables

NO_ROOM = -2


@part
def settle(book: Book, tables: Tables, nodes: Nodes, parent, start):
    """Take every action without an alternative, and resolve dead ends.

    Args:
        book: the plan, after an action in the state of `parent`.
        tables: the program.
        nodes: the tree.
        parent: node from which the action was taken, `NONE` at the start.
        start: length of the log before the action.

    Returns:
        Legal actions at the access then reached as a bit mask, 0 if the game is finished, `NO_ROOM` if the
        log is full.
    """
    words = book.words
    while has_room(book, 0):
        access = words[POSITION]
        if access == len(tables.access):
            unit = finish(book, tables)
            if unit == NONE:
                return 0
        else:
            mask = legal_actions(book, tables, access)
            if mask & (mask - 1):
                return mask
            if mask:
                attempt(book, tables, access, _only_action(mask), NONE)
                continue
            unit = tables.access[access, UNIT]
        if not resolve(book, tables, nodes, parent, start, unit, access):
            return NO_ROOM
    return NO_ROOM


@part
def _only_action(mask):
    return DROP if mask == 1 << DROP else KEEP if mask == 1 << KEEP else COPY


@part
def add_node(book: Book, tables: Tables, nodes: Nodes, parent, start, mask, all_slow_seconds):
    """Make the book's state a node, or find the equal one there is and go back to the parent's state.

    Returns:
        The node.
    """
    words, row = book.words, nodes.row
    position = words[POSITION]
    key_one = words[HASH_ONE] ^ mix(PLACE_FACT, position, int(mask == 0), 0, 0x2545F4914F6CDD1D)
    key_two = words[HASH_TWO] ^ mix(PLACE_FACT, position, int(mask == 0), 0, 0x369DEA0F31A53F85)
    slot = find(nodes, key_one, key_two)
    if nodes.table[slot] != NONE:
        undo(book, start)
        nodes.used[1] = parent
        return nodes.table[slot]
    node = nodes.used[0]
    row[node, PARENT] = parent
    row[node, DEPTH] = row[parent, DEPTH] + 1 if parent != NONE else 0
    row[node, LOG_START] = start
    row[node, LOG_END] = words[LOG_SIZE]
    row[node, ACCESS] = position
    row[node, MASK] = mask
    row[node, KEY_ONE] = key_one
    row[node, KEY_TWO] = key_two
    if mask == 0:
        seconds = simulate(book, tables, nodes.copy_done, nodes.stalls)
        nodes.total[node] = 1 - seconds / all_slow_seconds
    else:
        nodes.total[node] = words[SAVED] / PICOSECONDS / all_slow_seconds
    nodes.table[slot] = node
    nodes.used[0] = node + 1
    nodes.used[1] = node
    return node


@kernel
def expand(book: Book, tables: Tables, nodes: Nodes, parent, action, reached, all_slow_seconds):
    """Take one action in each of M nodes.

    Args:
        book: the plan, in the state of the current node.
        tables: the program.
        nodes: the tree.
        parent: int64 [M] nodes; `NONE` for the start of the game, in an empty book, whose action is not read.
        action: int64 [M] a legal action of each.
        reached: int64 [M]; receives the nodes reached.
        all_slow_seconds: unit of returns.

    Returns:
        How many were done before room for nodes or log entries ran out; -1 - m if action m is not legal.
    """
    for index in range(len(parent)):
        if nodes.used[0] == len(nodes.row) or not has_room(book, 0):
            return index
        here = parent[index]
        if here != NONE and not (nodes.row[here, MASK] >> action[index]) & 1:
            return -1 - index
        start = book.words[LOG_SIZE]
        if here != NONE:
            move_to(book, nodes, here)
            attempt(book, tables, nodes.row[here, ACCESS], action[index], NONE)
        mask = settle(book, tables, nodes, here, start)
        if mask == NO_ROOM:
            undo(book, start)
            return index
        if book.words[LOG_SIZE] - start > ROOM:
            shorten(book, nodes, start)
        reached[index] = add_node(book, tables, nodes, here, start, mask, all_slow_seconds)
    return len(parent)


@kernel
def visit(book: Book, nodes: Nodes, node):
    """Bring the book into the state of a node."""
    move_to(book, nodes, node)


@kernel
def keep_first(book: Book, nodes: Nodes, count):
    """Forget all but the first `count` nodes, none of which lies below a forgotten one."""
    move_to(book, nodes, count - 1)
    nodes.used[0] = count
    book.words[LOG_SIZE] = nodes.row[count - 1, LOG_END]
    nodes.table[:] = NONE
    for node in range(count):
        nodes.table[find(nodes, nodes.row[node, KEY_ONE], nodes.row[node, KEY_TWO])] = node
