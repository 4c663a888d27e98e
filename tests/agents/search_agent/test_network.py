"""The search agent's network sees sets: order and filling up change nothing."""

import numpy as np
import pytest
import torch

from agents.search_agent.network import ObservationTensors, two_hot
from agents.search_agent.observation import Observation, stack

CPU = torch.device("cpu")


def predict(network, observation):
    with torch.no_grad():
        latent = network.represent(ObservationTensors.of(observation, CPU))
        return latent, *network.predict(latent)


def test_filling_up_changes_nothing(games, network, midgame):
    parts = [game.observe(positions) for game, positions in zip(games, midgame, strict=True)]
    assert len({part.actions.shape[1] for part in parts}) > 1, "the shops should differ in size"
    _, together, values = predict(network, stack(parts))
    row = 0
    for part in parts:
        _, alone, value = predict(network, part)
        count, actions = part.actions.shape[:2]
        torch.testing.assert_close(together[row : row + count, :actions], alone)
        torch.testing.assert_close(values[row : row + count], value)
        assert (together[row : row + count, actions:] < -1e8).all()
        row += count


def test_actions_and_context_in_another_order(games, network, midgame):
    seen = games[0].observe(midgame[0])
    random = np.random.default_rng(1)
    jobs, machines = random.permutation(seen.actions.shape[1]), random.permutation(seen.context.shape[1])
    shuffled = Observation(
        seen.overall,
        seen.actions[:, jobs],
        seen.context[:, machines],
        seen.legal_mask[:, jobs],
        seen.action_mask[:, jobs],
        seen.context_mask[:, machines],
        seen.estimate,
    )
    _, logits, value = predict(network, seen)
    _, after, value_after = predict(network, shuffled)
    torch.testing.assert_close(after, logits[:, jobs])
    torch.testing.assert_close(value_after, value)
    assert logits.std() > 1e-3


def test_dynamics_depend_on_the_action(games, network, midgame):
    latent, _, _ = predict(network, games[0].observe(midgame[0]))
    with torch.no_grad():
        first, _ = network.step(latent, torch.zeros(4, dtype=torch.long))
        second, _ = network.step(latent, torch.ones(4, dtype=torch.long))
    assert (first.state - second.state).abs().max() > 1e-3


@pytest.mark.parametrize("value", [-2.5, -1.23, -0.01, 0.0])
def test_two_hot_has_the_value_as_its_mean(value):
    support = torch.linspace(-2.5, 0.0, 11)
    weights = two_hot(torch.tensor([value]), support)
    assert weights.sum().item() == pytest.approx(1)
    assert (weights >= 0).all()
    assert (weights > 0).sum() <= 2
    assert (weights @ support).item() == pytest.approx(value, abs=1e-6)


def test_two_hot_cuts_to_the_support():
    support = torch.linspace(-1, 1, 5)
    means = two_hot(torch.tensor([-7.0, 9.0]), support) @ support
    assert means.tolist() == [-1, 1]
