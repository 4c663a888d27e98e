"""The estimate of what is still to be saved."""

import numpy as np
import pytest

from agents.games.memory.advice import advise, sparing_game
from agents.games.memory.following import instead_of
from agents.games.memory.outlook import LOST_SHARE, Outlook
from agents.games.memory.rules import DROP, KEEP
from agents.games.memory.tables import NEXT
from agents.games.memory.tree import StateTree
from tests.agents.games.memory.programs import random_program
from tests.agents.games.memory.test_sparing import two_tenants


def test_it_is_what_the_heuristic_saves_at_the_start_and_nothing_at_the_end():
    program = two_tenants()
    advice = advise(program, 1.0)
    assert (advice.action == KEEP).all()
    tree = StateTree(sparing_game(program, 1.0, advice))
    outlook, node = Outlook(tree, advice), np.array([0])
    assert outlook(node)[0] == pytest.approx(advice.saving.sum() / tree.game.all_slow_seconds)
    while not tree.is_done(node)[0]:
        node = tree.step(node, np.array([KEEP]))
    assert outlook(node)[0] == 0
    assert tree.total(node)[0] == pytest.approx(advice.saving.sum() / tree.game.all_slow_seconds)


def test_a_use_that_can_no_longer_be_kept_is_taken_off():
    program = two_tenants()
    advice = advise(program, 1.0)
    tree = StateTree(sparing_game(program, 1.0, advice))
    outlook = Outlook(tree, advice)
    children = tree.step(np.array([0, 0]), np.array([KEEP, DROP]))
    kept, dropped = outlook(children) * tree.game.all_slow_seconds
    use = tree.game.tables.access[0, NEXT]
    assert kept - dropped == pytest.approx(LOST_SHARE * advice.saving[use])


def test_following_the_advice_is_foreseen():
    errors = []
    for seed in range(10):
        program = random_program(seed)
        advice = advise(program, 1.0)
        tree = StateTree(sparing_game(program, 1.0, advice))
        outlook, node = Outlook(tree, advice), np.array([0])
        foreseen = tree.total(node)[0] + outlook(node)[0]
        while not tree.is_done(node)[0]:
            action = instead_of(advice.action[tree.access(node)[0]], tree.legal_mask(node)[0])
            node = tree.step(node, np.array([action]))
        errors.append(abs(foreseen - tree.total(node)[0]))
    assert np.mean(errors) < 0.1
