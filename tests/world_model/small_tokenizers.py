"""Tokenizers small enough for tests, and frames for them."""

from __future__ import annotations

from dataclasses import replace

import torch

from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS, TokenizerConfig

SMALL_RESIDUAL = TokenizerConfig(
    codebook_size=20,
    code_width=6,
    channels=4,
    channel_multipliers=(1, 2, 1),
    num_residual_blocks=1,
    latent_channels=6,
)
SMALL_PATCH = replace(TOKENIZERS["tiny"], channels=24)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random gray levels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def randomised(config: TokenizerConfig, seed: int = 0) -> Tokenizer:
    """A tokenizer whose codes differ from patch to patch."""
    tokenizer = Tokenizer(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in tokenizer.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return tokenizer.eval()


def seeded(seed: int = 0) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def ball_frames(count: int, seed: int = 0) -> torch.Tensor:
    """A gray field with a still wall and a 3 x 2 ball somewhere else in each frame."""
    frames = torch.full((count, 84, 84), 80, dtype=torch.uint8)
    frames[:, :6] = 200
    places = torch.randint(8, 80, (count, 2), generator=seeded(seed)).tolist()
    for frame, (row, column) in zip(frames, places, strict=True):
        frame[row : row + 3, column : column + 2] = 240
    return frames
