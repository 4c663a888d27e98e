"""Losses of the tokenizer.

Letters: B frames.

The published stage also has a perceptual loss (LPIPS). It needs VGG weights that this project does
not ship and never downloads, so it is left out here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from world_model.frames import FOREGROUND_THRESHOLD, PATCH, random_shift
from world_model.tokenizer import Tokenizer

AROUND_FOREGROUND = 0.05
"""Weight of a pixel beside the foreground, relative to the foreground's.

Without it a decoder that is unsure where the ball is draws it everywhere in the patch; with 1 it draws none.
"""


@dataclass(frozen=True)
class TokenizerLossOutput:
    """One training step's loss."""

    total: Float[Tensor, ""]
    """What to differentiate."""
    terms: dict[str, Tensor]
    """Scalars for logging: reconstruction_loss and commitment_loss, unweighted, detached."""


def reconstruction_loss(
    target: Float[Tensor, "B 1 84 84"], reconstruction: Float[Tensor, "B 1 84 84"]
) -> Float[Tensor, ""]:
    """Mean absolute error, gray levels in [-1, 1]."""
    return (target - reconstruction).abs().mean()


def foreground_mask(
    frames: Float[Tensor, "B 1 84 84"], background: Float[Tensor, "B 1 84 84"]
) -> Bool[Tensor, "B 1 84 84"]:
    """True where a frame differs visibly from its background; gray levels in [-1, 1]."""
    return (frames - background).abs() > FOREGROUND_THRESHOLD


def foreground_weights(
    foreground: Bool[Tensor, "B 1 84 84"], foreground_weight: float
) -> Float[Tensor, "B 1 84 84"]:
    """Weights of the pixels: 1, and more in the 14 x 14 patches that hold foreground.

    With n foreground pixels in a patch, each counts 1 + foreground_weight / (1 + n) times and the
    patch's other pixels 1 + AROUND_FOREGROUND foreground_weight / (1 + n) times. A ball is 4 pixels of
    7056: unweighted, drawing none is nearly free; with one weight for all of the foreground, large
    objects are drawn first and the ball is still missing after a short training.
    """
    patches = rearrange(foreground, "B 1 (H p) (W q) -> B H p W q", p=PATCH, q=PATCH)
    count = reduce(patches.float(), "B H p W q -> B H 1 W 1", "sum")
    share = foreground_weight / (1.0 + count) * (count > 0)
    weights = 1.0 + share * torch.where(patches, 1.0, AROUND_FOREGROUND)
    return rearrange(weights, "B H p W q -> B 1 (H p) (W q)")


def foreground_weighted_loss(
    target: Float[Tensor, "B 1 84 84"],
    reconstruction: Float[Tensor, "B 1 84 84"],
    background: Float[Tensor, "B 1 84 84"],
    *,
    foreground_weight: float,
    squared_weight: float,
) -> Float[Tensor, ""]:
    """Mean of weight * (|error| + squared_weight * error^2), weights from `foreground_weights`."""
    weight = foreground_weights(foreground_mask(target, background), foreground_weight)
    error = (target - reconstruction).abs()
    return (weight * (error + squared_weight * error.square())).mean()


def tokenizer_loss(
    tokenizer: Tokenizer,
    frames: UInt8[Tensor, "B 84 84"],
    task_id: Int[Tensor, "B"],
    *,
    generator: torch.Generator,
    rows: range | None = None,
) -> TokenizerLossOutput:
    """The loss of one training step.

    Args:
        tokenizer: what is trained; its configuration weighs the terms.
        frames: frames of any mixture of games.
        task_id: the game of each frame.
        generator: where the random shifts of all frames of the step come from (on the CPU).
        rows: which of these the frames are, if not all: every so many of `rows.stop` frames.
    """
    config = tokenizer.config
    shift = None
    if config.shift_pixels > 0:
        rows = rows or range(len(frames))
        shift = random_shift(rows.stop, config.shift_pixels, generator)[rows.start :: rows.step]
        shift = shift.to(frames.device)
    output = tokenizer(frames, task_id, shift=shift)
    if output.background is None:
        reconstruction = reconstruction_loss(output.target, output.reconstruction)
    else:
        reconstruction = foreground_weighted_loss(
            output.target,
            output.reconstruction,
            output.background,
            foreground_weight=config.foreground_weight,
            squared_weight=config.squared_weight,
        )
    total = reconstruction + config.commitment_weight * output.commitment_loss
    terms = {
        "reconstruction_loss": reconstruction.detach(),
        "commitment_loss": output.commitment_loss.detach(),
    }
    return TokenizerLossOutput(total, terms)
