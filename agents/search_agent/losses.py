"""What the search agent's network is trained towards: the results of its own searches and games.

Letters: B positions, U unrolled moves, V = U + 1 places, A actions, Z bins.

Source: Schrittwieser et al. 2020 (MuZero); policy targets as in Danihelka et al. 2022 (Gumbel MuZero).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.search_agent.network import ObservationTensors, SearchNetwork, two_hot
from agents.search_agent.replay import Sample


@dataclass(frozen=True)
class SearchLoss:
    """The loss and its parts, cross-entropies in nats averaged over places that exist."""

    total: Float[Tensor, ""]
    """Policy + value_weight value + reward."""
    policy: Float[Tensor, ""]
    """Against the improved policy."""
    value: Float[Tensor, ""]
    """Against the return of the game less the estimate at the first place."""
    reward: Float[Tensor, ""]
    """Of the learned dynamics; 0 if none are learned."""
    value_error: Float[Tensor, ""]
    """Mean absolute error of the value, in units of the return; without gradient."""


def search_loss(network: SearchNetwork, sample: Sample, *, value_weight: float = 0.25) -> SearchLoss:
    """Policy and value at each place of a sample, reached by learned dynamics behind the first.

    With unrolled moves, the gradient into the dynamics is halved at each move and the places behind the
    first together count as much as the first, as in MuZero.
    """
    device = network.device
    policy_target = torch.from_numpy(sample.policy).float().to(device)
    returns = torch.from_numpy(sample.returns).float().to(device)
    rewards = torch.from_numpy(sample.rewards).float().to(device)
    estimate = torch.from_numpy(sample.observation.estimate).float().to(device)
    going = torch.from_numpy(sample.going).to(device)
    actions = torch.from_numpy(sample.actions).to(device)
    unroll = actions.shape[1]

    latent = network.represent(ObservationTensors.of(sample.observation, device))
    zero = returns.new_zeros(())
    policy, value, reward, error = zero, zero, zero, zero
    for place in range(unroll + 1):
        weight = 1.0 if place == 0 else 1.0 / unroll
        if place:
            here = going[:, place - 1]
            latent, reward_logits = network.step(latent, actions[:, place - 1])
            if latent.state.requires_grad:
                latent.state.register_hook(_halve)
            target = two_hot(rewards[:, place - 1], network.support)
            reward = reward + weight * _mean(_cross_entropy(reward_logits, target), here)
        here = going[:, place]
        logits, value_logits = network.predict(latent)
        policy = policy + weight * _mean(_cross_entropy(logits, policy_target[:, place]), here)
        correction = returns[:, place] - estimate
        target = two_hot(correction, network.support)
        value = value + weight * _mean(_cross_entropy(value_logits, target), here)
        if place == 0:
            error = _mean((network.expectation(value_logits) - correction).abs(), here).detach()
    return SearchLoss(policy + value_weight * value + reward, policy, value, reward, error)


def _halve(gradient: Tensor) -> Tensor:
    return 0.5 * gradient


def _cross_entropy(logits: Float[Tensor, "B Z"], target: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
    return -(target * logits.log_softmax(dim=-1)).sum(dim=-1)


def _mean(values: Float[Tensor, " B"], mask: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
    return (values * mask).sum() / mask.sum().clamp_min(1)
