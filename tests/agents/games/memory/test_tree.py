"""The rules: random play gives valid plans, snapshots equal replay, and only equal states are one."""

from itertools import pairwise

import numpy as np
import pytest

from agents.games.memory.book import LOG_SIZE, Book
from agents.games.memory.game import MemoryGame
from agents.games.memory.plans import Plan, export_plan
from agents.games.memory.program_file import read_program
from agents.games.memory.rules import COPY, DROP, KEEP
from agents.games.memory.tree import StateTree
from agents.games.memory.validator import find_violations
from planning.model import PlanningError
from tests.agents.games.memory.programs import random_program
from tests.conftest import SHARED


def play(tree: StateTree, random: np.random.Generator) -> list[int]:
    """States of a random game, the start included."""
    line = [0]
    while not tree.is_done(np.array(line[-1:]))[0]:
        legal = np.flatnonzero(tree.legal_mask(np.array(line[-1:]))[0])
        line.append(int(tree.step(np.array(line[-1:]), random.choice(legal, size=1))[0]))
    return line


def content(tree: StateTree, node: int) -> tuple:
    """All that counts in a state, without the numbers that blocks and copies happen to have."""
    book: Book = tree.visit(node)
    words, tables = book.words, tree.game.tables

    def block(index: int) -> tuple | None:
        if index < 0:
            return None
        fields = (book.block_unit, book.block_offset, book.block_start, book.block_end)
        back = words[book.block_back + index]
        return (
            *(int(words[field + index]) for field in fields),
            back >= 0 and int(words[book.copy_start + back]),
        )

    position = int(tree.access(np.array([node]))[0])
    served = tuple(block(words[book.access_block + access]) for access in range(position))
    runs = tuple(block(words[book.unit_run + unit]) for unit in range(len(tables.unit)))
    stored = tuple(words[book.unit_stored : book.unit_stored + len(tables.unit)].tolist())
    # What a unit was told counts for as long as it has accesses to come.
    last = {int(row[1]): access for access, row in enumerate(tables.access)}
    told = tuple(
        int(words[book.unit_decision + unit]) if last.get(unit, -1) >= position else None
        for unit in range(len(tables.unit))
    )
    return position, bool(tree.is_done(np.array([node]))[0]), served, runs, stored, told


