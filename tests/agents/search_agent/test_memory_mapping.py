"""Memory mapping as the search agent plays it: plays side by side do not disturb each other."""

from dataclasses import replace

import numpy as np
import pytest

from agents.games.memory.game import MemoryGame
from agents.games.memory.plans import export_plan
from agents.games.memory.tree import StateTree
from agents.games.memory.validator import find_violations
from agents.search_agent.memory_mapping import Forest, MemorySearchGame, varied_programs
from agents.search_agent.network import SearchNetwork, SearchNetworkConfig
from agents.search_agent.self_play import PlayConfig, play
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program


@pytest.fixture
def game():
    return MemorySearchGame(random_program(3), 0.5)


@pytest.fixture
def network(game):
    seen = game.observe(game.start(1))
    return SearchNetwork(
        SearchNetworkConfig(seen.overall.shape[-1], seen.actions.shape[-1], seen.context.shape[-1], width=8)
    ).eval()


def test_games_end_in_valid_plans_of_the_return_told(game, network):
    episodes = play(game, network, PlayConfig(num_simulations=4), count=3, seed=0)
    assert len({tuple(episode.actions) for episode in episodes}) > 1
    for episode in episodes:
        solution = game.solution(episode.actions)
        assert 100 * solution.share == pytest.approx(game.score(episode.total))
        assert not find_violations(game.game.program, export_plan(solution))


def test_a_program_of_which_nothing_fits_is_refused_with_its_name(network):
    program = random_program(3)
    tight = replace(program, hardware=replace(program.hardware, fast_capacity=0))
    with pytest.raises(UserError, match=r"random-3.*nothing is left to decide"):
        play(MemorySearchGame(tight, 0.5), network, PlayConfig(num_simulations=4), count=2, seed=0)


def test_a_forest_is_as_many_trees(game):
    forest = Forest(game.game, 3)
    trees = [StateTree(game.game) for _ in range(3)]
    handles, nodes = forest.roots(), [np.zeros(1, dtype=np.int64) for _ in range(3)]
    random = np.random.default_rng(0)
    for _ in range(12):
        order = random.permutation(3)
        legal = forest.legal_mask(handles)
        actions = np.array([random.choice(np.nonzero(row)[0]) if row.any() else -1 for row in legal])
        if (actions < 0).any():
            break
        handles[order] = forest.step(handles[order], actions[order])
        nodes = [
            tree.step(node, actions[i : i + 1])
            for i, (tree, node) in enumerate(zip(trees, nodes, strict=True))
        ]
        for i, (tree, node) in enumerate(zip(trees, nodes, strict=True)):
            assert forest.total(handles)[i] == tree.total(node)[0]
            np.testing.assert_array_equal(forest.legal_mask(handles)[i], tree.legal_mask(node)[0])
    seen = forest.features(handles[[2, 0, 1]])
    again = forest.features(handles)
    np.testing.assert_array_equal(seen.overall, again.overall[[2, 0, 1]])


def test_varied_programs_differ_in_hardware_and_clock():
    games = varied_programs([random_program(3), random_program(4)], 6, seed=0)
    assert len({game.game.program.hardware.fast_capacity for game in games}) > 3
    assert len({game.game.clock_lambda for game in games}) > 1
    assert len({game.name for game in games}) == 2
    assert isinstance(games[0].game, MemoryGame)
