"""What trains the action values: ensemble averages, the temporal-difference loss, the soft maximum of CQL.

Letters: B segments, L steps of a segment, A actions, Q ensemble members, Z atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Generator, Tensor

from world_model.targets import Backup, distribution_target, greedy_action, scalar_target

MAX_ADVANTAGE_WEIGHT = 20.0
"""Of a step that was better than expected; one as good as expected has 1."""
_PROBABILITY_FLOOR = 1e-8  # the published program's; keeps the logarithm of a vanished atom finite


@dataclass(frozen=True)
class QEstimate:
    """What an ensemble of Q heads, averaged, says of every action in every state."""

    values: Float[Tensor, "B L A"]
    """Expected return."""
    probabilities: Float[Tensor, "B L A Z"] | None
    """Its distribution over the atoms; None for heads that predict the mean alone."""


def masked_mean(
    values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], count: Shaped[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """Mean of the values where the mask is True; 0 where it is True nowhere.

    Args:
        values: of all places.
        mask: the places that count.
        count: what to divide the sum by, if not by the number of places that count.
    """
    count = mask.sum() if count is None else count
    return torch.where(mask, values, 0.0).sum() / torch.where(count > 0, count, 1)


def at_action(per_action: Float[Tensor, "B L A *rest"], actions: Int[Tensor, "B L"]) -> Tensor:
    """What belongs to one action of each state: `[B, L, *rest]`."""
    index = actions.reshape(*actions.shape, *[1] * (per_action.ndim - 2))
    return per_action.take_along_dim(index, dim=2).squeeze(2)


def ensemble_weights(size: int, *, use_rem: bool, generator: Generator | None) -> Float[Tensor, "Q"]:
    """Weights of the ensemble's members, summing to 1: equal ones, or random ones for REM.

    The random ones are uniform numbers divided by their sum (random ensemble mixture: Agarwal,
    Schuurmans and Norouzi, 2020).

    Raises:
        ValueError: REM without a generator, which would make a resumed run differ.
    """
    if not use_rem:
        return torch.full((size,), 1 / size)
    if generator is None:
        raise ValueError("use_rem needs a generator")
    weights = torch.rand(size, generator=generator)
    return weights / weights.sum()


def estimate_q(
    logits: Float[Tensor, "Q B L AZ"],
    weights: Float[Tensor, "Q"],
    num_actions: int,
    atoms: Float[Tensor, "Z"] | None,
) -> QEstimate:
    """Average an ensemble, in float32: distributions where there are atoms, else values.

    Args:
        logits: of all members; the outputs of one action stand together.
        weights: of the members, summing to 1.
        num_actions: size A of the action vocabulary.
        atoms: support of the distributions; None for heads that predict the mean alone.
    """
    weights = rearrange(weights, "Q -> Q 1 1 1")
    if atoms is None:
        return QEstimate((weights * logits.float()).sum(0), None)
    logits = rearrange(logits, "Q B L (A Z) -> Q B L A Z", A=num_actions)
    probabilities = (weights.unsqueeze(-1) * logits.softmax(-1, dtype=torch.float32)).sum(0)
    return QEstimate((probabilities * atoms).sum(-1), probabilities)


def td_error(
    online: QEstimate,
    target: QEstimate,
    actions: Int[Tensor, "B L"],
    legal_mask: Bool[Tensor, "B A"],
    backup: Backup,
    atoms: Float[Tensor, "Z"] | None,
    *,
    double_q: bool,
) -> Float[Tensor, "B L"]:
    """How far the taken actions are from their targets; meaningless where `backup` has none.

    With atoms it is the cross-entropy of the distributions (C51: Bellemare, Dabney and Munos, 2017),
    without them half the squared error.

    Args:
        online: what is trained.
        target: what is bootstrapped from; gets no gradient.
        actions: the actions taken.
        legal_mask: True where an action is legal.
        backup: recipe of the targets.
        atoms: support of the distributions; None for heads that predict the mean alone.
        double_q: let `online` choose the legal action whose target value is bootstrapped from (double
            Q-learning: van Hasselt, Guez and Silver, 2016); by default the target chooses.
    """
    chooser = online if double_q else target
    best_action = greedy_action(chooser.values.detach(), legal_mask)
    if atoms is None:
        goal = scalar_target(backup, at_action(target.values, best_action)).detach()
        return 0.5 * (at_action(online.values, actions) - goal).square()
    if online.probabilities is None or target.probabilities is None:
        raise ValueError("atoms belong to estimates with probabilities")
    goal = distribution_target(backup, at_action(target.probabilities, best_action), atoms).detach()
    predicted = at_action(online.probabilities, actions)
    return -(goal * (predicted + _PROBABILITY_FLOOR).log()).sum(-1)


def advantage_weights(advantage: Float[Tensor, "B L"], temperature: float) -> Float[Tensor, "B L"]:
    """`exp(advantage / temperature)`, at most 20: advantage-weighted regression (Peng et al., 2019).

    Args:
        advantage: how much more a step earned than its state was worth.
        temperature: advantage that weighs e times as much as none.
    """
    return (advantage / temperature).exp().clamp(max=MAX_ADVANTAGE_WEIGHT)


def soft_maximum(
    values: Float[Tensor, "B L A"], legal_mask: Bool[Tensor, "B A"], temperature: float = 1.0
) -> Float[Tensor, "B L"]:
    """`temperature log sum exp(Q / temperature)` over legal actions (CQL: Kumar et al., 2020, equation 4)."""
    illegal = rearrange(~legal_mask, "B A -> B 1 A")
    return temperature * (values / temperature).masked_fill(illegal, float("-inf")).logsumexp(-1)
