"""What the Q head is trained towards: one-step, n-step and Monte-Carlo targets as pure functions.

Letters: B segments, L steps of a segment, A actions, Z atoms.

A target is described by a `Backup` and evaluated against any estimate of the value at the step it
bootstraps from, as a number (`scalar_target`) or as a distribution over atoms (`distribution_target`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Backup:
    """The recipe of each step's target: `reward + discount * (value at step bootstrap_step)`."""

    reward: Float[Tensor, "B L"]
    """Discounted sum of the rewards up to the bootstrap; 0 where there is no target."""
    discount: Float[Tensor, "B L"]
    """Factor on the value bootstrapped from; 0 where the future is cut or already in the reward."""
    bootstrap_step: Int[Tensor, "B L"]
    """Step of the same segment to bootstrap from; meaningless where the discount is 0."""
    mask: Bool[Tensor, "B L"]
    """True where the step has a target."""


def n_step_backup(
    rewards: Float[Tensor, "B L"],
    ends: Int[Tensor, "B L"],
    mask: Bool[Tensor, "B L"],
    *,
    discount: float,
    num_steps: int,
) -> Backup:
    """Up to `num_steps` rewards, then the value of the step reached (Sutton and Barto, 2018, chapter 7).

    A step whose future within the segment is shorter bootstraps from the segment's last valid step. An
    end cuts the future. The last valid step of a segment that does not end there has no target: the
    state that follows it is not in the segment. `num_steps = 1` is the one-step target.

    Args:
        rewards: reward of each step.
        ends: 1 on a true terminal step.
        mask: True on real steps, which are contiguous in each segment.
        discount: factor a step, 0 to 1.
        num_steps: rewards to sum at most, at least 1.
    """
    batch_size, length = rewards.shape
    next_is_real = _shift(mask, 1)
    usable = mask & (next_is_real | (ends > 0))
    total = torch.zeros_like(rewards)
    factor = torch.ones_like(rewards)
    step = torch.arange(length, device=rewards.device).expand(batch_size, length)
    alive = usable
    for offset in range(min(num_steps, length)):
        taken = alive & _shift(usable, offset)
        total = torch.where(taken, total + factor * _shift(rewards, offset), total)
        factor = torch.where(taken, factor * discount, factor)
        alive = taken & (_shift(ends, offset) == 0)
        factor = torch.where(taken & ~alive, 0.0, factor)
        step = torch.where(alive, step + 1, step)
    return Backup(total, torch.where(usable, factor, 0.0), step, usable)


def monte_carlo_backup(returns: Float[Tensor, "B L"], mask: Bool[Tensor, "B L"]) -> Backup:
    """The episode's own discounted return-to-go, without a bootstrap: every real step has a target.

    Args:
        returns: discounted return-to-go of the whole episode from each step.
        mask: True on real steps.
    """
    batch_size, length = returns.shape
    step = torch.arange(length, device=returns.device).expand(batch_size, length)
    return Backup(torch.where(mask, returns, 0.0), torch.zeros_like(returns), step, mask)


def greedy_action(q_values: Float[Tensor, "B L A"], legal_mask: Bool[Tensor, "B A"]) -> Int[Tensor, "B L"]:
    """The legal action of the highest value in each state; the first one on ties."""
    legal = rearrange(legal_mask, "B A -> B 1 A")
    return q_values.masked_fill(~legal, float("-inf")).argmax(dim=-1)


def scalar_target(backup: Backup, values: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """Target values; 0 where there is no target.

    Args:
        backup: the recipe.
        values: value of the state at each step, for example that of the target net's greedy action.
    """
    return backup.reward + backup.discount * values.gather(1, backup.bootstrap_step)


def distribution_target(
    backup: Backup, probabilities: Float[Tensor, "B L Z"], atoms: Float[Tensor, "Z"]
) -> Float[Tensor, "B L Z"]:
    """Target distributions over the atoms; each sums to 1.

    Args:
        backup: the recipe.
        probabilities: return distribution of the state at each step.
        atoms: the support, evenly spaced and ascending.
    """
    num_atoms = atoms.shape[0]
    index = backup.bootstrap_step.unsqueeze(-1).expand(-1, -1, num_atoms)
    support = backup.reward.unsqueeze(-1) + backup.discount.unsqueeze(-1) * atoms
    return categorical_projection(probabilities.gather(1, index), support, atoms)


def categorical_projection(
    probabilities: Float[Tensor, "*batch Z"], support: Float[Tensor, "*batch Z"], atoms: Float[Tensor, "Z"]
) -> Float[Tensor, "*batch Z"]:
    """Project a distribution with any support onto evenly spaced atoms.

    Each atom of the old support is clipped to the new range and shares its probability between its two
    nearest new atoms, linearly in the distance (C51: Bellemare, Dabney and Munos, 2017, equation 7).
    The mean is kept as long as nothing is clipped.

    Args:
        probabilities: probability of each old atom.
        support: place of each old atom.
        atoms: the new support, evenly spaced and ascending, at least two.
    """
    last = atoms.shape[0] - 1
    spacing = (atoms[-1] - atoms[0]) / last
    place = ((support - atoms[0]) / spacing).clamp(0, last)
    # Dense in (old atom, new atom): a scatter would add in no fixed order on a GPU, and runs must repeat.
    new_place = torch.arange(last + 1, dtype=place.dtype, device=place.device)
    share = (1 - (place.unsqueeze(-1) - new_place).abs()).clamp(min=0)
    return (probabilities.unsqueeze(-1) * share).sum(dim=-2)


def _shift(values: Tensor, offset: int) -> Tensor:
    """What stands `offset` steps later, `[B, L] -> [B, L]`; zero or False beyond the segment."""
    return functional.pad(values[:, offset:], (0, offset))
