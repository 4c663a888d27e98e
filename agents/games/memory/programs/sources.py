"""PyTorch functions behind the packaged programs; each returns a callable and its inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Source = tuple[Callable, list[Tensor]]

RATE = 0.01


def convolution_step() -> Source:
    """A step of gradient descent of three convolutions and a linear layer."""

    def step(images: Tensor, labels: Tensor, *weights: Tensor) -> list[Tensor]:
        leaves = [weight.detach().requires_grad_() for weight in weights]
        hidden = images
        for kernel in leaves[:3]:
            hidden = functional.relu(functional.conv2d(hidden, kernel, stride=2, padding=1))
        loss = functional.cross_entropy(hidden.mean((2, 3)) @ leaves[3], labels)
        return _descend(loss, leaves)

    kernels = [torch.empty(32, 3, 3, 3), torch.empty(64, 32, 3, 3), torch.empty(128, 64, 3, 3)]
    labels = torch.zeros(16, dtype=torch.int64)
    return step, [torch.empty(16, 3, 64, 64), labels, *kernels, torch.empty(128, 10)]


def transformer_step() -> Source:
    """A step of gradient descent of two transformer layers."""

    def step(inputs: Tensor, targets: Tensor, *weights: Tensor) -> list[Tensor]:
        leaves = [weight.detach().requires_grad_() for weight in weights]
        hidden = inputs
        for begin in range(0, len(leaves), 4):
            hidden = _transformer_layer(hidden, *leaves[begin : begin + 4])
        return _descend(functional.mse_loss(hidden, targets), leaves)

    layer = [torch.empty(128, 384), torch.empty(128, 128), torch.empty(128, 512), torch.empty(512, 128)]
    return step, [torch.empty(4, 64, 128), torch.empty(4, 64, 128), *layer, *layer_like(layer)]


def adam_step() -> Source:
    """A step of Adam of a network of four linear layers."""

    def step(inputs: Tensor, targets: Tensor, *state: Tensor) -> list[Tensor]:
        weights, means, squares = state[:4], state[4:8], state[8:]
        leaves = [weight.detach().requires_grad_() for weight in weights]
        hidden = inputs
        for weight in leaves[:3]:
            hidden = functional.gelu(hidden @ weight)
        gradients = torch.autograd.grad(functional.mse_loss(hidden @ leaves[3], targets), leaves)
        changed = []
        for weight, mean, square, gradient in zip(weights, means, squares, gradients, strict=True):
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient * gradient
            changed += [weight - RATE * mean / (square.sqrt() + 1e-8), mean, square]
        return changed

    sizes = [(128, 512), (512, 512), (512, 256), (256, 64)]
    state = [torch.empty(size) for _ in range(3) for size in sizes]
    return step, [torch.empty(128, 128), torch.empty(128, 64), *state]


def layer_like(weights: list[Tensor]) -> list[Tensor]:
    """Weights of another layer of the same sizes."""
    return [torch.empty_like(weight) for weight in weights]


def _transformer_layer(
    hidden: Tensor, project: Tensor, out: Tensor, expand: Tensor, contract: Tensor
) -> Tensor:
    batch, length, width = hidden.shape
    parts = (functional.layer_norm(hidden, (width,)) @ project).reshape(batch, length, 3, 4, width // 4)
    queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind()
    scores = (queries @ keys.transpose(-1, -2) * (width // 4) ** -0.5).softmax(-1)
    hidden = hidden + (scores @ values).transpose(1, 2).reshape(batch, length, width) @ out
    return hidden + functional.gelu(functional.layer_norm(hidden, (width,)) @ expand) @ contract


def _descend(loss: Tensor, weights: list[Tensor]) -> list[Tensor]:
    gradients = torch.autograd.grad(loss, weights)
    return [weight.detach() - RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)]
