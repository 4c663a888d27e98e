"""Quantisers: nearest codes, the finite lattice, and gradients that go straight through."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from datasets.errors import UserError
from world_model.quantizers import (
    FiniteScalarQuantizer,
    VectorQuantizer,
    commitment_loss,
    make_quantizer,
    straight_through,
)


def grid(seed: int, channels: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(3, channels, 4, 5, generator=generator)


@pytest.fixture
def vector_quantizer() -> VectorQuantizer:
    quantizer = VectorQuantizer(vocab_size=11, code_width=4)
    with torch.no_grad():
        quantizer.codebook.weight.copy_(torch.randn(11, 4, generator=torch.Generator().manual_seed(1)))
    return quantizer


def test_a_vector_gets_its_nearest_code(vector_quantizer: VectorQuantizer):
    z = grid(0, 4)
    codebook = vector_quantizer.codebook.weight
    output = vector_quantizer(z)
    for row in range(z.shape[0]):
        for place in [(0, 0), (3, 4), (2, 1)]:
            vector = z[row, :, place[0], place[1]]
            nearest = (codebook - vector).square().sum(dim=1).argmin()
            assert output.indices[row, place[0], place[1]] == nearest
            torch.testing.assert_close(output.quantized[row, :, place[0], place[1]], codebook[nearest])


def test_a_code_is_its_own_nearest(vector_quantizer: VectorQuantizer):
    every_code = rearrange(torch.arange(11), "V -> 1 1 V")
    output = vector_quantizer(vector_quantizer.vectors(every_code))
    assert torch.equal(output.indices, every_code)
    assert output.loss.abs().max() == 0.0


def test_the_codebook_learns_from_the_commitment_loss_only(vector_quantizer: VectorQuantizer):
    output = vector_quantizer(grid(0, 4).requires_grad_())
    output.quantized.sum().backward(retain_graph=True)
    assert vector_quantizer.codebook.weight.grad is None
    output.loss.mean().backward()
    grad = vector_quantizer.codebook.weight.grad
    assert grad is not None
    used = output.indices.unique().tolist()
    unused = [code for code in range(11) if code not in used]
    assert (grad[used].abs().sum(dim=1) > 0).all()
    assert (grad[unused] == 0).all()


def test_commitment_pulls_both_sides_with_equal_weight():
    z = grid(0, 4).requires_grad_()
    codes = grid(1, 4).requires_grad_()
    loss = commitment_loss(z, codes)
    torch.testing.assert_close(loss, 2.0 * (z - codes).square().mean(dim=1))
    loss.sum().backward()
    assert z.grad is not None
    assert codes.grad is not None
    torch.testing.assert_close(z.grad, -codes.grad)


@pytest.mark.parametrize("kind", ["vq", "fsq"])
def test_the_gradient_of_what_follows_reaches_z(kind: str):
    quantizer = make_quantizer(kind, codebook_size=9, code_width=3, fsq_levels=(5, 4, 3))
    z = grid(2, 3, scale=0.3).requires_grad_()
    (quantizer(z).quantized * 2.0).sum().backward()
    assert z.grad is not None
    if kind == "vq":
        torch.testing.assert_close(z.grad, torch.full_like(z, 2.0))
    else:
        # Rounding is skipped, the bounding tanh is not: positive everywhere, at most its steepest slope.
        assert (z.grad > 0).all()
        assert (z.grad <= 2.0 * 1.6).all()


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    z = grid(0, 4).requires_grad_()
    rounded = straight_through(z, z.round())
    torch.testing.assert_close(rounded, z.detach().round())
    rounded.sum().backward()
    assert z.grad is not None
    assert (z.grad == 1).all()


@pytest.mark.parametrize("levels", [(8, 8, 5), (8, 8, 8), (3,), (2, 7, 4, 5)])
def test_indices_and_lattice_points_are_one_to_one(levels: tuple[int, ...]):
    quantizer = FiniteScalarQuantizer(levels)
    every_code = rearrange(torch.arange(quantizer.vocab_size), "V -> 1 1 V")
    vectors = quantizer.vectors(every_code)
    assert len(rearrange(vectors, "1 S 1 V -> V S").unique(dim=0)) == quantizer.vocab_size
    assert vectors.abs().max() <= 1.0
    # z whose bounded value is the lattice point itself: the inverse of the published bounding.
    half = (torch.tensor(levels) - 1) * (1 + 1e-3) / 2
    offset = torch.where(torch.tensor(levels) % 2 == 0, 0.5, 0.0)
    integers = rearrange(vectors, "1 S 1 V -> V S") * (torch.tensor(levels) // 2)
    z = torch.atanh((integers + offset) / half) - torch.atanh(offset / half)
    output = quantizer(rearrange(z, "V S -> 1 S 1 V"))
    assert torch.equal(output.indices, every_code)
    torch.testing.assert_close(output.quantized, vectors)
    assert (output.loss == 0).all()


def test_the_lattice_reaches_every_level_and_stays_inside():
    quantizer = FiniteScalarQuantizer((8, 5))
    ramp = torch.linspace(-50.0, 50.0, 2001)
    output = quantizer(torch.stack([ramp, ramp])[None, :, None])
    assert len(output.quantized[0, 0, 0].unique()) == 8
    assert len(output.quantized[0, 1, 0].unique()) == 5
    assert (output.quantized.diff(dim=-1) >= 0).all()
    assert output.indices.min() == 0
    assert output.indices.max() == 39


def test_tokens_do_not_depend_on_autocast(vector_quantizer: VectorQuantizer):
    z = grid(3, 4, scale=0.5)
    plain = vector_quantizer(z).indices
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(vector_quantizer(z).indices, plain)


@pytest.mark.parametrize(
    ("kind", "codes", "levels", "named"),
    [("vq", 1, (8,), "codebook_size"), ("fsq", 9, (8, 1), "fsq_levels"), ("pq", 9, (8,), "quantizer")],
)
def test_an_impossible_quantiser_is_refused(kind: str, codes: int, levels: tuple[int, ...], named: str):
    with pytest.raises(UserError, match=named):
        make_quantizer(kind, codebook_size=codes, code_width=4, fsq_levels=levels)
