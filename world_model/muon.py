"""Muon: momentum whose step is made orthogonal, so that all directions of a matrix are learned at one pace.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; steps are scaled to the size
of AdamW's as by Liu et al. 2025, "Muon is Scalable for LLM Training" (arXiv 2502.16982).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial that is iterated (Jordan et al.): steep at 0, and within a third of 1 near 1."""
ITERATIONS = 5
ROOT_MEAN_SQUARE = 0.2
"""Of a step in units of the learning rate, as AdamW's are (Liu et al.)."""


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    `torch.optim.Muon` computes in bfloat16, which a CPU without AVX-512 only emulates: the step of a tiny
    model took it 99 ms there. On a CPU this one computes in float32.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        """Optimise some matrices.

        Args:
            params: weights [outputs, inputs], or groups of them.
            lr: learning rate.
            weight_decay: share of the weights that goes in a step, in units of the learning rate.
            momentum: share of the mean gradient that is kept in a step.
        """
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  no closure
        """Move all weights that have a gradient."""
        for group in self.param_groups:
            rate, keep = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if not self.state[weight]:
                    self.state[weight]["mean_gradient"] = torch.zeros_like(weight.grad)
                mean = self.state[weight]["mean_gradient"]
                mean.lerp_(weight.grad, 1 - keep)
                direction = orthogonalised(weight.grad.lerp(mean, keep))
                size = ROOT_MEAN_SQUARE * math.sqrt(max(weight.shape))
                weight.mul_(1 - rate * group["weight_decay"]).add_(direction, alpha=-rate * size)


def orthogonalised(matrix: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
    """A matrix with the same singular vectors, its singular values about 1, by Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    x = matrix if matrix.device.type == "cpu" else matrix.bfloat16()
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)
