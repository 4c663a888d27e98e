"""Games found by local search to learn from."""

import numpy as np
import pytest
import torch

from agents.games.memory.following import find_wishes
from agents.games.memory.plans import export_plan
from agents.games.memory.validator import find_violations
from agents.search_agent.demonstration import SMOOTHING, demonstrate, own_wishes
from agents.search_agent.memory_mapping import MemorySearchGame, random_programs, varied_programs
from agents.search_agent.network import SearchNetwork, SearchNetworkConfig
from agents.search_agent.policy_play import play_policy
from agents.search_agent.self_play import PlayConfig
from agents.search_agent.train_config import SearchTrainConfig
from agents.search_agent.training import train_search
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program


def fresh_network(game):
    seen = game.observe(game.start(1))
    config = SearchNetworkConfig(
        seen.overall.shape[-1], seen.actions.shape[-1], seen.context.shape[-1], width=8
    )
    torch.manual_seed(0)
    return SearchNetwork(config).eval()


def test_a_demonstration_is_a_valid_game_and_repeats():
    game = MemorySearchGame(random_program(3), 0.5)
    episode = demonstrate(game, fresh_network(game), 0)
    solution = game.solution(episode.actions)
    assert not find_violations(game.game.program, export_plan(solution))
    assert game.score(episode.total) == pytest.approx(100 * solution.share)
    np.testing.assert_allclose(episode.policy.sum(axis=1), 1)
    rows = np.arange(len(episode.actions))
    assert (episode.policy[rows, episode.actions] >= 1 - SMOOTHING).all()
    assert (episode.policy[~episode.observation.legal_mask] == 0).all()
    np.testing.assert_array_equal(demonstrate(game, fresh_network(game), 0).actions, episode.actions)


def test_the_networks_own_game_is_repeated_by_its_wishes():
    """But for dead ends, which change what was done before them."""
    equal = 0
    for seed in range(4):
        game = MemorySearchGame(random_program(seed), 1.0)
        network = fresh_network(game)
        ((actions, _),) = play_policy(game, network, [0.0], seed=0)
        wishes = own_wishes(game, network)
        positions, followed = game.start(1), []
        for action in actions:
            followed.append(wishes[game.access(positions)[0]] == action)
            positions, _, _ = game.step(positions, np.array([action]))
        equal += all(followed)
    assert equal >= 2


def test_it_is_no_worse_than_the_advice_on_the_whole():
    better = []
    for seed in range(4):
        game = MemorySearchGame(random_program(seed), 1.0)
        _, seconds = find_wishes(game.game, game.advice.action, 0, 0)
        better.append(
            seconds / game.game.all_slow_seconds - (1 - demonstrate(game, fresh_network(game), 0).total)
        )
    assert np.mean(better) > 0


def test_training_by_demonstrations_resumes_exactly_and_looks_at_others(tmp_path):
    games = [MemorySearchGame(random_program(seed, steps=8), 0.5) for seed in (1, 2)]
    held_out = [MemorySearchGame(random_program(5, steps=8))]

    def config(run, **changes):
        return SearchTrainConfig(
            "memory-mapping", tmp_path / run, iterations=4, demonstrations=3, games_per_iteration=1,
            play=PlayConfig(num_simulations=2), steps_per_iteration=2, batch_size=8, width=8, save_every=1,
            **changes,
        )  # fmt: skip

    whole = train_search(config("a"), games, held_out)
    train_search(config("b", max_iterations=2), games, held_out)
    parts = train_search(config("b", resume=True), games, held_out)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    with pytest.raises(UserError, match="demonstrations"):
        SearchTrainConfig("packing", tmp_path / "c", demonstrations=1)


def test_random_programs_are_of_all_kinds_and_leave_something_to_decide():
    programs = random_programs(5, seed=0)
    kinds = {program.name.split("-")[0] for program in programs}
    assert kinds == {"linear", "convolutions", "transformer", "recurrent", "expression"}
    assert random_programs(1, seed=0)[0].instructions == programs[0].instructions
    for game in varied_programs(programs[:2], 4, seed=0):
        assert game.legal_mask(game.start(1)).sum() > 1
