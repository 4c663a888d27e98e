"""The nodes of the tree of states: what is kept of each, and going from one to another.

A node is a state in which there is something to choose, or a finished game. It is kept as the log entries
that lead to it from its parent; the book always holds the state of one node, the current one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.games.memory.book import LOG_SIZE, NONE, ROOM, Book, backward, forward
from agents.games.memory.compiled import part

(PARENT, DEPTH, LOG_START, LOG_END, ACCESS, MASK, KEY_ONE, KEY_TWO, NODE_COLUMNS) = range(9)
"""Columns of `Nodes.row`: parent, decisions since the start, log entries [start, end) that lead here from the
parent, the access to decide (A when the game is finished), legal actions as a bit mask (0 when it is),
hash."""


class Nodes(NamedTuple):
    """Every state that was reached. N nodes."""

    row: np.ndarray
    """int64 [N, 8]."""
    total: np.ndarray
    """float64 [N] return from the start of the game to this state."""
    used: np.ndarray
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
    here, below, steps = nodes.used[1], target, 0
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
    nodes.used[1] = target


@part
def has_room(book, entries):
    """Whether the log can take a step and as many entries more."""
    return len(book.log) - book.words[LOG_SIZE] >= ROOM + entries


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
