"""What follows when an access can be served from nowhere (SPEC section 6, Drop-backup)."""

from __future__ import annotations

from agents.games.memory.book import NONE, POSITION, SLOW, Book, undo, write
from agents.games.memory.compiled import part
from agents.games.memory.nodes import LOG_END, LOG_START, PARENT, Nodes, has_room
from agents.games.memory.rules import COPY, DROP, DROPPED_FACT, KEEP, toggle, try_action
from agents.games.memory.tables import FIRST, IS_GROUP, UNIT, Tables


@part
def resolve(book: Book, tables: Tables, nodes: Nodes, parent, start, unit, reached):
    """Drop a unit that met a dead end: go back to its first access and repeat the other actions.

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
                try_action(book, tables, access, nodes.replay[access], NONE)
                or try_action(book, tables, access, DROP, NONE)
                or try_action(book, tables, access, KEEP, NONE)
                or try_action(book, tables, access, COPY, NONE)
            ):
                unit = tables.access[access, UNIT]
    return True


@part
def go_back(book: Book, tables: Tables, nodes: Nodes, parent, start):
    """Restore the state of a node before the first access of every unit that is to be dropped.

    What the node in the making has written is taken back; what its ancestors have, by writes of its own.
    Units that were dropped in between stay dropped, so their first accesses count too.

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
