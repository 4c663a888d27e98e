"""What new tokens attend to: the keys and values of the tokens that were fed before them.

Letters: N layers, B rows, H heads, T new tokens, C cached and new tokens, d width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class KVCache:
    """Keys and values of a fed prefix, preallocated; rows all have the same number of tokens.

    Attributes:
        keys: [N B H capacity d], of which the first `length` tokens are meaningful.
        values: the same for values.
        length: tokens fed so far.
    """

    def __init__(
        self,
        *,
        layers: int,
        rows: int,
        heads: int,
        head_width: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (layers, rows, heads, capacity, head_width)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self.keys.shape[3]

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "B H T d"],
        key: Float[Tensor, "B H T d"],
        value: Float[Tensor, "B H T d"],
    ) -> Float[Tensor, "B H T d"]:
        """Store one layer's keys and values behind the prefix and attend causally to all of it.

        Raises:
            ValueError: more tokens than the cache was made for.
        """
        new = query.shape[2]
        end = self.length + new
        if end > self.capacity:
            raise ValueError(f"a cache of {self.capacity} tokens was fed {end}")
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        # Under autocast the projections may come in a lower precision than the cache is kept in.
        keys = self.keys[layer, :, :, :end].to(query.dtype)
        values = self.values[layer, :, :, :end].to(query.dtype)
        if self.length == 0:
            return F.scaled_dot_product_attention(query, keys, values, is_causal=True)
        if new == 1:
            return F.scaled_dot_product_attention(query, keys, values)
        visible = torch.ones(new, end, dtype=torch.bool, device=query.device).tril(self.length)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=visible)

    def advance(self, num_tokens: int) -> None:
        """Count `num_tokens` as fed."""
        self.length += num_tokens
