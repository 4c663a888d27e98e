"""The planning model of the rules: histories, handles, and planners that play with it."""

import numpy as np
import pytest

from agents.games.memory.game import MemoryGame
from agents.games.memory.planning import MemoryPlanningModel, StatePlanningModel
from agents.games.memory.tree import StateTree
from planning import beam_search, gumbel_muzero
from planning.model import PlanningError, PlanningModel
from tests.agents.games.memory.programs import random_program


def model(seed: int = 0, steps: int = 24) -> MemoryPlanningModel:
    return MemoryPlanningModel(MemoryGame(random_program(seed, steps), 0.5))


def some_history(planning_model: MemoryPlanningModel, length: int, seed: int = 0) -> list[int]:
    random = np.random.default_rng(seed)
    history: list[int] = []
    for _ in range(length):
        legal = planning_model.root([history]).legal_mask[0]
        history.append(int(random.choice(np.flatnonzero(legal))))
    return history


def test_it_is_a_planning_model():
    assert isinstance(model(), PlanningModel)


def test_roots_that_go_on_are_those_of_a_fresh_model():
    growing = model()
    history = some_history(growing, 8)
    for length in (3, 8, 5, 0, 8):
        fresh = model().root([history[:length]])
        again = growing.root([history[:length]])
        np.testing.assert_array_equal(again.legal_mask, fresh.legal_mask)
        assert growing.tree.total(again.node) == model_total(history[:length])


def model_total(history: list[int]) -> np.ndarray:
    fresh = model()
    return fresh.tree.total(fresh.root([history]).node)


def test_roots_of_several_histories_stand_side_by_side():
    planning_model = model()
    histories = [some_history(model(), length, seed=length) for length in (2, 6, 4)]
    evaluation = planning_model.root(histories)
    for row, history in enumerate(histories):
        np.testing.assert_array_equal(evaluation.legal_mask[row], model().root([history]).legal_mask[0])


def test_rewards_along_a_game_add_up_to_the_simulated_saving():
    planning_model = model(3)
    evaluation = planning_model.root([[]])
    total = planning_model.tree.total(evaluation.node)[0]
    random = np.random.default_rng(0)
    while evaluation.discount[0] > 0:
        action = random.choice(np.flatnonzero(evaluation.legal_mask[0]), size=1)
        evaluation = planning_model.step(evaluation.node, action)
        total += evaluation.reward[0]
    share = planning_model.tree.solution(int(evaluation.node[0])).share
    assert total == pytest.approx(1 - share)
    assert not evaluation.legal_mask.any()


def test_planners_play_with_it():
    planning_model = model(1, steps=12)
    beam = beam_search(planning_model, [[]], beam_width=8, horizon=4)
    tree = gumbel_muzero(planning_model, [[], [int(beam.action[0])]], num_simulations=16)
    assert planning_model.root([[]]).legal_mask[0, beam.action[0]]
    assert planning_model.root([[]]).legal_mask[0, tree.action[0]]


def test_states_of_a_tree_of_ones_own_stay_valid():
    tree = StateTree(MemoryGame(random_program(2), 1.0))
    planning_model = StatePlanningModel(tree)
    first = planning_model.root([0])
    action = np.array([int(np.flatnonzero(first.legal_mask[0])[0])])
    second = planning_model.step(first.node, action)
    planning_model.root(second.node)
    np.testing.assert_array_equal(planning_model.step(first.node, action).node, second.node)


def test_a_history_with_an_illegal_action_is_refused():
    planning_model = model()
    illegal = int(np.flatnonzero(~planning_model.root([[]]).legal_mask[0])[0])
    with pytest.raises(PlanningError, match="not legal"):
        planning_model.root([[illegal]])
    assert planning_model.root([[]]).node[0] == 0
