from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from world_model.packed_linear import SMALLEST_PACKED, PackedLinear, padded_rows

ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}


@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("shape", [(24, 16), (512, 256)])
def test_it_is_the_plain_layer_whatever_the_rows(shape: tuple[int, int], activation: str) -> None:
    assert (shape[0] * shape[1] >= SMALLEST_PACKED) == (shape[0] == 512)  # both ways are tried
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator) / shape[1] ** 0.5
    bias = torch.randn(shape[0], generator=generator)
    layer = PackedLinear(weight, bias, activation)
    with torch.inference_mode():
        for rows in (1, 2, 4, 7, 65, 100):
            x = torch.randn(rows, shape[1], generator=generator)
            expected = ACTIVATIONS[activation](F.linear(x, weight, bias))
            torch.testing.assert_close(layer(x), expected, atol=2e-6, rtol=1e-5)


def test_bfloat16_layers_take_and_give_rows_of_any_number() -> None:
    weight, bias = torch.randn(8, 16).bfloat16(), torch.randn(8).bfloat16()
    with torch.inference_mode():
        for rows in (1, 5, 66):
            x = torch.randn(rows, 16)
            y = PackedLinear(weight, bias, "relu")(x)
            assert y.dtype == torch.bfloat16
            expected = F.relu(F.linear(x.bfloat16().float(), weight.float(), bias.float()))
            torch.testing.assert_close(y.float(), expected, atol=0.05, rtol=0.02)


def test_later_changes_of_the_weights_are_not_followed() -> None:
    for shape in ((8, 16), (512, 256)):
        weight, bias, x = torch.randn(shape), torch.randn(shape[0]), torch.randn(4, shape[1])
        with torch.inference_mode():
            layer = PackedLinear(weight, bias)
            before = layer(x)
            weight.zero_()
            bias.zero_()
            torch.testing.assert_close(layer(x), before, atol=0, rtol=0)


def test_there_are_few_numbers_of_rows() -> None:
    padded = [padded_rows(rows) for rows in range(1, 297)]
    assert all(rows <= wide <= max(4, 1.34 * rows + 3) for rows, wide in enumerate(padded, start=1))
    assert len(set(padded)) < 30
