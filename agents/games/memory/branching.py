"""Compiled parts of the tree of states: stepping, what follows by force, dead ends, moving between states.

A node is a state in which there is something to choose, or a finished game. It is kept as the log entries that
lead to it from its parent; the book always holds the state of one node, the current one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.games.memory.book import (
    HASH_ONE,
    HASH_TWO,
    LOG_SIZE,
    NONE,
    POSITION,
    ROOM,
    SAVED,
    SLOW,
    Book,
    backward,
    forward,
    undo,
    write,
)
from agents.games.memory.compiled import kernel, part
from agents.games.memory.rules import (
    COPY,
    DROP,
    DROPPED_FACT,
    KEEP,
    PICOSECONDS,
    PLACE_FACT,
    attempt,
    finish,
    legal_actions,
    mix,
    toggle,
)
from agents.games.memory.simulator import simulate
from agents.games.memory.tables import FIRST, IS_GROUP, UNIT, Tables

(PARENT, DEPTH, LOG_START, LOG_END, ACCESS, MASK, KEY_ONE, KEY_TWO, NODE_COLUMNS) = range(9)
"""Columns of `Nodes.row`: parent, decisions since the start, log entries [start, end) that lead here from the
parent, the access to decide (A when the game is finished), legal actions as a bit mask (0 when it is), hash."""

NO_ROOM = -2


class Nodes(NamedTuple):
    """Every state that was reached. N nodes."""

    row: np.ndarray
    """int64 [N, 8]."""
    total: np.ndarray
    """float64 [N] return from the start of the game to this state."""
    count: np.ndarray
    """int64 [2] nodes in use, and the current one."""
    table: np.ndarray
    """int64 [power of two] hash table of nodes, `NONE` where empty."""
    path: np.ndarray
    """int64 [N] scratch for the way down to a node."""
    decision: np.ndarray
    """int64 [U] scratch for what units were told before a dead end."""
    replay: np.ndarray
    """int64 [A] scratch for the actions to be repeated after a dead end."""
    last_write: np.ndarray
    """int64 [words] scratch for shortening logs; `NONE` throughout between calls."""
    copy_done: np.ndarray
    """float64 scratch of the simulator."""
    stalls: np.ndarray
    """float64 [T] scratch of the simulator."""


@part
def move_to(book: Book, nodes: Nodes, target):
    """Make a node the current one: up to the common ancestor, and down again."""
    row = nodes.row
    here, below, steps = nodes.count[1], target, 0
    while here != below:
        if row[here, DEPTH] >= row[below, DEPTH]:
            backward(book, row[here, LOG_START], row[here, LOG_END])
            here = row[here, PARENT]
        else:
            nodes.path[steps] = below
            steps += 1
            below = row[below, PARENT]
    for index in range(steps - 1, -1, -1):
        below = nodes.path[index]
        forward(book, row[below, LOG_START], row[below, LOG_END])
    nodes.count[1] = target


@part
def has_room(book, entries):
    """Whether the log can take a step and as many entries more."""
    return len(book.log) - book.words[LOG_SIZE] >= ROOM + entries


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
def resolve(book: Book, tables: Tables, nodes: Nodes, parent, start, unit, reached):
    """Drop a unit that met a dead end: go back to its first access and repeat the other actions (SPEC section 6).

    An action that is no longer allowed becomes a drop, or what else is allowed; where nothing is, that
    access's unit is dropped too. It ends because every round drops one unit for good.

    Args:
        book: the plan.
        tables: the program.
        nodes: the tree.
        parent: node under which the new state is being made.
        start: length of the log at that node.
        unit: what cannot be served.
        reached: access at which that showed.

    Returns:
        False if the log is full; the caller then undoes everything.
    """
    words = book.words
    nodes.replay[:reached] = words[book.access_action : book.access_action + reached]
    while unit != NONE:
        decision = words[book.unit_decision : book.unit_decision + len(tables.unit)]
        nodes.decision[:] = decision
        nodes.decision[unit] = SLOW
        if not go_back(book, tables, nodes, parent, start):
            return False
        for other in range(len(tables.unit)):
            # A group never meets a dead end: in slow memory by choice, it is told so again below.
            if nodes.decision[other] == SLOW and decision[other] != SLOW and not tables.unit[other, IS_GROUP]:
                write(book, book.unit_decision + other, SLOW)
                toggle(book, DROPPED_FACT, other, 0, 0)
        unit = NONE
        while unit == NONE and words[POSITION] < reached:
            if not has_room(book, 0):
                return False
            access = words[POSITION]
            if not (
                _repeat(book, tables, access, nodes.replay[access])
                or _repeat(book, tables, access, DROP)
                or _repeat(book, tables, access, KEEP)
                or _repeat(book, tables, access, COPY)
            ):
                unit = tables.access[access, UNIT]
    return True


@part
def _repeat(book, tables, access, action):
    mark = book.words[LOG_SIZE]
    if attempt(book, tables, access, action, NONE):
        return True
    undo(book, mark)
    return False


@part
def go_back(book: Book, tables: Tables, nodes: Nodes, parent, start):
    """Restore the state of a node before the first access of every unit that is to be dropped.

    What the node in the making has written is taken back; what its ancestors have, by writes of its own. Units
    that were dropped in between stay dropped, so their first accesses count too.

    Returns:
        False if the log is full.
    """
    words, row = book.words, nodes.row
    undo(book, start)
    target = len(tables.access)
    for other in range(len(tables.unit)):
        if nodes.decision[other] == SLOW and words[book.unit_decision + other] != SLOW:
            target = min(target, tables.unit[other, FIRST])
    while words[POSITION] > target:
        first, last = row[parent, LOG_START], row[parent, LOG_END]
        if not has_room(book, last - first + 4 * len(tables.unit)):
            return False
        for index in range(last - 1, first - 1, -1):
            place = book.log[index, 0]
            other = place - book.unit_decision
            if 0 <= other < len(tables.unit) and words[place] == SLOW:
                target = min(target, tables.unit[other, FIRST])
            write(book, place, book.log[index, 1])
        parent = row[parent, PARENT]
    return True


@part
def shorten(book: Book, nodes: Nodes, start):
    """Keep of the log since `start` only the first old and the last new value of each word that changed."""
    log, last_write = book.log, nodes.last_write
    kept = start
    for index in range(start, book.words[LOG_SIZE]):
        place = log[index, 0]
        if last_write[place] == NONE:
            last_write[place] = kept
            log[kept, 0] = place
            log[kept, 1] = log[index, 1]
            kept += 1
    last = kept
    kept = start
    for index in range(start, last):
        place, old = log[index, 0], log[index, 1]
        last_write[place] = NONE
        if book.words[place] != old:
            log[kept, 0] = place
            log[kept, 1] = old
            log[kept, 2] = book.words[place]
            kept += 1
    book.words[LOG_SIZE] = kept


@part
def find(nodes: Nodes, key_one, key_two):
    """Place in the hash table of the node with these keys, or of the gap where it belongs."""
    last = len(nodes.table) - 1
    slot = key_one & last
    while True:
        node = nodes.table[slot]
        if node == NONE or (nodes.row[node, KEY_ONE] == key_one and nodes.row[node, KEY_TWO] == key_two):
            return slot
        slot = (slot + 1) & last


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
        nodes.count[1] = parent
        return nodes.table[slot]
    node = nodes.count[0]
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
    nodes.count[0] = node + 1
    nodes.count[1] = node
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
        if nodes.count[0] == len(nodes.row) or not has_room(book, 0):
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
    nodes.count[0] = count
    book.words[LOG_SIZE] = nodes.row[count - 1, LOG_END]
    nodes.table[:] = NONE
    for node in range(count):
        nodes.table[find(nodes, nodes.row[node, KEY_ONE], nodes.row[node, KEY_TWO])] = node
