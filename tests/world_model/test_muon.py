"""Muon's step: the singular vectors of the momentum, singular values about 1, sizes as AdamW's."""

import pytest
import torch

from world_model.muon import Muon, orthogonalised

SHAPES = [(6, 6), (24, 6), (6, 24)]


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_singular_values_come_near_1(shape: tuple[int, int]):
    matrix = seeded(*shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ orthogonalised(matrix) @ right.T
    torch.testing.assert_close(values, values.diagonal().diag(), atol=1e-4, rtol=0)
    assert values.diagonal().min() > 0.6
    assert values.diagonal().max() < 1.3
    torch.testing.assert_close(orthogonalised(1e6 * matrix), orthogonalised(matrix), atol=1e-4, rtol=1e-4)


def test_no_gradient_at_all_moves_nothing():
    assert not orthogonalised(torch.zeros(4, 3)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
def test_steps_are_those_of_torch_up_to_its_bfloat16():
    ours = [torch.nn.Parameter(seeded(*shape)) for shape in SHAPES]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in ours]
    options = {"lr": 0.02, "weight_decay": 0.1}
    optimizers = Muon(ours, **options), torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options)
    for step in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = seeded(*a.shape, seed=step)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b, shape in zip(ours, theirs, SHAPES, strict=True):
        moved = (a - seeded(*shape)).norm()
        assert (a - b).norm() < 0.02 * moved


def test_momentum_remembers_and_weights_without_gradient_stay():
    weight, still = (torch.nn.Parameter(seeded(4, 4)) for _ in range(2))
    optimizer = Muon([weight, still], lr=0.1)
    weight.grad = seeded(4, 4, seed=1)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["mean_gradient"], 0.05 * seeded(4, 4, seed=1))
    weight.grad = torch.zeros(4, 4)
    before = weight.detach().clone()
    optimizer.step()
    step = before - weight.detach()
    torch.testing.assert_close(step, 0.1 * 0.2 * 2 * orthogonalised(seeded(4, 4, seed=1)))
    assert torch.equal(still, seeded(4, 4))
