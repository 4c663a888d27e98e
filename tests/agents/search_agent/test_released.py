"""The networks that come with the project."""

import pytest
import torch

from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.job_shop import JobShopSearchGame, random_shops
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.network import ObservationTensors
from agents.search_agent.packing import PackingSearchGame, random_packings
from agents.search_agent.released import checkpoint_for, released_checkpoint
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program

GAMES = {
    "job-shop": lambda: JobShopSearchGame(random_shops(1, seed=9)[0]),
    "packing": lambda: PackingSearchGame(random_packings(1, seed=9)[0]),
    "memory-mapping": lambda: MemorySearchGame(random_program(9)),
}


@pytest.mark.parametrize("name", GAMES)
def test_they_are_small_and_fit_their_games(name):
    path = released_checkpoint(name)
    assert path.stat().st_size < 5_000_000
    # Nobody's folders are told: an absolute path in the metadata would begin a JSON string.
    header = path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]
    assert b'\\"/' not in header

    checkpoint = load_search_checkpoint(path)
    assert checkpoint.game == name
    assert not checkpoint.optimizer
    game = GAMES[name]()
    network = checkpoint.network
    seen = ObservationTensors.of(game.observe(game.start(1)), torch.device("cpu"))
    with torch.no_grad():
        logits, value = network.predict(network.represent(seen))
    assert logits.shape == (1, game.num_actions)
    assert logits[0].std() > 1e-3, "a network that has learned something prefers some actions"
    low, high = game.return_range
    assert low < float(network.expectation(value)) < high


def test_a_missing_or_wrong_one_is_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint there"):
        checkpoint_for("packing", tmp_path)
    with pytest.raises(UserError, match="plays packing, not job-shop"):
        checkpoint_for("job-shop", released_checkpoint("packing"))
