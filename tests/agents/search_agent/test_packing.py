"""Packings to learn from, and the game as the agent plays it."""

import numpy as np

from agents.search_agent.network import SearchNetwork, SearchNetworkConfig
from agents.search_agent.packing import PackingSearchGame, random_packings
from agents.search_agent.self_play import PlayConfig, play


def test_random_packings_waste_nothing():
    for instance in random_packings(10, seed=2):
        assert 20 <= instance.num_buffers <= 200
        times = np.unique(np.concatenate([instance.lower, instance.upper]))
        alive = [
            instance.size[(instance.lower <= time) & (time < instance.upper)].sum() for time in times[:-1]
        ]
        assert set(alive) == {1 << 20}
        assert instance.lower_bound == 1 << 20


def test_games_end_with_everything_placed():
    game = PackingSearchGame(random_packings(1, seed=3)[0])
    random = np.random.default_rng(0)
    positions, total = game.start(3), np.zeros(3)
    for move in range(game.num_actions):
        legal = game.observe(positions).legal_mask
        actions = np.array([random.choice(np.nonzero(row)[0]) for row in legal])
        positions, rewards, done = game.step(positions, actions)
        total += rewards
        assert done.all() == (move == game.num_actions - 1)
    assert (-total * game.unit >= game.instance.lower_bound).all()
    assert game.score(total[0]) == -total[0] * game.unit


def test_the_network_plays_it():
    game = PackingSearchGame(random_packings(1, seed=3)[0])
    seen = game.observe(game.start(1))
    config = SearchNetworkConfig(
        seen.overall.shape[-1], seen.actions.shape[-1], seen.context.shape[-1], width=8
    )
    episode = play(game, SearchNetwork(config).eval(), PlayConfig(num_simulations=2), count=1, seed=0)[0]
    assert sorted(episode.actions) == list(range(game.num_actions))
