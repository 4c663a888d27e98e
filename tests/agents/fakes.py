"""An agent's parts with random weights: small, and decided enough that rounding changes no action."""

from __future__ import annotations

import numpy as np
import torch

from world_model.heads import QHeadConfig
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TokenizerConfig
from world_model.transformer import TransformerConfig
from world_model.world_action_model import WorldActionConfig, WorldActionModel

TOKENIZER = TokenizerConfig(
    network="patch",
    quantizer="fsq",
    fsq_levels=(4, 4, 3),
    channels=16,
    latent_channels=16,
    num_residual_blocks=1,
)
MODEL = WorldActionConfig(
    transformer=TransformerConfig(
        layers=2, heads=2, width=16, embedding_dropout=0.0, residual_dropout=0.0, attention_dropout=0.0
    ),
    q_head=QHeadConfig(mlp_width=16, dropout=0.0, num_atoms=5),
    vocab_size=TOKENIZER.vocab_size,
    max_blocks=5,
)


def random_tokenizer(seed: int = 0) -> Tokenizer:
    """A tokenizer whose codes differ from frame to frame."""
    return _randomised(Tokenizer(TOKENIZER), seed)


def random_model(seed: int = 0) -> WorldActionModel:
    """A model whose predictions differ from token to token."""
    return _randomised(WorldActionModel(MODEL), seed)


def random_frames(seed: int, *shape: int) -> np.ndarray:
    """Noise of uint8 [*shape, 84, 84]."""
    return np.random.default_rng(seed).integers(0, 256, size=(*shape, 84, 84), dtype=np.uint8)


def _randomised(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return module.eval()
