"""Training steps and forward passes of small networks drawn at random: programs to learn memory mapping from.

Each is a callable and its inputs, as `torch_trace` takes them. Five kinds: linear layers, convolutions with
and without shortcuts, transformer layers, recurrent cells, and random expressions of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Source = tuple[Callable, list[Tensor]]
Network = Callable[[Tensor, list[Tensor]], Tensor]

RATE = 0.01


def random_model(seed: int) -> tuple[str, Source]:
    """Draw a model; its kind and what `torch_trace` takes. The same seed draws the same model."""
    random = np.random.default_rng(seed)
    kinds = {
        "linear": _linear_layers,
        "convolutions": _convolutions,
        "transformer": _transformer,
        "recurrent": _recurrent,
        "expression": _expression,
    }
    kind = list(kinds)[seed % len(kinds)]
    network, inputs, shapes = kinds[kind](random)
    weights = [torch.empty(shape) for shape in shapes]
    if kind == "expression" or random.random() < 0.15:
        return kind, (lambda data, *rest: network(data, list(rest)), [inputs, *weights])
    if random.random() < 0.4:
        return kind, (_adam_step(network, len(weights)), [inputs, *weights, *weights_like(2 * weights)])
    return kind, (_gradient_step(network), [inputs, *weights])


def weights_like(weights: list[Tensor]) -> list[Tensor]:
    """New tensors of the same sizes."""
    return [torch.empty_like(weight) for weight in weights]


def _gradient_step(network: Network) -> Callable:
    def step(data: Tensor, *weights: Tensor) -> list[Tensor]:
        leaves = [weight.detach().requires_grad_() for weight in weights]
        gradients = torch.autograd.grad(network(data, leaves).square().mean(), leaves)
        return [weight - RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)]

    return step


def _adam_step(network: Network, count: int) -> Callable:
    def step(data: Tensor, *state: Tensor) -> list[Tensor]:
        weights, means, squares = state[:count], state[count : 2 * count], state[2 * count :]
        leaves = [weight.detach().requires_grad_() for weight in weights]
        gradients = torch.autograd.grad(network(data, leaves).square().mean(), leaves)
        changed = []
        for weight, mean, square, gradient in zip(weights, means, squares, gradients, strict=True):
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient * gradient
            changed += [weight - RATE * mean / (square.sqrt() + 1e-8), mean, square]
        return changed

    return step


def _power(random: np.random.Generator, low: int, high: int) -> int:
    return 2 ** int(random.integers(low, high + 1))


def _activation(random: np.random.Generator) -> Callable:
    return [functional.relu, functional.gelu, torch.tanh, functional.silu][int(random.integers(4))]


def _linear_layers(random: np.random.Generator):
    widths = [_power(random, 6, 10) for _ in range(int(random.integers(3, 9)))]
    activation = _activation(random)

    def network(hidden: Tensor, weights: list[Tensor]) -> Tensor:
        for weight in weights[:-1]:
            hidden = activation(hidden @ weight)
        return hidden @ weights[-1]

    return network, torch.empty(_power(random, 5, 9), widths[0]), list(pairwise(widths))


def _convolutions(random: np.random.Generator):
    channels, batch, side = _power(random, 4, 6), _power(random, 2, 5), _power(random, 4, 6)
    layers, has_shortcuts = int(random.integers(2, 7)), bool(random.random() < 0.6)
    strides = [int(random.random() < 0.3) + 1 for _ in range(layers)]
    activation = _activation(random)
    shapes, width = [(channels, 3, 3, 3)], channels
    for stride in strides:
        shapes.append((width * stride, width, 3, 3))
        width *= stride

    def network(hidden: Tensor, weights: list[Tensor]) -> Tensor:
        hidden = activation(functional.conv2d(hidden, weights[0], padding=1))
        for weight, stride in zip(weights[1:], strides, strict=True):
            after = functional.conv2d(functional.group_norm(hidden, 4), weight, stride=stride, padding=1)
            hidden = activation(after + hidden if has_shortcuts and stride == 1 else after)
        return hidden.mean((2, 3))

    return network, torch.empty(batch, 3, side, side), shapes


def _transformer(random: np.random.Generator):
    width, length, batch = _power(random, 6, 8), _power(random, 5, 7), _power(random, 1, 4)
    layers, factor, heads = int(random.integers(1, 5)), int(random.integers(2, 5)), 4
    activation = _activation(random)
    layer = [(width, 3 * width), (width, width), (width, factor * width), (factor * width, width)]

    def network(hidden: Tensor, weights: list[Tensor]) -> Tensor:
        for begin in range(0, len(weights), 4):
            project, out, expand, contract = weights[begin : begin + 4]
            mixed = (functional.layer_norm(hidden, (width,)) @ project).reshape(
                batch, length, 3, heads, width // heads
            )
            queries, keys, values = mixed.permute(2, 0, 3, 1, 4).unbind()
            scores = (queries @ keys.transpose(-1, -2) * (width // heads) ** -0.5).softmax(-1)
            hidden = hidden + (scores @ values).transpose(1, 2).reshape(batch, length, width) @ out
            hidden = hidden + activation(functional.layer_norm(hidden, (width,)) @ expand) @ contract
        return hidden

    return network, torch.empty(batch, length, width), layer * layers


def _recurrent(random: np.random.Generator):
    width, batch, steps = _power(random, 6, 9), _power(random, 4, 7), int(random.integers(3, 9))
    is_gated = bool(random.random() < 0.5)

    def network(data: Tensor, weights: list[Tensor]) -> Tensor:
        hidden = data[0]
        for now in data[1:].unbind():
            if is_gated:
                gate = torch.sigmoid(now @ weights[0] + hidden @ weights[1])
                hidden = gate * hidden + (1 - gate) * torch.tanh(now @ weights[2] + hidden @ weights[3])
            else:
                hidden = torch.tanh(now @ weights[0] + hidden @ weights[1])
        return hidden @ weights[-1]

    shapes = [(width, width)] * (5 if is_gated else 3)
    return network, torch.empty(steps + 1, batch, width), shapes


def _expression(random: np.random.Generator):
    """Sums, products and functions of what was computed before, the newer the likelier."""
    width, count, inputs = _power(random, 6, 9), int(random.integers(30, 220)), int(random.integers(3, 9))
    plan = []
    for known in range(inputs, inputs + count):
        one, two = (known - 1 - int(random.exponential(6)) % known for _ in range(2))
        plan.append(([torch.matmul, torch.add, torch.sub, torch.mul][int(random.integers(4))], one, two))

    def network(data: Tensor, weights: list[Tensor]) -> Tensor:
        values = [data, *weights]
        for operation, one, two in plan:
            a, b = values[one], values[two]
            values.append(operation(a, b))
        return sum(values[-4:], start=values[-5])

    return network, torch.empty(width, width), [(width, width)] * (inputs - 1)
