"""Which optimiser takes which weights, and that its state outlives a checkpoint."""

import pytest
import torch
from torch import nn

from datasets.errors import UserError
from tests.world_model.small_models import random_model, small_config
from world_model.optimizer_state import optimizer_tensors, restore_optimizer
from world_model.optimizers import (
    OptimizerConfig,
    Together,
    block_matrices,
    make_optimizer,
    set_learning_rate,
)
from world_model.world_action_model import WorldActionModel

MUON = OptimizerConfig(1e-2, blocks="muon", weight_decay=0.1)


def step(model: WorldActionModel, optimizer: Together, seed: int) -> None:
    """One step along gradients drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def made(model: nn.Module) -> Together:
    optimizer = make_optimizer(model, MUON)
    assert isinstance(optimizer, Together)
    return optimizer


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_all_else():
    model = random_model(small_config())
    _, muon = made(model).parts
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = sorted(names[id(p)] for group in muon.param_groups for p in group["params"])
    layers = ("query", "key", "value", "output")
    blocks = range(model.config.transformer.layers)
    expected = [f"transformer.blocks.{i}.attention.{layer}.weight" for i in blocks for layer in layers]
    expected += [f"transformer.blocks.{i}.mlp.{layer}.weight" for i in blocks for layer in (0, 2)]
    assert taken == sorted(expected)
    every = [id(p) for group in made(model).param_groups for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_what_is_frozen_is_left_alone():
    model = random_model(small_config())
    model.transformer.blocks[0].requires_grad_(False)
    assert len(list(block_matrices(model))) == 6 * (model.config.transformer.layers - 1)


def test_without_muon_there_is_one_optimiser():
    assert isinstance(make_optimizer(random_model(small_config()), OptimizerConfig()), torch.optim.AdamW)


def test_a_step_of_muon_is_nearly_orthogonal_and_in_its_own_units():
    model = random_model(small_config())
    optimizer = make_optimizer(model, OptimizerConfig(blocks="muon", weight_decay=0.0, muon_rate=2.0))
    assert isinstance(optimizer, Together)
    set_learning_rate(optimizer, 0.01)
    weight = next(block_matrices(model))
    before = weight.detach().clone()
    step(model, optimizer, 0)
    # Steps of 0.2 as root mean square in units of the rate, as AdamW's are; Newton-Schulz is coarse.
    values = torch.linalg.svdvals(weight.detach() - before) / (0.02 * 0.2 * max(weight.shape) ** 0.5)
    assert values.min() > 0.4
    assert values.max() < 1.6


def test_a_restored_optimiser_goes_on_bit_for_bit():
    model, again = random_model(small_config()), random_model(small_config(), seed=7)
    optimizer = made(model)
    for seed in range(2):
        step(model, optimizer, seed)
    again.load_state_dict(model.state_dict())
    restored = made(again)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, model).items()}
    restore_optimizer(restored, again, saved)
    for each, of in ((model, optimizer), (again, restored)):
        set_learning_rate(of, 0.003)
        step(each, of, 9)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_moments_of_a_stranger_are_refused():
    model = random_model(small_config())
    with pytest.raises(UserError, match=r"unknown parameter 'stranger'"):
        restore_optimizer(made(model), model, {"stranger.exp_avg": torch.zeros(1)})
