"""Losses of parts of a batch, divided by the counts of all of it, add up to the loss of the batch."""

import pytest
import torch

from tests.world_model.loss_loops import ROWS, rows_of, small_batch, small_model
from world_model.loss_counts import LossCounts
from world_model.losses import LossConfig, compute_loss, count_losses

CONFIGS = (
    LossConfig(),
    LossConfig(penalty="combo", td_target="n_step", use_rem=True),
    LossConfig(td_target="monte_carlo", penalty="none", published_semantics=True),
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("train_q", [False, True])
def test_parts_add_up_to_the_batch_in_loss_scalars_and_gradient(config, train_q):
    model, batch = small_model(), small_batch()
    imagined = small_batch(ROWS[:2], seed=5) if train_q else None
    whole = compute_loss(model, batch, config, train_q=train_q, imagined=imagined, generator=generator())
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad(whole.total, parameters, allow_unused=True, materialize_grads=True)

    # The second part has no imagined rows, and the parts have different numbers of real steps.
    parts = [(rows_of(batch, slice(0, None, 2)), imagined), (rows_of(batch, slice(1, None, 2)), None)]
    counts = LossCounts(*sum(count_losses(*part, config).stacked() for part in parts))
    outputs = [
        compute_loss(
            model, real, config, train_q=train_q, imagined=more, generator=generator(), counts=counts
        )
        for real, more in parts
    ]
    total = outputs[0].total + outputs[1].total
    found = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    for name, value in whole.named().items():
        assert (outputs[0].named()[name] + outputs[1].named()[name]).item() == pytest.approx(
            value.item(), rel=1e-5, abs=1e-6, nan_ok=True
        ), name
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_counts_are_those_of_labels_that_the_losses_use():
    batch = small_batch()
    counts = count_losses(batch, None, LossConfig())
    assert counts.steps == counts.all_steps == batch.mask.sum()
    assert counts.labels <= batch.mask.sum() * batch.tokens.shape[-1]
    assert 0 < counts.changed <= counts.labels
    assert 0 < counts.backups <= counts.steps
