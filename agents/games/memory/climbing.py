"""Local search over the order in which units are placed and what each of them may do, compiled.

Letters: A accesses, U units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.games.memory.compiled import kernel, part
from agents.games.memory.orders import ALL_SLOW, ANY, place_in_order
from agents.games.memory.rules import COPY, KEEP
from agents.games.memory.simulator import simulate
from agents.games.memory.tables import FIRST, NEXT

MOVES = 4
"""Kinds of change: place in the order, manner, what is allowed at an access, residency."""
EVERYTHING = 7
"""All actions allowed, as a bit mask."""


class Choices(NamedTuple):
    """What a plan is made of by `orders.place_in_order`."""

    order: np.ndarray
    """int64 [U] units, most important first."""
    manner: np.ndarray
    """int64 [U] see `orders`."""
    allowed: np.ndarray
    """int64 [A] bit masks of actions."""
    residency: np.ndarray
    """int64 [U] nanoseconds."""


@part
def _judge(book, tables, choices, benefit, copy_done, stalls):
    place_in_order(
        book, tables, choices.order, choices.manner, choices.allowed, benefit, choices.residency, True
    )
    return simulate(book, tables, copy_done, stalls)


@part
def _shift(order, source, target):
    """Move one entry of an order to another place; the entries between make room."""
    unit = order[source]
    step = 1 if target > source else -1
    for place in range(source, target, step):
        order[place] = order[place + step]
    order[target] = unit


@part
def _other(random, value, count):
    """A number below `count` that is not `value`, drawn at random."""
    drawn = random.integers(0, count - 1)
    return drawn + 1 if drawn >= value else drawn


@part
def _some_access(random, tables, unit):
    """One of a unit's accesses, drawn at random."""
    chosen, access, seen = tables.unit[unit, FIRST], tables.unit[unit, FIRST], 0
    while access >= 0:
        seen += 1
        if random.integers(0, seen) == 0:
            chosen = access
        access = tables.access[access, NEXT]
    return chosen


@kernel
def climb(
    book, tables, choices, best, benefit, units, limits, seconds, temperature, iterations, random,
    copy_done, stalls,
):  # fmt: skip
    """Change one choice at a time; keep what is no worse, and at times what is.

    A change that makes the plan slower by d is kept with probability exp(-d / (temperature score)), as by
    Metropolis et al. 1953.

    Args:
        book: scratch.
        tables: the program.
        choices: where to start; receives where the search ends.
        best: receives the best choices seen, if they beat `seconds[1]`.
        benefit: float64 [A].
        units: int64, those worth changing.
        limits: int64, residencies to choose from, rising.
        seconds: float64 [2], scores of `choices` and `best`; updated.
        temperature: share of the current score.
        iterations: changes to try.
        random: NumPy generator.
        copy_done: scratch of the simulator.
        stalls: scratch of the simulator.
    """
    count = len(choices.order)
    for _ in range(iterations):
        move = random.integers(0, MOVES)
        source = random.integers(0, count)
        reach = max(1, int(count * random.random() ** 3))
        target = min(count - 1, max(0, source + random.integers(-reach, reach + 1)))
        unit = units[random.integers(0, len(units))]
        access = _some_access(random, tables, unit)
        manner, allowed = choices.manner[unit], choices.allowed[access]
        residency = choices.residency[unit]
        if move == 0:
            _shift(choices.order, source, target)
        elif move == 1:
            choices.manner[unit] = _other(random, manner, ALL_SLOW + 1) if manner == ANY else ANY
        elif move == 2:
            forbidden = KEEP if random.integers(0, 2) == 0 else COPY
            restricted = EVERYTHING & ~(1 << forbidden)
            choices.allowed[access] = restricted if allowed == EVERYTHING else EVERYTHING
        else:
            choices.residency[unit] = limits[random.integers(0, len(limits))]
        after = _judge(book, tables, choices, benefit, copy_done, stalls)
        slower = after - seconds[0]
        if slower <= 0 or random.random() < np.exp(-slower / (temperature * seconds[0] + 1e-30)):
            seconds[0] = after
            if after < seconds[1]:
                seconds[1] = after
                best.order[:] = choices.order
                best.manner[:] = choices.manner
                best.allowed[:] = choices.allowed
                best.residency[:] = choices.residency
        elif move == 0:
            _shift(choices.order, target, source)
        else:
            choices.manner[unit], choices.allowed[access] = manner, allowed
            choices.residency[unit] = residency
