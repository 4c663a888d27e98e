import dataclasses
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.errors import UserError
from tests.world_model.small_models import UNREGULARISED
from world_model.transformer import Block, Transformer, TransformerConfig, attend_causally

EMBEDDED = torch.randn(2, 9, UNREGULARISED.width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("changed", [0, 4, 8])
def test_a_token_changes_itself_and_what_follows_only(changed: int) -> None:
    torch.manual_seed(0)
    transformer = Transformer(UNREGULARISED).eval()
    other = EMBEDDED.clone()
    other[0, changed, 0] += 1.0  # one entry only: norms would not see a shift of all
    with torch.inference_mode():
        difference = (transformer(other) - transformer(EMBEDDED)).abs().amax(-1)
    assert (difference[0, :changed] == 0).all()
    assert (difference[0, changed:] > 1e-6).all()
    assert (difference[1] == 0).all()


@pytest.mark.parametrize("field", ["embedding_dropout", "residual_dropout", "attention_dropout"])
def test_dropout_acts_while_training_only(field: str) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(UNREGULARISED, **{field: 0.5})
    transformer = Transformer(config)
    with torch.inference_mode():
        transformer.train()
        assert not torch.equal(transformer(EMBEDDED), transformer(EMBEDDED))
        transformer.eval()
        assert torch.equal(transformer(EMBEDDED), transformer(EMBEDDED))


def test_normalisation_precedes_each_layer() -> None:
    """Scaling the input hardly changes what a block adds to it."""
    torch.manual_seed(0)
    block = Block(UNREGULARISED).eval()
    with torch.inference_mode():
        for parameter in block.mlp.parameters():
            parameter.zero_()  # the MLP sees the sum of both, so only attention's part is compared
        added = block(EMBEDDED, 0, None) - EMBEDDED
        added_to_scaled = block(100 * EMBEDDED, 0, None) - 100 * EMBEDDED
    assert added.abs().max() > 0.01
    torch.testing.assert_close(added_to_scaled, added, rtol=1e-2, atol=1e-3)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UserError, match="heads is 5; choose a divisor of width 16"):
        TransformerConfig(width=16, heads=5)


def attention_results(attend: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients, in float32, of attention under the same dropout."""
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(2, 3, 20, 8, generator=generator).to(dtype).requires_grad_()
        for _ in ("query", "key", "value")
    ]
    torch.manual_seed(1)
    output = attend(*inputs)
    return [result.float() for result in (output, *torch.autograd.grad(output.sum(), inputs))]


def test_attention_with_dropout_is_torchs_to_the_last_bit_and_nearly_so_in_bfloat16():
    def torchs(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=0.3, is_causal=True)

    ours = partial(attend_causally, dropout=0.3)
    expected = attention_results(torchs, torch.float32)
    for found, exact in zip(attention_results(ours, torch.float32), expected, strict=True):
        assert torch.equal(found, exact)
    for found, exact in zip(attention_results(ours, torch.bfloat16), expected, strict=True):
        assert 0 < (found - exact).norm() < 0.02 * exact.norm()
