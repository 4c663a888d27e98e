"""Quantisers: turn a grid of vectors into a grid of codes, and codes back into vectors.

Letters: B frames, C code width, H and W the grid's rows and columns, V vocabulary, S number of
scalar dimensions of a finite scalar quantiser.

Both quantisers have the same face, `forward(z) -> QuantizerOutput` and `vectors(indices)`, and pass
the gradient of what follows straight through to `z`. Codes are chosen in float32 whatever the
autocast setting: tokens written to a cache must not depend on how a run computes the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from datasets.errors import UserError


@dataclass(frozen=True)
class QuantizerOutput:
    """What a quantiser makes of a grid of vectors."""

    quantized: Float[Tensor, "B C H W"]
    """The chosen codes' vectors; their gradient goes to `z` unchanged (straight through)."""
    indices: Int[Tensor, "B H W"]
    """The chosen codes, 0 to V - 1."""
    loss: Float[Tensor, "B H W"]
    """Commitment loss of each position, 0 where the quantiser needs none."""


def straight_through(z: Float[Tensor, "..."], quantized: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Value of `quantized`, gradient of `z` (Bengio et al. 2013, arXiv 1308.3432)."""
    return z + (quantized - z).detach()


def commitment_loss(z: Float[Tensor, "B C H W"], codes: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H W"]:
    """Pull codes to the encoder's outputs and the outputs to their codes, with equal weight.

    (sg[z] - codes)^2 + (z - sg[codes])^2, mean over the code's width; van den Oord et al. 2017
    (arXiv 1711.00937).
    """
    return ((z.detach() - codes).square() + (z - codes.detach()).square()).mean(dim=1)


class VectorQuantizer(nn.Module):
    """Nearest code of a learned codebook; the codebook learns from the commitment loss's gradient."""

    view: Tensor | None

    def __init__(self, vocab_size: int, code_width: int, view: Float[Tensor, "C N"] | None = None) -> None:
        """Make a codebook.

        Args:
            vocab_size: number of codes.
            code_width: length of a code's vector.
            view: linear map through which vectors and codes are compared; None compares them as they are.
        """
        super().__init__()
        self.vocab_size = vocab_size
        self.code_width = code_width
        self.codebook = nn.Embedding(vocab_size, code_width)
        nn.init.uniform_(self.codebook.weight, -1.0 / vocab_size, 1.0 / vocab_size)
        # Not in the state dict: the configuration says it.
        self.register_buffer("view", view, persistent=False)

    def forward(self, z: Float[Tensor, "B C H W"]) -> QuantizerOutput:
        """Replace each vector of the grid by its nearest code."""
        z = z.float()
        indices = self.nearest(z)
        codes = self.vectors(indices)
        return QuantizerOutput(straight_through(z, codes), indices, commitment_loss(z, codes))

    @torch.no_grad()
    def nearest(self, z: Float[Tensor, "B C H W"]) -> Int[Tensor, "B H W"]:
        """Index of the code with the least squared distance, |z|^2 + |e|^2 - 2 z.e."""
        codebook = self.codebook.weight.float()
        with torch.autocast(z.device.type, enabled=False):
            flat = rearrange(z, "B C H W -> (B H W) C")
            if self.view is not None:
                flat, codebook = flat @ self.view, codebook @ self.view
            distance = (
                flat.square().sum(dim=1, keepdim=True)
                + codebook.square().sum(dim=1)
                - 2.0 * flat @ codebook.T
            )
        _, _, height, width = z.shape
        return rearrange(distance.argmin(dim=1), "(B H W) -> B H W", H=height, W=width)

    def vectors(self, indices: Int[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """The codes' vectors."""
        return rearrange(self.codebook(indices), "B H W C -> B C H W")


class FiniteScalarQuantizer(nn.Module):
    """Round each of a few bounded scalars to one of its levels; there is no codebook to learn.

    Mentzer et al. 2023 (arXiv 2309.15505): bound(z) = tanh(z + shift) * half - offset, rounded to
    integers, where an even number of levels needs the offset 1/2. A code's vector is the integers
    divided by floor(levels / 2), so that it lies in [-1, 1].
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.vocab_size = math.prod(levels)
        self.code_width = len(levels)
        # Not in the state dict: the configuration says them.
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        place_value = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("basis", torch.tensor(place_value), persistent=False)

    def forward(self, z: Float[Tensor, "B S H W"]) -> QuantizerOutput:
        """Round each vector of the grid to the nearest point of the lattice."""
        bounded = self._bound(z.float())
        rounded = straight_through(bounded, bounded.round())
        half_width = self._column(self.levels // 2)
        digits = (rounded.detach() + half_width).long()
        indices = (digits * self._column(self.basis)).sum(dim=1)
        return QuantizerOutput(rounded / half_width, indices, torch.zeros_like(bounded[:, 0]))

    def vectors(self, indices: Int[Tensor, "B H W"]) -> Float[Tensor, "B S H W"]:
        """The codes' vectors."""
        levels, basis = self._column(self.levels), self._column(self.basis)
        digits = rearrange(indices, "B H W -> B 1 H W") // basis % levels
        half_width = levels // 2
        return (digits - half_width).float() / half_width

    def _bound(self, z: Tensor) -> Tensor:
        # The margin keeps tanh from having to saturate before the outermost level is reached.
        half = self._column(self.levels - 1) * (1.0 + 1e-3) / 2.0
        offset = 0.5 * (self._column(self.levels) % 2 == 0)
        shift = torch.atanh(offset / half)
        return torch.tanh(z + shift) * half - offset

    @staticmethod
    def _column(per_dimension: Tensor) -> Tensor:
        return rearrange(per_dimension, "S -> S 1 1")


Quantizer = VectorQuantizer | FiniteScalarQuantizer


def make_quantizer(
    kind: str,
    *,
    codebook_size: int,
    code_width: int,
    fsq_levels: tuple[int, ...],
    view: Float[Tensor, "C N"] | None = None,
) -> Quantizer:
    """Make the quantiser a configuration names; `view` is that of `VectorQuantizer`.

    Raises:
        UserError: the kind is unknown or its sizes make no vocabulary.
    """
    if kind == "vq":
        if codebook_size < 2:
            raise UserError(f"tokenizer codebook_size is {codebook_size}; a codebook needs at least 2 codes")
        return VectorQuantizer(codebook_size, code_width, view)
    if kind == "fsq":
        if not fsq_levels or min(fsq_levels) < 2:
            raise UserError(
                f"tokenizer fsq_levels is {fsq_levels}; give at least one level count, each 2 or more"
            )
        return FiniteScalarQuantizer(fsq_levels)
    raise UserError(f"unknown tokenizer quantizer {kind!r}; choose 'vq' or 'fsq'")
