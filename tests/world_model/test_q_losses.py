"""Pieces of the Q loss that the loops over whole losses do not show."""

import pytest
import torch

from world_model.q_losses import at_action, ensemble_weights, masked_mean, soft_maximum

ACTIONS = 6


def test_a_masked_mean_of_nothing_is_zero():
    values = torch.tensor([[1.0, torch.inf], [3.0, 4.0]])
    assert masked_mean(values, torch.tensor([[True, False], [True, False]])).item() == 2
    assert masked_mean(values, torch.zeros(2, 2, dtype=torch.bool)).item() == 0


def test_what_belongs_to_an_action():
    per_action = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).float()
    actions = torch.tensor([[0, 3, 1], [2, 2, 0]])
    picked = at_action(per_action, actions)
    assert picked.shape == (2, 3, 5)
    assert torch.equal(picked[0, 1], per_action[0, 1, 3])
    assert torch.equal(at_action(per_action[..., 0], actions), picked[..., 0])


def test_the_penalty_does_not_touch_illegal_actions():
    values = torch.randn(2, 3, ACTIONS, generator=torch.Generator().manual_seed(0), requires_grad=True)
    legal = torch.tensor([[True, False, True, False, False, True], [True] * 6])
    soft = soft_maximum(values, legal)
    assert (soft >= values.masked_fill(~legal[:, None], -torch.inf).amax(-1)).all()
    (gradient,) = torch.autograd.grad(soft.sum(), values)
    assert (gradient[0, :, ~legal[0]] == 0).all()
    torch.testing.assert_close(gradient.sum(-1), torch.ones(2, 3))


def test_a_penalty_of_low_temperature_is_cloning_by_sharpened_values():
    values = torch.randn(2, 3, ACTIONS, generator=torch.Generator().manual_seed(0), requires_grad=True)
    legal = torch.tensor([[True, False, True, False, False, True], [True] * 6])
    taken = torch.tensor([[0, 2, 5], [1, 3, 4]])
    penalty = soft_maximum(values, legal, 0.1) - at_action(values, taken)
    logits = (values / 0.1).masked_fill(~legal[:, None], -torch.inf)
    cloning = torch.nn.functional.cross_entropy(logits.mT, taken, reduction="none")
    torch.testing.assert_close(10 * penalty, cloning)
    greatest = values.masked_fill(~legal[:, None], -torch.inf).amax(-1)
    assert (soft_maximum(values, legal, 1e-3) - greatest).abs().max() < 1e-2


def test_random_ensemble_weights_are_convex_and_repeat():
    drawn = ensemble_weights(4, use_rem=True, generator=torch.Generator().manual_seed(3))
    again = ensemble_weights(4, use_rem=True, generator=torch.Generator().manual_seed(3))
    other = ensemble_weights(4, use_rem=True, generator=torch.Generator().manual_seed(8))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)
    assert (drawn >= 0).all()
    assert drawn.sum().item() == pytest.approx(1)
    assert ensemble_weights(4, use_rem=False, generator=None).tolist() == [0.25] * 4
    with pytest.raises(ValueError, match="generator"):
        ensemble_weights(4, use_rem=True, generator=None)
