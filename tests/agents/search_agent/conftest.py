"""Small shops and networks."""

import numpy as np
import pytest
import torch

from agents.search_agent.job_shop import JobShopSearchGame, random_shops
from agents.search_agent.network import SearchNetwork, SearchNetworkConfig


@pytest.fixture
def games():
    """Three shops of different sizes."""
    return [JobShopSearchGame(shop) for shop in random_shops(3, seed=5)]


@pytest.fixture
def network(games):
    """A network for them that is not fresh: its heads say something."""
    seen = games[0].observe(games[0].start(1))
    torch.manual_seed(0)
    network = SearchNetwork(
        SearchNetworkConfig(
            overall_features=seen.overall.shape[-1],
            action_features=seen.actions.shape[-1],
            context_features=seen.context.shape[-1],
            width=16,
            value_min=-2.5,
            value_max=0.0,
        )
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


@pytest.fixture
def midgame(games):
    """Positions in the middle of random games of each shop: list of [4, F]."""
    found = []
    for number, game in enumerate(games):
        random = np.random.default_rng(number)
        positions = game.start(4)
        for _ in range(10):
            legal = game.observe(positions).legal_mask
            actions = np.array([random.choice(np.nonzero(row)[0]) for row in legal])
            positions, _, _ = game.step(positions, actions)
        found.append(positions)
    return found
