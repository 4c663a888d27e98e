"""The states of a game that a player has reached, by number.

A state is never copied: a node keeps the writes that lead to it from its parent, and going from one state to
another costs as many writes as lie between them. Equal states have equal numbers.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.games.memory.book import LOG_SIZE, NONE, ROOM, Book
from agents.games.memory.branching import expand, keep_first, visit
from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import Solution
from agents.games.memory.nodes import ACCESS, DEPTH, MASK, NODE_COLUMNS, Nodes
from agents.games.memory.rules import NUM_ACTIONS
from planning.model import PlanningError


class StateTree:
    """States of one game by number; 0 is the start. Letters: M nodes, A actions (3)."""

    def __init__(self, game: MemoryGame) -> None:
        """Begin at the start of a game.

        Kernels that look at states take `book` and `nodes`, which are replaced when they grow.
        """
        self.game = game
        self.book: Book = game.new_book()
        self.nodes = _new_nodes(game, 1 << 10, len(self.book.words))
        self._expand(np.array([NONE]), np.array([0]))

    def __len__(self) -> int:
        """Number of states known."""
        return int(self.nodes.used[0])

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"]) -> Int[np.ndarray, "M"]:
        """Take an action in each of M states, and whatever follows by force.

        Args:
            parent: states.
            action: a legal action for each.

        Returns:
            The states reached.

        Raises:
            PlanningError: an action is not legal in its state.
        """
        parent, action = np.asarray(parent, dtype=np.int64), np.asarray(action, dtype=np.int64)
        if len(parent) and not (parent.min() >= 0 and parent.max() < len(self)):
            raise PlanningError(f"parent: there are {len(self)} states; use handles since the last root")
        return self._expand(parent, action)

    def total(self, node: Int[np.ndarray, "M"]) -> Float[np.ndarray, "M"]:
        """Return from the start of the game to M states.

        Before the end it is the planned saving so far as a share of the time with everything slow, at the end
        the simulated saving: returns telescope to what counts.
        """
        return self.nodes.total[node]

    def legal_mask(self, node: Int[np.ndarray, "M"]) -> Bool[np.ndarray, "M A"]:
        """Legal actions of M states; none where the game is finished."""
        return (self.nodes.row[node, MASK][:, None] >> np.arange(NUM_ACTIONS) & 1).astype(bool)

    def is_done(self, node: Int[np.ndarray, "M"]) -> Bool[np.ndarray, "M"]:
        """Whether the game is finished in M states."""
        return self.nodes.row[node, MASK] == 0

    def access(self, node: Int[np.ndarray, "M"]) -> Int[np.ndarray, "M"]:
        """The access that M states have to decide; the number of accesses where the game is finished."""
        return self.nodes.row[node, ACCESS]

    def depth(self, node: Int[np.ndarray, "M"]) -> Int[np.ndarray, "M"]:
        """Decisions between the start and M states, on the way that first led there."""
        return self.nodes.row[node, DEPTH]

    def visit(self, node: int) -> Book:
        """The plan in a state; it changes with the next call of the tree."""
        visit(self.book, self.nodes, node)
        return self.book

    def solution(self, node: int) -> Solution:
        """The finished plan of a state, as a copy of its own."""
        book = self.visit(node)
        book = book._replace(words=book.words.copy(), log=book.log[:0].copy())
        return Solution(self.game, book, self.game.simulate(book))

    def keep_first(self, count: int) -> None:
        """Forget all states but the first `count`, at least 1."""
        keep_first(self.book, self.nodes, count)

    def make_room_to_look(self) -> None:
        """Have room in the log for an action that is taken and taken back."""
        while len(self.book.log) - self.book.words[LOG_SIZE] < ROOM:
            self._lengthen_log()

    def _expand(self, parent: np.ndarray, action: np.ndarray) -> np.ndarray:
        reached = np.empty(len(parent), dtype=np.int64)
        done = 0
        while done < len(parent):
            more = expand(
                self.book, self.game.tables, self.nodes, parent[done:], action[done:], reached[done:],
                self.game.all_slow_seconds,
            )  # fmt: skip
            if more < 0:
                row = done - 1 - more
                raise PlanningError(f"action[{row}]: {action[row]} is not legal in state {parent[row]}")
            done += more
            if done < len(parent):
                self._make_room()
        return reached

    def _make_room(self) -> None:
        """Double what is nearly full: the log, or the nodes and their hash table."""
        nodes = self.nodes
        if nodes.used[0] < len(nodes.row):
            self._lengthen_log()
            return
        larger = _new_nodes(self.game, 2 * len(nodes.row), len(self.book.words))
        larger.row[: len(nodes.row)] = nodes.row
        larger.total[: len(nodes.row)] = nodes.total
        larger.used[:] = nodes.used
        self.nodes = larger
        current = int(nodes.used[1])
        keep_first(self.book, larger, len(nodes.row))
        visit(self.book, larger, current)

    def _lengthen_log(self) -> None:
        used = self.book.words[LOG_SIZE]
        log = np.empty((2 * len(self.book.log), 3), dtype=np.int64)
        log[:used] = self.book.log[:used]
        self.book = self.book._replace(log=log)


def _new_nodes(game: MemoryGame, capacity: int, num_words: int) -> Nodes:
    tables = game.tables
    return Nodes(
        row=np.empty((capacity, NODE_COLUMNS), dtype=np.int64),
        total=np.empty(capacity),
        used=np.array([0, -1]),
        table=np.full(4 * capacity, -1),
        path=np.empty(capacity, dtype=np.int64),
        decision=np.empty(len(tables.unit), dtype=np.int64),
        replay=np.empty(len(tables.access), dtype=np.int64),
        last_write=np.full(num_words, -1),
        copy_done=np.empty(2 * (len(tables.access) + len(tables.unit))),
        stalls=np.empty(len(tables.compute_seconds)),
    )
