"""The Gymnasium environment and what it shows."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.games.memory.environment import MemoryEnvironment
from agents.games.memory.plans import export_plan
from agents.games.memory.validator import find_violations
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program


def play(environment: MemoryEnvironment, random: np.random.Generator) -> float:
    """Play on at random; return the rewards of it."""
    info = {"action_mask": environment._info()["action_mask"]}
    total, ended = 0.0, False
    while not ended:
        action = int(random.choice(np.flatnonzero(info["action_mask"])))
        _, reward, ended, _, info = environment.step(action)
        total += reward
    return total


class AlwaysLegal(MemoryEnvironment):
    """Takes the first legal action instead of an illegal one, for a checker that does not read masks."""

    def step(self, action: int):
        mask = self._info()["action_mask"]
        return super().step(int(action) if mask[action] else int(np.flatnonzero(mask)[0]))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_accepts_it():
    check_env(AlwaysLegal(random_program(0)), skip_render_check=True)


def test_a_game_gives_a_valid_plan_and_its_rewards_the_saving():
    program = random_program(2, loop=True)
    environment = MemoryEnvironment(program, 0.5)
    environment.reset()
    begun = environment._info()["saved"]
    total = begun + play(environment, np.random.default_rng(0))
    solution = environment.solution()
    assert total == pytest.approx(1 - solution.share)
    assert find_violations(program, export_plan(solution)) == []


def test_a_restored_game_goes_on_as_it_did():
    environment = MemoryEnvironment(random_program(3))
    observation, info = environment.reset()
    for _ in range(4):
        observation, *_, info = environment.step(int(np.flatnonzero(info["action_mask"])[-1]))
    snapshot = environment.snapshot()
    first = play(environment, np.random.default_rng(1))
    environment.restore(snapshot)
    for name, array in environment._observation().items():
        np.testing.assert_array_equal(array, observation[name])
    assert play(environment, np.random.default_rng(1)) == first


def test_an_illegal_action_and_an_unfinished_plan_are_refused():
    environment = MemoryEnvironment(random_program(0))
    _, info = environment.reset()
    with pytest.raises(UserError, match="not legal"):
        environment.step(int(np.flatnonzero(~info["action_mask"])[0]))
    with pytest.raises(UserError, match="not over"):
        environment.solution()


def test_the_picture_shows_what_is_taken_and_when_the_engine_is_busy():
    program = random_program(1)
    environment = MemoryEnvironment(program)
    observation, info = environment.reset()
    assert observation["image"].sum() == 0
    ended = False
    while not ended and observation["lane"].sum() == 0:
        assert observation["image"].max() <= 1 + 1e-6
        observation, _, ended, _, info = environment.step(int(np.flatnonzero(info["action_mask"])[-1]))
    assert observation["image"].sum() > 0
    assert 0 < observation["lane"].max() <= 1 + 1e-6
    np.testing.assert_allclose(observation["overall"][4], observation["lane"].mean(), rtol=1e-5)
    np.testing.assert_array_equal(observation["overall"][6:9], info["action_mask"])
    assert observation["overall"][2] == pytest.approx(1 - taken_now(environment), abs=1e-6)


def taken_now(environment: MemoryEnvironment) -> float:
    """Share of fast memory taken at the current time, by adding up blocks."""
    tree = environment._tree
    node = environment._line[-1]
    access = int(tree.access(np.array([node]))[0])
    book = tree.visit(node)
    words, tables = book.words, tree.game.tables
    now = tables.clock[tables.access[access, 0]]
    taken = 0
    for block in range(words[1]):
        if words[book.block_start + block] <= now < words[book.block_end + block]:
            taken += tables.unit[words[book.block_unit + block], 1]
    return taken / tables.capacity
