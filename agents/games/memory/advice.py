"""What can be said of a program before it is played: what is worth holding, and what a heuristic would do.

All of it is computed once for a program and a clock. Letters: A accesses, U units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.games.memory.book import NONE
from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import RESIDENCIES, Solution, xla_style
from agents.games.memory.program import Program
from agents.games.memory.rules import COPY, DROP, KEEP
from agents.games.memory.tables import IS_GROUP, MAY_BE_FAST, NEXT, PLACES, STEP, UNIT

UNADVISED = 0.1
"""Share of its saving that the loss of a use weighs where the heuristic would not keep it."""


@dataclass(frozen=True)
class Advice:
    """Judgements of every access that hold whatever is played."""

    action: Int[np.ndarray, "A"]
    """What the heuristic does there."""
    saving: Float[np.ndarray, "A"]
    """Seconds that the access would save, cut so that an instruction's accesses add up to what all of them
    together save."""
    held: Bool[np.ndarray, "A"]
    """Whether the time from here to the unit's next use is held in fast memory by the relaxation."""
    rank: Float[np.ndarray, "A"]
    """Rank of that time among all of them by saving per byte and second, in [0, 1]; 0 without a next use."""


def advise(program: Program, clock_lambda: float) -> Advice:
    """Judge a program under a clock.

    The heuristic is `xla_style` with look-ahead in the best of its residencies under this clock. The
    relaxation holds units between two uses by falling saving per byte and second wherever fast memory
    still has so many bytes free throughout; it knows no offsets and no copies.
    """
    game = MemoryGame(program, clock_lambda)
    plans = (xla_style(program, clock_lambda, ratio, looks_ahead=True) for ratio in RESIDENCIES)
    plan = min(plans, key=lambda one: one.seconds)
    saving = _joint_saving(game)
    density = _density(game, saving)
    order = np.argsort(-density, kind="stable")
    rank = np.zeros(len(density))
    rank[order] = np.linspace(1, 0, len(order))
    rank[density == 0] = 0
    return Advice(actions_of(plan), saving, _hold(game, order[density[order] > 0]), rank)


def sparing_game(program: Program, clock_lambda: float, advice: Advice) -> MemoryGame:
    """The game in which blocks are put where least is lost of what the heuristic would keep."""
    worth = np.where(advice.action == KEEP, 1, UNADVISED) * MemoryGame(program, clock_lambda).benefit
    return MemoryGame(program, clock_lambda, worth)


def actions_of(plan: Solution) -> Int[np.ndarray, "A"]:
    """The actions that a plan comes from, as if it had been made in schedule order."""
    book = plan.book
    accesses = len(plan.game.tables.access)
    blocks = book.words[book.access_block : book.access_block + accesses]
    actions = np.full(accesses, KEEP)
    actions[blocks == NONE] = DROP
    begins = np.unique(blocks, return_index=True)
    for block, access in zip(*begins, strict=True):
        if block != NONE and book.words[book.block_copy + block] != NONE:
            actions[access] = COPY
    return actions


def _joint_saving(game: MemoryGame) -> np.ndarray:
    """Savings of single accesses, scaled down where an instruction's add up to more than it can save."""
    tables, program = game.tables, game.program
    step = tables.access[:, STEP]
    alone = np.zeros(len(program.instructions))
    np.add.at(alone, step, tables.benefit)
    together = np.array(
        [
            (program.instruction_seconds(t, 0) - program.instruction_seconds(t, int(tables.step[t, 1])))
            * entry.mult
            for t, entry in enumerate(program.instructions)
        ]
    )
    return tables.benefit * np.minimum(1, together / np.maximum(alone, 1e-30))[step]


def _density(game: MemoryGame, saving: np.ndarray) -> np.ndarray:
    """Saving of each access's next one per byte and second of holding its unit until then; 0 without one."""
    tables = game.tables
    following = tables.access[:, NEXT]
    unit = tables.unit[tables.access[:, UNIT]]
    until = tables.clock[tables.access[np.maximum(following, 0), STEP] + 1]
    held = np.maximum(until - tables.clock[tables.access[:, STEP]], 1) * np.maximum(unit[:, PLACES], 1)
    can = (following != NONE) & (unit[:, MAY_BE_FAST] == 1) & (unit[:, IS_GROUP] == 0)
    return np.where(can, saving[np.maximum(following, 0)] / held, 0.0)


def _hold(game: MemoryGame, order: np.ndarray) -> np.ndarray:
    """Hold from one use to the next, in an order, what still fits by its bytes alone."""
    tables = game.tables
    free = np.full(len(tables.clock) - 1, tables.capacity)
    held = np.zeros(len(tables.access), dtype=bool)
    for access in order:
        places = tables.unit[tables.access[access, UNIT], PLACES]
        span = slice(tables.access[access, STEP], tables.access[tables.access[access, NEXT], STEP] + 1)
        if free[span].min() >= places:
            free[span] -= places
            held[access] = True
    return held