@pytest.mark.parametrize("seed", range(12))
def test_random_play_gives_valid_plans_and_returns_the_simulated_saving(seed):
    program = random_program(seed, loop=seed % 2 == 1)
    random = np.random.default_rng(seed)
    tree = StateTree(MemoryGame(program, [0.0, 0.5, 1.0][seed % 3]))
    for _ in range(15):
        end = play(tree, random)[-1]
        solution = tree.solution(end)
        assert find_violations(program, export_plan(solution)) == []
        np.testing.assert_allclose(tree.total(np.array([end]))[0], 1 - solution.share, rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_a_state_visited_again_is_the_state_of_a_replay(seed):
    program = random_program(seed, loop=seed % 2 == 1)
    tree = StateTree(MemoryGame(program, 0.5))
    random = np.random.default_rng(seed)
    lines = [play(tree, random) for _ in range(8)]
    actions = [line_actions(tree, line) for line in lines]
    for row in random.permutation(len(lines)):
        fresh = StateTree(MemoryGame(program, 0.5))
        node = np.array([0])
        stop = int(random.integers(1, len(lines[row])))
        for action in actions[row][:stop]:
            node = fresh.step(node, np.array([action]))
        seen, replayed = lines[row][stop], int(node[0])
        assert content(tree, seen) == content(fresh, replayed)
        assert tree.legal_mask(np.array([seen])).tolist() == fresh.legal_mask(node).tolist()
        assert tree.total(np.array([seen])) == fresh.total(node)


def line_actions(tree: StateTree, line: list[int]) -> list[int]:
    """The actions that led along a line of states."""
    actions = []
    for here, there in pairwise(line):
        legal = np.flatnonzero(tree.legal_mask(np.array([here]))[0])
        actions.append(next(int(a) for a in legal if tree.step(np.array([here]), np.array([a]))[0] == there))
    return actions


@pytest.mark.parametrize("seed", range(6))
def test_states_of_one_number_are_equal_and_of_two_differ(seed):
    tree = StateTree(MemoryGame(random_program(seed, steps=14, loop=seed % 2 == 1), 1.0))
    random = np.random.default_rng(seed)
    for _ in range(60):
        play(tree, random)
    contents = {}
    for node in range(len(tree)):
        assert contents.setdefault(content(tree, node), node) == node


def test_ways_that_meet_lead_to_one_number():
    """Where a choice runs into a dead end, it becomes the drop beside it."""
    meetings = 0
    for seed in range(8):
        tree = StateTree(MemoryGame(random_program(seed), 1.0))
        random = np.random.default_rng(seed)
        way: dict[int, tuple[int, int]] = {}
        for _ in range(40):
            node = 0
            while not tree.is_done(np.array([node]))[0]:
                action = int(random.choice(np.flatnonzero(tree.legal_mask(np.array([node]))[0])))
                reached = int(tree.step(np.array([node]), np.array([action]))[0])
                meetings += way.setdefault(reached, (node, action)) != (node, action)
                node = reached
    assert meetings > 0


def test_an_illegal_action_is_refused_and_leaves_the_tree_as_it_was():
    tree = StateTree(MemoryGame(random_program(0), 1.0))
    illegal = int(np.flatnonzero(~tree.legal_mask(np.array([0]))[0])[0])
    before = content(tree, 0)
    with pytest.raises(PlanningError, match=r"action\[1\]"):
        tree.step(np.array([0, 0]), np.array([DROP, illegal]))
    assert content(tree, 0) == before
    with pytest.raises(PlanningError, match="parent"):
        tree.step(np.array([99]), np.array([DROP]))


def test_the_tree_grows_as_needed():
    tree = StateTree(MemoryGame(random_program(2), 1.0))
    tree.book = tree.book._replace(log=tree.book.log[: tree.book.words[LOG_SIZE] + 8].copy())
    random = np.random.default_rng(0)
    lines = [play(tree, random) for _ in range(60)]
    assert len(tree) > 1024
    assert all(find_violations(tree.game.program, plan(tree, line[-1])) == [] for line in lines[::10])


def plan(tree: StateTree, node: int) -> Plan:
    return export_plan(tree.solution(node))


def test_forgotten_states_are_found_anew():
    tree = StateTree(MemoryGame(random_program(4), 1.0))
    random = np.random.default_rng(1)
    line = play(tree, random)
    kept = content(tree, line[3])
    tree.keep_first(line[3] + 1)
    assert len(tree) == line[3] + 1
    assert content(tree, line[3]) == kept
    assert find_violations(tree.game.program, plan(tree, play(tree, random)[-1])) == []


def test_the_first_choice_can_be_worked_out_by_hand():
    """A read whose copy needs more time than has passed may only be dropped; a write may be kept."""
    tree = StateTree(MemoryGame(random_program(5), 1.0))
    access = int(tree.access(np.array([0]))[0])
    row = tree.game.tables.access[access]
    assert row[4] == 1  # reads of the first instruction cannot be copied for: the choice is its write
    assert tree.legal_mask(np.array([0]))[0].tolist() == [True, True, False]
    assert (DROP, KEEP, COPY) == (0, 1, 2)


@pytest.mark.skipif(not (SHARED / "games").is_dir(), reason="the instances are not beside the checkout")
@pytest.mark.parametrize("name", ["mlp3_train", "lstm_scan_train", "strassen2_matmul", "resnet18_train"])
def test_random_play_of_real_programs_is_valid(name):
    program = read_program(SHARED / "games" / f"{name}.json")
    tree = StateTree(MemoryGame(program, 1.0))
    end = play(tree, np.random.default_rng(0))[-1]
    assert find_violations(program, plan(tree, end)) == []
