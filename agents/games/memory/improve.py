"""Anytime local search for a better plan: the order of units and their choices, judged by the simulator.

It is a plain search without learning, the measure of what a learned agent adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from agents.games.memory.climbing import EVERYTHING, Choices, climb
from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import (
    CLOCKS,
    RESIDENCIES,
    Solution,
    by_key,
    residency_limit,
    unit_benefit,
    unit_size,
    xla_style,
)
from agents.games.memory.orders import ANY, place_in_order
from agents.games.memory.program import Program

WARM, COLD = 3e-3, 3e-5
"""Temperatures at the start and at the end, as shares of the score."""
TRIAL = 0.08
"""Share of the time in which the search of each clock shows what it can do."""
ROUND_SECONDS = 0.25
"""About how long the compiled search runs before the clock is looked at."""


def improve(
    program: Program,
    seconds: float,
    *,
    seed: int = 0,
    report: Callable[[Solution], None] | None = None,
) -> Solution:
    """Search for `seconds` of wall time and return the best plan found.

    One search for each clock begins at the best settings of `xla_style` with look-ahead under it. Each has a
    trial of `TRIAL` of the time, and the one that came farthest has the rest. Ctrl-C ends it early with what
    was found so far. The result depends on `seed` and on how fast the machine is.

    Args:
        program: what to plan.
        seconds: wall time; the settings are tried even if it is over before.
        seed: of the random numbers.
        report: is called with each better plan.
    """
    begun = time.monotonic()
    searches = [_start(program, clock_lambda, seed) for clock_lambda in CLOCKS]
    best = min((search.best for search in searches), key=lambda solution: solution.seconds)
    try:
        for trial in range(len(searches) + 1):
            search = (
                searches[trial] if trial < len(searches) else min(searches, key=lambda one: one.best.seconds)
            )
            first = TRIAL * trial * seconds
            last = TRIAL * (trial + 1) * seconds if trial < len(searches) else seconds
            while (now := time.monotonic() - begun) < last and search.can_improve:
                spent = max((now - first) / (last - first), 0.0)
                if search.run(WARM * (COLD / WARM) ** spent) and search.best.seconds < best.seconds:
                    best = search.best
                    if report is not None:
                        report(best)
    except KeyboardInterrupt:
        pass
    return best


def _start(program: Program, clock_lambda: float, seed: int) -> _Climber:
    """A search under one clock, from its best setting."""
    tried = [(xla_style(program, clock_lambda, ratio, looks_ahead=True), ratio) for ratio in RESIDENCIES]
    solution, residency = min(tried, key=lambda entry: entry[0].seconds)
    return _Climber(solution, residency, seed)


class _Climber:
    """A search that goes on from round to round."""

    def __init__(self, start: Solution, residency: float, seed: int) -> None:
        self.best = start
        self._game = game = start.game
        self._book = game.new_book()
        self._order = by_key(unit_benefit(game) / np.sqrt(unit_size(game)))
        units, accesses = len(game.tables.unit), len(game.tables.access)
        self._choices = Choices(
            order=self._order.copy(),
            manner=np.full(units, ANY),
            allowed=np.full(accesses, EVERYTHING),
            residency=np.full(units, residency_limit(game, residency)),
        )
        self._best = Choices(*(array.copy() for array in self._choices))
        self._units = np.flatnonzero(unit_benefit(game) > 0)
        self._limits = np.array([residency_limit(game, ratio) for ratio in (0.0, *sorted(RESIDENCIES))])
        self._seconds = np.array([start.seconds, start.seconds])
        self._scratch = np.zeros(2 * (units + accesses)), np.zeros(len(game.tables.compute_seconds))
        self._random = np.random.default_rng(seed)
        self._iterations = 1

    @property
    def can_improve(self) -> bool:
        """False where no unit gains anything in fast memory."""
        return len(self._units) > 0

    def run(self, temperature: float) -> bool:
        """Search for a round; whether `best` is a better plan now."""
        before, begun = self._seconds[1], time.monotonic()
        climb(
            self._book, self._game.tables, self._choices, self._best, self._game.benefit, self._units,
            self._limits, self._seconds, temperature, self._iterations, self._random,
            *self._scratch,
        )  # fmt: skip
        spent = time.monotonic() - begun
        self._iterations = max(1, min(2 * self._iterations, int(self._iterations * ROUND_SECONDS / spent)))
        if self._seconds[1] == before:
            return False
        self.best = self._solution()
        return True

    def _solution(self) -> Solution:
        game: MemoryGame = self._game
        book = game.new_book()
        best = self._best
        place_in_order(
            book, game.tables, best.order, best.manner, best.allowed, game.benefit, best.residency, True
        )
        return Solution(game, book, game.simulate(book))
