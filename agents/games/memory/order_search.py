"""Search for plans by changing, again and again, how `orders.place_in_order` places the units.

Letters: U units, A accesses.

A plan is described by what the heuristics fix once for all: the order of the units, in which manner each is
placed, how long each stays between two uses, and which accesses may be kept or copied. A change of one of
these makes another valid plan, and the simulator says what it is worth. Changes are accepted by simulated
annealing (Kirkpatrick et al. 1983), so that some that cost a little open the way to better ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import (
    CLOCKS,
    RESIDENCIES,
    Solution,
    by_key,
    residency_limit,
    unit_benefit,
    unit_size,
)
from agents.games.memory.orders import ALL_SLOW, ANY, DEFINED_SLOW, WHOLE, place_in_order
from agents.games.memory.program import Program
from agents.games.memory.rules import COPY, DROP, KEEP
from agents.games.memory.tables import UNIT

ALL_ACTIONS = (1 << DROP) | (1 << KEEP) | (1 << COPY)
FIRST_TEMPERATURE, LAST_TEMPERATURE = 3e-3, 1e-5
"""Of the annealing, as shares of the time with everything slow."""
MOST_STEPS, FEWEST_STEPS = 20_000, 300
"""Changes of one annealing; how many it is follows from what one costs and from the time there is."""


@dataclass(frozen=True)
class Recipe:
    """How units are placed."""

    key: Float[np.ndarray, " U"]
    """Logarithm of each unit's importance; the highest is placed first."""
    manner: Int[np.ndarray, " U"]
    """One of `orders.ANY`, `DEFINED_SLOW`, `ALL_SLOW`, `WHOLE` each."""
    residency: Float[np.ndarray, " U"]
    """How long each stays between two uses, see `heuristics.residency_limit`."""
    allowed: Int[np.ndarray, " A"]
    """Bit mask of the actions that may be tried at each access."""
    looks_ahead: bool
    """Whether room is preferred that stays free for the next uses."""


def search_orders(program: Program, *, seconds: float, seed: int, found: Callable[[Solution], None]) -> None:
    """Anneal from the best heuristic recipes of each clock, in turns, until the time is over.

    Args:
        program: what to plan.
        seconds: wall-clock limit.
        seed: of all changes.
        found: told of each plan that is better than all before.
    """
    deadline = time.perf_counter() + seconds
    random = np.random.default_rng(seed)
    searchers = [_Searcher(MemoryGame(program, clock), random, found) for clock in CLOCKS]
    lowest = np.inf
    for searcher in searchers:
        lowest = searcher.begin(deadline, lowest)
    turn = 0
    while (left := deadline - time.perf_counter()) > 0:
        # The clocks on which the best plans are found get most of the time.
        ranked = sorted(searchers, key=lambda searcher: searcher.best_seconds)
        searcher = ranked[min(int(random.exponential(1.0)), len(ranked) - 1)]
        lowest = searcher.anneal(min(left, max(0.1 * seconds, 2.0)), deadline, lowest, restart=turn % 4 == 3)
        turn += 1


class _Searcher:
    """One clock's recipes."""

    def __init__(
        self, game: MemoryGame, random: np.random.Generator, found: Callable[[Solution], None]
    ) -> None:
        self._game, self._random, self._found = game, random, found
        self._book = game.new_book()
        self._units_of_accesses = game.tables.access[:, UNIT]
        importance = np.maximum(unit_benefit(game), 1e-15) / np.sqrt(np.maximum(unit_size(game), 1))
        # What gains nothing goes last, but may come to be wanted once its neighbours are placed.
        self._key = np.log(importance)
        self._benefits = np.nonzero(unit_benefit(game) > 0)[0]
        self._best: Recipe | None = None
        self.best_seconds = np.inf

    def begin(self, deadline: float, lowest: float) -> float:
        """Try the heuristic recipes; the lowest time over all clocks."""
        for residency in RESIDENCIES:
            for looks_ahead in (False, True):
                if self._best is not None and time.perf_counter() > deadline:
                    return lowest
                recipe = Recipe(
                    self._key,
                    np.full(len(self._key), ANY),
                    np.full(len(self._key), residency),
                    np.full(len(self._units_of_accesses), ALL_ACTIONS),
                    looks_ahead,
                )
                lowest = self._judge(recipe, lowest)[1]
        return lowest

    def anneal(self, seconds: float, deadline: float, lowest: float, *, restart: bool) -> float:
        """Change the best recipe step by step; the lowest time over all clocks."""
        recipe = self._best
        assert recipe is not None
        if restart:
            noise = self._random.normal(0, 0.3, len(recipe.key))
            recipe = replace(recipe, key=recipe.key + noise)
        started = time.perf_counter()
        now, lowest = self._judge(recipe, lowest)
        cost = max(time.perf_counter() - started, 1e-6)
        steps = int(np.clip(seconds / cost, FEWEST_STEPS, MOST_STEPS))
        for step in range(steps):
            if time.perf_counter() > deadline:
                break
            share = step / steps
            temperature = FIRST_TEMPERATURE ** (1 - share) * LAST_TEMPERATURE**share
            changed = self._change(recipe)
            after, lowest = self._judge(changed, lowest)
            worse = (after - now) / self._game.all_slow_seconds
            if worse <= 0 or self._random.random() < np.exp(-worse / temperature):
                recipe, now = changed, after
        return lowest

    def _judge(self, recipe: Recipe, lowest: float) -> tuple[float, float]:
        """Place and simulate; the time, and the lowest over all clocks."""
        game = self._game
        limits = np.array([residency_limit(game, ratio) for ratio in recipe.residency])
        place_in_order(
            self._book, game.tables, by_key(recipe.key), recipe.manner, recipe.allowed, game.benefit, limits,
            recipe.looks_ahead,
        )  # fmt: skip
        seconds = game.simulate(self._book)
        if seconds < self.best_seconds:
            self.best_seconds, self._best = seconds, recipe
        if seconds < lowest:
            book = self._book._replace(words=self._book.words.copy(), log=self._book.log[:0].copy())
            self._found(Solution(game, book, seconds))
            lowest = seconds
        return seconds, lowest

    def _change(self, recipe: Recipe) -> Recipe:
        """One random change."""
        random = self._random
        kind = random.random()
        if kind < 0.5:
            key = recipe.key.copy()
            unit = random.choice(self._benefits)
            if random.random() < 0.5:
                key[unit] += random.normal(0, 1.0)
            else:  # just ahead of another
                key[unit] = key[random.choice(self._benefits)] + 1e-4
            return replace(recipe, key=key)
        if kind < 0.7:
            manner = recipe.manner.copy()
            manner[random.choice(self._benefits)] = random.choice([ANY, ANY, WHOLE, DEFINED_SLOW, ALL_SLOW])
            return replace(recipe, manner=manner)
        if kind < 0.8:
            residency = recipe.residency.copy()
            residency[random.choice(self._benefits)] = random.choice(RESIDENCIES)
            return replace(recipe, residency=residency)
        if kind < 0.98:
            allowed = recipe.allowed.copy()
            access = random.integers(len(allowed))
            allowed[access] = (
                ALL_ACTIONS
                if allowed[access] != ALL_ACTIONS
                else random.choice([1 << DROP, (1 << DROP) | (1 << COPY), (1 << DROP) | (1 << KEEP)])
            )
            return replace(recipe, allowed=allowed)
        return replace(recipe, looks_ahead=not recipe.looks_ahead)
