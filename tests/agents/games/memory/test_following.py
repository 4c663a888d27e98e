"""Games played by wishes, and the search for better ones."""

import numpy as np

from agents.games.memory.advice import advise, sparing_game
from agents.games.memory.following import find_wishes, instead_of
from agents.games.memory.rules import COPY, DROP, KEEP
from agents.games.memory.tree import StateTree
from tests.agents.games.memory.programs import random_program


def test_what_is_not_legal_is_replaced():
    assert instead_of(KEEP, np.array([True, False, True])) == COPY
    assert instead_of(KEEP, np.array([True, False, False])) == DROP
    assert instead_of(COPY, np.array([True, True, False])) == DROP
    assert instead_of(DROP, np.array([False, True, False])) == KEEP
    assert instead_of(COPY, np.array([True, True, True])) == COPY


def test_changes_make_the_game_better_and_repeat():
    improved = 0
    for seed in range(4):
        program = random_program(seed)
        advice = advise(program, 0.5)
        game = sparing_game(program, 0.5, advice)
        same, first = find_wishes(game, advice.action, 0, 0)
        np.testing.assert_array_equal(same, advice.action)
        better, last = find_wishes(game, advice.action, 500, 0)
        again, score = find_wishes(game, advice.action, 500, 0)
        assert last <= first
        assert score == last
        np.testing.assert_array_equal(better, again)
        improved += last < first
    assert improved > 0


def test_the_score_is_that_of_the_game_where_no_dead_end_is_met():
    equal = 0
    for seed in range(6):
        program = random_program(seed)
        advice = advise(program, 1.0)
        game = sparing_game(program, 1.0, advice)
        wishes, seconds = find_wishes(game, advice.action, 100, 0)
        tree, node = StateTree(game), np.array([0])
        while not tree.is_done(node)[0]:
            action = instead_of(wishes[tree.access(node)[0]], tree.legal_mask(node)[0])
            node = tree.step(node, np.array([action]))
        equal += tree.solution(int(node[0])).seconds == seconds
    assert equal >= 4
