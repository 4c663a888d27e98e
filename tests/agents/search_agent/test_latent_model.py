"""The learned dynamics as a planning model."""

from dataclasses import replace

import numpy as np
import torch

from agents.search_agent.latent_model import LatentModel
from agents.search_agent.network import ObservationTensors
from planning.gumbel_muzero import gumbel_muzero

CPU = torch.device("cpu")


def test_steps_equal_the_networks(games, network, midgame):
    seen = games[0].observe(midgame[0])
    model = LatentModel(network, games[0].num_actions)
    root = model.root(seen)
    # Two steps from handles in another order, more of them than the table had room for.
    parents = np.tile(root.node[::-1], 20)
    first = model.step(parents, np.arange(len(parents)) % games[0].num_actions)
    second = model.step(first.node[5:9], np.array([1, 0, 2, 3]))

    with torch.no_grad():
        latent = network.represent(ObservationTensors.of(seen, CPU))
        for row in range(4):
            here = 5 + row
            chosen = parents[here]
            alone = type(latent)(
                latent.state[chosen, None], latent.actions[chosen, None], latent.action_mask[chosen, None]
            )
            for action in (here % games[0].num_actions, [1, 0, 2, 3][row]):
                alone, reward = network.step(alone, torch.tensor([action]))
            logits, value = network.predict(alone)
            np.testing.assert_allclose(second.prior_logits[row], logits[0], atol=1e-5)
            np.testing.assert_allclose(second.value[row], network.expectation(value)[0], atol=1e-5)
            np.testing.assert_allclose(second.reward[row], network.expectation(reward)[0], atol=1e-5)


def test_search_takes_legal_actions(games, network, midgame):
    seen = games[1].observe(midgame[1])
    model = LatentModel(network, games[1].num_actions)
    result = gumbel_muzero(model, seen, num_simulations=12, seed=3)
    assert seen.legal_mask[np.arange(4), result.action].all()


def test_values_stand_on_the_estimate_of_their_root(games, network, midgame):
    seen = games[0].observe(midgame[0])
    plain, lifted = LatentModel(network, games[0].num_actions), LatentModel(network, games[0].num_actions)
    estimate = np.array([1.0, -2.0, 0.5, 3.0])
    one, two = plain.root(seen), lifted.root(replace(seen, estimate=estimate))
    np.testing.assert_allclose(two.value - one.value, estimate)
    parents, actions = np.array([2, 0, 3]), np.zeros(3, dtype=np.int64)
    first, second = plain.step(one.node[parents], actions), lifted.step(two.node[parents], actions)
    np.testing.assert_allclose(second.value - first.value, estimate[parents])
