"""Losses of the tokenizer: what weighs how much, and that a few steps of training reduce them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.world_model.small_tokenizers import SMALL_PATCH, ball_frames, randomised, seeded
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TokenizerConfig
from world_model.tokenizer_losses import (
    AROUND_FOREGROUND,
    foreground_mask,
    foreground_weighted_loss,
    foreground_weights,
    reconstruction_loss,
    tokenizer_loss,
)


def test_reconstruction_is_the_mean_absolute_error():
    target = torch.zeros(2, 1, 84, 84)
    drawn = target.clone()
    drawn[0, 0, 0, 0] = -3.0
    assert reconstruction_loss(target, drawn).item() == pytest.approx(3.0 / (2 * 84 * 84))


def test_foreground_is_what_differs_visibly_from_the_background():
    background = torch.zeros(1, 1, 84, 84)
    frames = background.clone()
    frames[0, 0, 5, 5] = 9 / 127.5
    frames[0, 0, 6, 6] = -9 / 127.5
    frames[0, 0, 7, 7] = 7 / 127.5
    assert foreground_mask(frames, background).nonzero()[:, 2:].tolist() == [[5, 5], [6, 6]]


def test_the_foreground_of_a_patch_shares_one_weight():
    foreground = torch.zeros(1, 1, 84, 84, dtype=torch.bool)
    foreground[0, 0, 20, 30] = True
    foreground[0, 0, 42:56, 0:14] = True
    weights = foreground_weights(foreground, 98.5)
    assert weights[0, 0, 0, 0] == 1.0
    assert weights[0, 0, 20, 31].item() == pytest.approx(1 + AROUND_FOREGROUND * 98.5 / 2)
    assert weights[0, 0, 20, 30].item() == pytest.approx(1 + 98.5 / 2)
    assert weights[0, 0, 45, 5].item() == pytest.approx(1 + 98.5 / 197)


def test_without_weights_the_weighted_loss_is_the_plain_one():
    target, drawn, background = torch.randn(3, 2, 1, 84, 84, generator=seeded()).unbind()
    plain = foreground_weighted_loss(target, drawn, background, foreground_weight=0.0, squared_weight=0.0)
    torch.testing.assert_close(plain, reconstruction_loss(target, drawn))
    squared = foreground_weighted_loss(target, drawn, background, foreground_weight=0.0, squared_weight=2.0)
    torch.testing.assert_close(squared, plain + 2.0 * (target - drawn).square().mean())


def test_losing_a_ball_costs_more_than_noise_on_the_background():
    frames = torch.full((1, 1, 84, 84), -0.4)
    background = frames.clone()
    frames[0, 0, 40:43, 40:42] = 0.9
    noisy = frames + 0.01 * torch.randn(frames.shape, generator=seeded())
    assert reconstruction_loss(frames, background) < reconstruction_loss(frames, noisy)
    weights = {
        "foreground_weight": SMALL_PATCH.foreground_weight,
        "squared_weight": SMALL_PATCH.squared_weight,
    }
    lost = foreground_weighted_loss(frames, background, background, **weights)
    assert lost > 5 * foreground_weighted_loss(frames, noisy, background, **weights)


def test_the_loss_sums_its_terms():
    config = replace(
        SMALL_PATCH, quantizer="vq", codebook_size=16, code_width=4, commitment_weight=0.25, shift_pixels=0
    )
    tokenizer = Tokenizer(config)
    output = tokenizer_loss(tokenizer, ball_frames(4), torch.zeros(4, dtype=torch.int64), generator=seeded())
    terms = output.terms
    assert terms["commitment_loss"] > 0
    torch.testing.assert_close(
        output.total.detach(), terms["reconstruction_loss"] + 0.25 * terms["commitment_loss"]
    )
    assert not any(term.requires_grad for term in terms.values())


def test_shifts_follow_the_generator_and_take_the_background_along():
    tokenizer = randomised(replace(SMALL_PATCH, shift_pixels=4))
    frames = ball_frames(6)
    task_id = torch.full((6,), 3)
    tokenizer.set_background(3, frames.median(dim=0).values)
    losses = [
        tokenizer_loss(tokenizer, frames, task_id, generator=seeded(seed)).total.item() for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    moved = tokenizer(frames, task_id, shift=torch.full((6, 2), 4))
    assert moved.background is not None
    # The wall moves with its background: only the six balls stand out.
    assert foreground_mask(moved.target, moved.background).sum() == 6 * 3 * 2


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_every_weight_gets_a_gradient(quantizer: str):
    config: TokenizerConfig = replace(SMALL_PATCH, quantizer=quantizer, codebook_size=12, code_width=5)
    tokenizer = Tokenizer(config)
    output = tokenizer_loss(tokenizer, ball_frames(8), torch.zeros(8, dtype=torch.int64), generator=seeded())
    output.total.backward()
    silent = [
        name for name, weight in tokenizer.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert silent == []


def test_training_learns_to_draw_the_ball():
    torch.manual_seed(0)
    tokenizer = Tokenizer(SMALL_PATCH)
    frames = ball_frames(256)
    task_id = torch.zeros(256, dtype=torch.int64)
    tokenizer.set_background(0, frames.median(dim=0).values)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=4e-3)
    losses = []
    for step in range(100):
        rows = torch.randint(256, (32,), generator=seeded(step))
        loss = tokenizer_loss(tokenizer, frames[rows], task_id[rows], generator=seeded(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    output = tokenizer(frames, task_id)
    assert output.background is not None
    nothing_drawn = foreground_weighted_loss(
        output.target,
        output.background,
        output.background,
        foreground_weight=SMALL_PATCH.foreground_weight,
        squared_weight=SMALL_PATCH.squared_weight,
    )
    assert sum(losses[-5:]) / 5 < 0.8 * nothing_drawn
