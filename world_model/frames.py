"""Frames on their way into the tokenizer: their sizes, gray levels, backgrounds and random shifts.

Letters: B frames.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

FRAME_SIZE = 84
"""Rows and columns of a frame."""
GRID = 6
"""Rows and columns of a frame's grid of tokens."""
PATCH = FRAME_SIZE // GRID
"""Rows and columns of the pixels that one token stands for."""
FOREGROUND_THRESHOLD = 8.0 / 127.5
"""A pixel is foreground if it differs from the background by more than 8 of 255 gray levels."""


def to_signed(frames: UInt8[Tensor, "B 84 84"]) -> Float[Tensor, "B 1 84 84"]:
    """Gray levels 0..255 to [-1, 1]."""
    return rearrange(frames, "B H W -> B 1 H W").float() / 255.0 * 2.0 - 1.0


def shift_frames(frames: UInt8[Tensor, "B 84 84"], shift: Int[Tensor, "B 2"]) -> UInt8[Tensor, "B 84 84"]:
    """Move each frame by its own (rows, columns), repeating the border pixels into the gap."""
    last = frames.shape[-1] - 1
    position = torch.arange(last + 1, device=frames.device)
    source = (position - rearrange(shift, "B direction -> direction B 1")).clamp(0, last)
    batch = torch.arange(len(frames), device=frames.device)
    rows, columns = source
    return frames[
        rearrange(batch, "B -> B 1 1"), rearrange(rows, "B H -> B H 1"), rearrange(columns, "B W -> B 1 W")
    ]


def random_shift(num_frames: int, shift_pixels: int, generator: torch.Generator) -> Int[Tensor, "B 2"]:
    """Rows and columns to move each frame by, uniform in -shift_pixels..shift_pixels.

    Padding by repeated border pixels and cropping at random: DrQ, Kostrikov et al. 2020 (arXiv 2004.13649).
    """
    return torch.randint(-shift_pixels, shift_pixels + 1, (num_frames, 2), generator=generator)


def median_frame(frames: UInt8[Tensor, "B 84 84"]) -> UInt8[Tensor, "84 84"]:
    """Each pixel's median over frames of one game: what is seen when nothing is in the way."""
    return frames.median(dim=0).values
