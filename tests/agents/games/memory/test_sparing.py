"""Offsets by the sparing rule: valid plans, runs that are known to be lost exactly when they are."""

import numpy as np
import pytest

from agents.games.memory.advice import UNADVISED, advise, sparing_game
from agents.games.memory.book import HARM, NONE
from agents.games.memory.game import MemoryGame
from agents.games.memory.hardware import Hardware
from agents.games.memory.plans import export_plan
from agents.games.memory.program import Access, Buffer, Instruction, Program
from agents.games.memory.rules import COPY, KEEP
from agents.games.memory.tables import IS_GROUP, UNIT
from agents.games.memory.tree import StateTree
from agents.games.memory.validator import find_violations
from tests.agents.games.memory.programs import random_program


def sparing_tree(seed: int, clock: float = 0.5) -> StateTree:
    program = random_program(seed, loop=seed % 2 == 1)
    return StateTree(sparing_game(program, clock, advise(program, clock)))


def play(tree: StateTree, random: np.random.Generator, prefer_keep: float = 0.0) -> list[int]:
    line = [0]
    while not tree.is_done(np.array(line[-1:]))[0]:
        legal = np.flatnonzero(tree.legal_mask(np.array(line[-1:]))[0])
        action = KEEP if KEEP in legal and random.random() < prefer_keep else random.choice(legal)
        line.append(int(tree.step(np.array(line[-1:]), np.array([action]))[0]))
    return line


@pytest.mark.parametrize("seed", range(12))
def test_random_play_gives_valid_plans_and_returns_the_simulated_saving(seed):
    tree, random = sparing_tree(seed, [0.0, 0.5, 1.0][seed % 3]), np.random.default_rng(seed)
    for _ in range(10):
        end = play(tree, random, prefer_keep=0.5)[-1]
        solution = tree.solution(end)
        assert find_violations(tree.game.program, export_plan(solution)) == []
        np.testing.assert_allclose(tree.total(np.array([end]))[0], 1 - solution.share, rtol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_a_run_that_is_lost_can_not_be_kept(seed):
    tree, random = sparing_tree(seed), np.random.default_rng(seed)
    tables, seen = tree.game.tables, {True: 0, False: 0}
    for _ in range(10):
        for node in play(tree, random, prefer_keep=0.5)[:-1]:
            access = int(tree.access(np.array([node]))[0])
            unit, words, book = int(tables.access[access, UNIT]), tree.visit(node).words, tree.book
            run = words[book.unit_run + unit]
            if run == NONE or tables.unit[unit, IS_GROUP]:
                continue
            is_lost = bool(words[book.unit_lost + unit] == run)
            assert words[book.unit_next + unit] == access
            assert bool(tree.legal_mask(np.array([node]))[0, KEEP]) != is_lost
            seen[is_lost] += 1
    assert seen[False] > 0


def test_lost_runs_do_occur():
    lost = 0
    for seed in range(8):
        tree = sparing_tree(seed)
        for node in play(tree, np.random.default_rng(seed), prefer_keep=0.7):
            lost += int(tree.visit(node).words[HARM] > 0)
    assert lost > 0


def two_tenants() -> Program:
    """Fast memory holds both buffers, but best fit puts the second into the room of the first."""
    machine = Hardware(1e15, 1e9, 1e10, 1e9, fast_capacity=2048, alignment=1024)
    buffers = (Buffer("first", 1024, "temp"), Buffer("second", 1024, "temp"))
    first, second = Access(0, 1024), Access(1, 1024)
    operands = [((), (first,)), ((), (second,)), ((first, second), ())]
    steps = tuple(
        Instruction(f"i{t}", "op", 0.0, 1, 0, reads, writes) for t, (reads, writes) in enumerate(operands)
    )
    return Program("two tenants", machine, buffers, steps)


def keep_everything(tree: StateTree) -> float:
    node = np.array([0])
    while not tree.is_done(node)[0]:
        legal = tree.legal_mask(node)[0]
        node = tree.step(node, np.array([KEEP if legal[KEEP] else COPY if legal[COPY] else 0]))
    return tree.solution(int(node[0])).share


def test_it_keeps_what_best_fit_gives_away():
    program = two_tenants()
    worth = MemoryGame(program, 1.0).benefit
    spared = keep_everything(StateTree(MemoryGame(program, 1.0, worth)))
    assert spared == pytest.approx(
        MemoryGame(program).all_fast_seconds / MemoryGame(program).all_slow_seconds
    )
    assert spared < keep_everything(StateTree(MemoryGame(program, 1.0)))


def test_advice_is_a_heuristic_plan_and_weighs_what_it_keeps():
    program = random_program(3)
    advice = advise(program, 0.5)
    game = sparing_game(program, 0.5, advice)
    kept = advice.action == KEEP
    np.testing.assert_allclose(game.tables.worth[kept], game.benefit[kept])
    np.testing.assert_allclose(game.tables.worth[~kept], UNADVISED * game.benefit[~kept])
    assert (advice.saving <= game.benefit + 1e-15).all()
    assert ((advice.rank >= 0) & (advice.rank <= 1)).all()
