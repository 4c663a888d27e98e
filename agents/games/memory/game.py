"""A program under one planning clock, ready to be played: tables, score and the way from a book to a plan."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float

from agents.games.memory.book import Book, new_book
from agents.games.memory.orders import score
from agents.games.memory.program import Program
from agents.games.memory.tables import Tables, build_tables
from datasets.errors import UserError


class MemoryGame:
    """The memory-mapping game of one program. Letters: A accesses, T instructions."""

    def __init__(
        self, program: Program, clock_lambda: float = 1.0, worth: Float[np.ndarray, "A"] | None = None
    ) -> None:
        """Lay the program out.

        Args:
            program: a checked program.
            clock_lambda: planning clock of SPEC section 3, in [0, 1].
            worth: put blocks where least of this is lost (`sparing`), in seconds of each access; None for
                best fit.

        Raises:
            UserError: the clock is outside [0, 1].
        """
        if not 0 <= clock_lambda <= 1:
            raise UserError(f"clock_lambda {clock_lambda} is outside [0, 1]; 1 plans with everything slow")
        self.program = program
        self.clock_lambda = clock_lambda
        self.tables: Tables = build_tables(program, clock_lambda, worth)

    def new_book(self, log_entries: int = 1 << 16) -> Book:
        """An empty plan whose log holds as many writes."""
        return new_book(self.tables, log_entries)

    @cached_property
    def all_slow_seconds(self) -> float:
        """Time of the program with everything in slow memory."""
        return self._seconds(np.zeros(len(self.program.instructions), dtype=np.int64))

    @cached_property
    def all_fast_seconds(self) -> float:
        """Time with everything in fast memory: no plan is faster."""
        return self._seconds(self.tables.step[:-1, 1])

    @property
    def benefit(self) -> Float[np.ndarray, "A"]:
        """Seconds that each access would save if it alone were in fast memory, executions counted."""
        return self.tables.benefit

    def simulate(self, book: Book) -> float:
        """Seconds that a finished plan takes (SPEC section 7)."""
        return self.simulate_stalls(book)[0]

    def simulate_stalls(self, book: Book) -> tuple[float, Float[np.ndarray, "T"]]:
        """The same, and how long each instruction waits for copies."""
        stalls = np.zeros(len(self.program.instructions))
        copy_done = np.zeros(2 * (len(self.tables.access) + len(self.tables.unit)))
        return score(book, self.tables, copy_done, stalls), stalls

    def _seconds(self, fast_bytes: np.ndarray) -> float:
        return sum(
            self.program.instruction_seconds(step, int(fast_bytes[step])) * instruction.mult
            for step, instruction in enumerate(self.program.instructions)
        )
