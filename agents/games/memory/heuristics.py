"""Reference play by the heuristics in use (SPEC sections 9 and 12).

None of them is XLA: "XLA-style" takes the order and the choices of its memory-space assignment, without its
repacking, retries, slicing and loop optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from agents.games.memory.book import NONE, Book
from agents.games.memory.game import MemoryGame
from agents.games.memory.orders import ANY, WHOLE, place_in_order, play_in_order
from agents.games.memory.program import Program
from agents.games.memory.tables import FIRST_STEP, LAST_STEP, UNIT, units_of

CLOCKS = (1.0, 0.75, 0.5, 0.25, 0.0)
RESIDENCIES = (1.0, 0.25, 0.5, 2.0, 1e9)


@dataclass(frozen=True)
class Solution:
    """A finished plan as the rules keep it."""

    game: MemoryGame
    """The program and clock that it is for."""
    book: Book
    """Blocks, copies and what is served from where."""
    seconds: float
    """Its score: simulated time."""

    @property
    def share(self) -> float:
        """The score as a share of the time with everything in slow memory; lower is better."""
        return self.seconds / self.game.all_slow_seconds


def unit_benefit(game: MemoryGame) -> Float[np.ndarray, "U"]:
    """Seconds saved by each unit if each of its accesses alone were in fast memory, summed."""
    total = np.zeros(len(game.tables.unit))
    np.add.at(total, game.tables.access[:, UNIT], game.benefit)
    return total


def unit_size(game: MemoryGame) -> Int[np.ndarray, "U"]:
    """Bytes of each unit."""
    buffers = game.program.buffers
    return np.array([max(buffers[buffer].size for buffer in unit) for unit in units_of(game.program)])


def by_key(key: Float[np.ndarray, "U"]) -> Int[np.ndarray, "U"]:
    """Units by falling key, ties in the order of the program.

    Keys are compared to seven digits: those of equal buffers differ in the last bits of their sums.
    """
    return np.argsort([-float(f"{value:.6e}") for value in key], kind="stable")


def residency_limit(game: MemoryGame, ratio: float) -> int:
    """Nanoseconds in which `ratio` of fast memory can be filled by the copy engine.

    XLA limits so how long a buffer may stay between two uses (its ratio of overlap to memory size).
    """
    hardware = game.program.hardware
    return int(ratio * hardware.fast_capacity / hardware.bw_dma * 1e9)


def myopic(program: Program, clock_lambda: float = 1.0, copies: bool = True) -> Solution:
    """In schedule order, in fast memory wherever the rules allow it; a unit at a dead end is dropped.

    Args:
        program: what to plan.
        clock_lambda: planning clock.
        copies: False for the form without copies into fast memory.
    """
    game = MemoryGame(program, clock_lambda)
    book = game.new_book()
    dropped = np.zeros(len(game.tables.unit), dtype=bool)
    while (failed := play_in_order(book, game.tables, dropped, game.benefit, copies)) != NONE:
        dropped[failed] = True
    return Solution(game, book, game.simulate(book))


def density(program: Program, clock_lambda: float = 1.0) -> Solution:
    """Units by benefit per byte and time of life, each in one block for all its uses or in slow memory."""
    game = MemoryGame(program, clock_lambda)
    tables = game.tables
    first, last = tables.unit[:, FIRST_STEP], tables.unit[:, LAST_STEP]
    life = np.maximum(1, tables.clock[last + 1] - tables.clock[np.maximum(first, 0)])
    order = by_key(unit_benefit(game) / (unit_size(game) * life))
    return place(game, order, 1e9, looks_ahead=False, manner=WHOLE)


def xla_style(
    program: Program, clock_lambda: float = 1.0, residency: float = 1.0, looks_ahead: bool = False
) -> Solution:
    """Units by benefit over the root of their size; each use kept, else copied, else slow.

    Args:
        program: what to plan.
        clock_lambda: planning clock.
        residency: how long a unit stays between two uses, see `residency_limit`.
        looks_ahead: whether an offset is preferred that stays free for the unit's next uses. The published
            baselines do not, XLA does.
    """
    game = MemoryGame(program, clock_lambda)
    order = by_key(unit_benefit(game) / np.sqrt(unit_size(game)))
    return place(game, order, residency, looks_ahead)


def tuned(program: Program, looks_ahead: bool = False) -> Solution:
    """The best of 25 settings of clock and residency of `xla_style`."""
    solutions = (
        xla_style(program, clock_lambda, residency, looks_ahead)
        for clock_lambda in CLOCKS
        for residency in RESIDENCIES
    )
    return min(solutions, key=lambda solution: solution.seconds)


def place(
    game: MemoryGame, order: Int[np.ndarray, "U"], residency: float, looks_ahead: bool, manner: int = ANY
) -> Solution:
    """Place the units of a game in an order, all in the same manner.

    Args:
        game: program and clock.
        order: units, most important first.
        residency: see `residency_limit`.
        looks_ahead: see `xla_style`.
        manner: one of `orders.ANY`, `DEFINED_SLOW`, `ALL_SLOW`, `WHOLE`.
    """
    units, accesses = len(game.tables.unit), len(game.tables.access)
    book = game.new_book()
    place_in_order(
        book,
        game.tables,
        order,
        np.full(units, manner),
        np.full(accesses, 7),
        game.benefit,
        np.full(units, residency_limit(game, residency)),
        looks_ahead,
    )
    return Solution(game, book, game.simulate(book))


HEURISTICS: dict[str, Callable[[Program], Solution]] = {
    "no-copy": lambda program: myopic(program, copies=False),
    "myopic": myopic,
    "density": density,
    "xla-style": xla_style,
    "tuned": tuned,
    "tuned-look-ahead": lambda program: tuned(program, looks_ahead=True),
}
"""Every heuristic by name."""
