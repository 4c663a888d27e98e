"""PyTorch functions behind the programs that the memory-mapping network never learns from.

Each returns a callable and its inputs, for `python -m datasets.programs torch benchmarks.unseen_models:NAME`.
None has the shape of a network in `datasets.program_sources.random_models`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Source = tuple[Callable, list[Tensor]]

RATE = 1e-3


def autoencoder_step() -> Source:
    """Gradient descent of an encoder and decoder of convolutions with skips between them."""

    def loss(images: Tensor, weights: list[Tensor]) -> Tensor:
        down, hidden = [], images
        for weight in weights[:4]:
            hidden = functional.leaky_relu(functional.conv2d(hidden, weight, stride=2, padding=1))
            down.append(hidden)
        for weight, skip in zip(weights[4:7], down[2::-1], strict=True):
            hidden = functional.leaky_relu(functional.conv_transpose2d(hidden, weight, stride=2)) + skip
        return functional.mse_loss(functional.conv_transpose2d(hidden, weights[7], stride=2), images)

    sizes = [(32, 3, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3)]
    sizes += [(256, 128, 2, 2), (128, 64, 2, 2), (64, 32, 2, 2), (32, 3, 2, 2)]
    return _descent(loss), [torch.empty(16, 3, 64, 64), *map(torch.empty, sizes)]


def mixer_step() -> Source:
    """Gradient descent of four layers that mix patches, then channels."""

    def loss(patches: Tensor, weights: list[Tensor]) -> Tensor:
        hidden = patches @ weights[0]
        for begin in range(1, len(weights), 4):
            one, two, three, four = weights[begin : begin + 4]
            normed = functional.layer_norm(hidden, (256,)).transpose(1, 2)
            hidden = hidden + (functional.gelu(normed @ one) @ two).transpose(1, 2)
            hidden = hidden + functional.gelu(functional.layer_norm(hidden, (256,)) @ three) @ four
        return hidden.mean(1).square().mean()

    layer = [(64, 128), (128, 64), (256, 1024), (1024, 256)]
    return _descent(loss), [torch.empty(32, 64, 192), torch.empty(192, 256), *map(torch.empty, 4 * layer)]


def decoder_adam_step() -> Source:
    """Adam of four transformer layers with gated linear units, root-mean-square norms and shared keys."""

    def loss(hidden: Tensor, weights: list[Tensor]) -> Tensor:
        for begin in range(0, len(weights), 6):
            queries, shared, out, gate, up, down = weights[begin : begin + 6]
            normed = functional.rms_norm(hidden, (256,))
            asked = (normed @ queries).reshape(4, 128, 8, 32).transpose(1, 2)
            keys, values = (normed @ shared).reshape(4, 1, 128, 64).chunk(2, dim=-1)
            scores = (asked @ keys.transpose(-1, -2) * 32**-0.5).softmax(-1)
            hidden = hidden + (scores @ values).transpose(1, 2).reshape(4, 128, 256) @ out
            normed = functional.rms_norm(hidden, (256,))
            hidden = hidden + (functional.silu(normed @ gate) * (normed @ up)) @ down
        return hidden.square().mean()

    layer = [(256, 256), (256, 64), (256, 256), (256, 640), (256, 640), (640, 256)]
    weights = [torch.empty(size) for size in 4 * layer]
    return _adam(loss, len(weights)), [torch.empty(4, 128, 256), *_three_times(weights)]


def dense_convolutions_step() -> Source:
    """Gradient descent of twelve convolutions, each of which sees the results of all before it."""

    def loss(images: Tensor, weights: list[Tensor]) -> Tensor:
        hidden = functional.conv2d(images, weights[0], padding=1)
        for number, weight in enumerate(weights[1:]):
            normed = functional.group_norm(hidden, 8)
            hidden = torch.cat([hidden, functional.conv2d(functional.relu(normed), weight, padding=1)], dim=1)
            if number == 5:
                hidden = functional.avg_pool2d(hidden, 2)
        return hidden.mean((2, 3)).square().mean()

    sizes = [(32, 3, 3, 3), *((16, 32 + 16 * number, 3, 3) for number in range(12))]
    return _descent(loss), [torch.empty(16, 3, 32, 32), *map(torch.empty, sizes)]


def lstm_adam_step() -> Source:
    """Adam of two stacked layers of long short-term memory, eight steps unrolled."""

    def loss(data: Tensor, weights: list[Tensor]) -> Tensor:
        sequence = list(data.unbind())
        for layer in range(2):
            read, carry = weights[2 * layer : 2 * layer + 2]
            hidden, cell = torch.zeros_like(sequence[0]), torch.zeros_like(sequence[0])
            after = []
            for now in sequence:
                opened, kept, shown, new = (now @ read + hidden @ carry).chunk(4, dim=-1)
                cell = torch.sigmoid(kept) * cell + torch.sigmoid(opened) * torch.tanh(new)
                hidden = torch.sigmoid(shown) * torch.tanh(cell)
                after.append(hidden)
            sequence = after
        return (sequence[-1] @ weights[4]).square().mean()

    weights = [torch.empty(256, 1024) for _ in range(4)] + [torch.empty(256, 64)]
    return _adam(loss, len(weights)), [torch.empty(8, 64, 256), *_three_times(weights)]


def message_passing_step() -> Source:
    """Gradient descent of three rounds of messages between the nodes of a dense graph."""

    def loss(nodes: Tensor, weights: list[Tensor]) -> Tensor:
        links, hidden = weights[0].softmax(-1), nodes
        for message, update, gate in zip(weights[1::3], weights[2::3], weights[3::3], strict=True):
            heard = links @ functional.relu(hidden @ message)
            opened = torch.sigmoid(hidden @ gate)
            hidden = opened * hidden + (1 - opened) * torch.tanh((hidden + heard) @ update)
        return hidden.square().mean()

    sizes = [(512, 512), *9 * [(128, 128)]]
    return _descent(loss), [torch.empty(512, 128), *map(torch.empty, sizes)]


UNSEEN = {
    autoencoder_step: 0.25,
    mixer_step: 0.25,
    decoder_adam_step: 0.1,
    dense_convolutions_step: 0.25,
    lstm_adam_step: 0.25,
    message_passing_step: 0.5,
}
"""The functions, and fast memory as a share of the most bytes alive at once."""


def _three_times(weights: list[Tensor]) -> list[Tensor]:
    """Weights and two moments of each."""
    return [torch.empty_like(weight) for _ in range(3) for weight in weights]


def _descent(loss: Callable[[Tensor, list[Tensor]], Tensor]) -> Callable:
    def step(data: Tensor, *weights: Tensor) -> list[Tensor]:
        leaves = [weight.detach().requires_grad_() for weight in weights]
        gradients = torch.autograd.grad(loss(data, leaves), leaves)
        return [weight - RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)]

    return step


def _adam(loss: Callable[[Tensor, list[Tensor]], Tensor], count: int) -> Callable:
    def step(data: Tensor, *state: Tensor) -> list[Tensor]:
        weights, means, squares = state[:count], state[count : 2 * count], state[2 * count :]
        leaves = [weight.detach().requires_grad_() for weight in weights]
        gradients = torch.autograd.grad(loss(data, leaves), leaves)
        changed = []
        for weight, mean, square, gradient in zip(weights, means, squares, gradients, strict=True):
            mean = torch.lerp(mean, gradient, 0.1)
            square = 0.999 * square + 0.001 * gradient.square()
            changed += [weight - RATE * mean * (square + 1e-16).rsqrt(), mean, square]
        return changed

    return step
