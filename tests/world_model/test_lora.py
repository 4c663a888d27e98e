"""Low-rank adapters: what is trained, what merging gives, what is put back."""

import pytest
import torch
from torch import nn

pytest.importorskip("peft", reason="the extra `lora` is not installed")

from datasets.errors import UserError
from tests.world_model.loss_loops import small_batch, small_model
from world_model.lora import (
    TRAINED_WHOLE,
    adapter_tensors,
    add_adapters,
    has_adapters,
    load_adapters,
    plain_model,
)
from world_model.losses import LossConfig, compute_loss
from world_model.optimizers import OptimizerConfig, make_optimizer
from world_model.world_action_model import WorldActionModel

ROWS = ((0, 5, True), (0, 5, False))


def adapted(rank: int = 2, seed: int = 0) -> WorldActionModel:
    torch.manual_seed(seed)
    model = small_model(value_head=True)
    add_adapters(model, rank)
    return model


def trained(model: WorldActionModel, steps: int = 2) -> WorldActionModel:
    optimizer = make_optimizer(model, OptimizerConfig(1e-2))
    for _ in range(steps):
        optimizer.zero_grad()
        compute_loss(model, small_batch(ROWS), LossConfig(), train_q=True).total.backward()
        optimizer.step()
    return model


def loss_of(model: WorldActionModel) -> float:
    with torch.no_grad():
        return compute_loss(model, small_batch(ROWS), LossConfig(), train_q=True).total.item()


def test_adapters_are_of_no_effect_at_first():
    before = loss_of(small_model(value_head=True))
    model = adapted()
    assert has_adapters(model)
    assert not has_adapters(small_model())
    assert loss_of(model) == pytest.approx(before, rel=1e-6)


def test_adapters_and_what_new_games_need_are_trained_and_nothing_else():
    model = adapted()
    for name, parameter in model.named_parameters():
        expected = ".lora_" in name or name.startswith(tuple(f"{whole}." for whole in TRAINED_WHOLE))
        assert parameter.requires_grad == expected, name
    layers = {
        name for name, module in small_model(value_head=True).named_modules() if isinstance(module, nn.Linear)
    }
    assert {name.split(".lora_")[0] for name in adapter_tensors(model) if ".lora_" in name} == layers


def test_every_adapter_is_reached_by_the_gradient_and_every_frozen_weight_stays():
    before = {name: tensor.clone() for name, tensor in adapted().state_dict().items()}
    after = trained(adapted()).state_dict()
    for name, tensor in after.items():
        frozen = ".lora_" not in name and not name.startswith(TRAINED_WHOLE)
        assert torch.equal(tensor, before[name]) == (frozen or "head_q_target" in name), name


def test_the_plain_model_computes_the_same_from_ordinary_tensors():
    model = trained(adapted())
    plain = plain_model(model)
    assert plain.state_dict().keys() == small_model(value_head=True).state_dict().keys()
    assert not plain.training
    assert loss_of(plain) == pytest.approx(loss_of(model), rel=1e-5)
    again = plain_model(trained(model), into=plain)
    assert again is plain
    assert loss_of(plain) == pytest.approx(loss_of(model), rel=1e-5)
    assert plain_model(plain) is plain


def test_adapters_put_back_over_merged_weights_give_the_same_bits():
    model = trained(adapted())
    other = plain_model(model)
    add_adapters(other, 2)
    load_adapters(other, adapter_tensors(model))
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("saved_rank", [1, 3])
def test_adapters_of_another_rank_are_refused(saved_rank):
    with pytest.raises(UserError, match="low-rank adapters is missing or of another shape"):
        load_adapters(adapted(2), adapter_tensors(adapted(saved_rank)))
    with pytest.raises(UserError, match="low-rank adapters is missing"):
        load_adapters(adapted(2), {})
