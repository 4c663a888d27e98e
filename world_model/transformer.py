"""A pre-LN causal transformer.

Letters: B rows, T tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datasets.errors import UserError
from world_model.kv_cache import KVCache
from world_model.linear import Linear


@dataclass(frozen=True)
class TransformerConfig:
    """Size and regularisation of the shared transformer."""

    layers: int = 4
    """Number of blocks."""
    heads: int = 8
    """Attention heads of a block; must divide the width."""
    width: int = 512
    """Width of the token embeddings."""
    embedding_dropout: float = 0.1
    """Dropout on the summed embeddings, while training."""
    residual_dropout: float = 0.1
    """Dropout on what each attention or MLP layer adds, while training."""
    attention_dropout: float = 0.1
    """Dropout on the attention weights, while training."""

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise UserError(f"heads is {self.heads}; choose a divisor of width {self.width}")

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class SelfAttention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_dropout = config.attention_dropout
        self.query = Linear(config.width, config.width)
        self.key = Linear(config.width, config.width)
        self.value = Linear(config.width, config.width)
        self.output = Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.residual_dropout)

    def forward(
        self, x: Float[Tensor, "B T D"], layer: int, memory: KVCache | None
    ) -> Float[Tensor, "B T D"]:
        """Attend within `x`, and to what `memory` holds for this layer if there is one."""
        query, key, value = (
            rearrange(project(x), "B T (H d) -> B H T d", H=self.heads)
            for project in (self.query, self.key, self.value)
        )
        if memory is None:
            dropout = self.attention_dropout if self.training else 0.0
            attended = attend_causally(query, key, value, dropout)
        else:
            attended = memory.attend(layer, query, key, value)
        return self.dropout(self.output(rearrange(attended, "B H T d -> B T (H d)")))


def attend_causally(
    query: Float[Tensor, "B H T d"],
    key: Float[Tensor, "B H T d"],
    value: Float[Tensor, "B H T d"],
    dropout: float,
) -> Float[Tensor, "B H T d"]:
    """Attention of each token to itself and those before it.

    On a CPU torch computes attention with dropout in float32, whatever its inputs are in, and looks for rows
    that see nothing. There are none here, and written out, it takes the type of its inputs; in float32
    every bit of the result is torch's.

    Args:
        query: what asks.
        key: what is asked.
        value: what is answered.
        dropout: on the attention weights; 0 while not training.
    """
    if not dropout or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
    tokens, scale = query.shape[-2], math.sqrt(1 / math.sqrt(query.shape[-1]))
    query, key, value = (part.contiguous() for part in (query * scale, key * scale, value))
    unseen = torch.full((tokens, tokens), -math.inf, dtype=query.dtype).triu(1)
    weights = (query @ key.mT + unseen).softmax(-1)
    return F.dropout(weights, dropout) @ value


class Block(nn.Module):
    """Attention and a GELU MLP of four times the width, each normalised first and added."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = SelfAttention(config)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            Linear(config.width, 4 * config.width),
            nn.GELU(),
            Linear(4 * config.width, config.width),
            nn.Dropout(config.residual_dropout),
        )

    def forward(
        self, x: Float[Tensor, "B T D"], layer: int, memory: KVCache | None
    ) -> Float[Tensor, "B T D"]:
        """Apply this block as layer number `layer`."""
        x = x + self.attention(self.attention_norm(x), layer, memory)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """A stack of blocks and a last normalisation."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.recompute = False
        """Keep only what goes into each block, and compute the rest again for the gradient: less memory."""

    def forward(self, x: Float[Tensor, "B T D"], memory: KVCache | None = None) -> Float[Tensor, "B T D"]:
        """Turn embeddings into hidden states.

        Args:
            x: embedded tokens.
            memory: tokens fed earlier, which `x` continues; it takes `x` in.

        Returns:
            Hidden states of the new tokens.
        """
        x = self.dropout(x)
        for layer, block in enumerate(self.blocks):
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, layer, memory, use_reentrant=False)
            else:
                x = block(x, layer, memory)
        if memory is not None:
            memory.advance(x.shape[1])
        return self.final_norm(x)
