"""Fine-tuning by low-rank changes to the linear layers, through the library peft.

Letters: I inputs and O outputs of a linear layer, R rank.

A layer's weight W [O I] is frozen and W + 2 B A is computed with, where B [O R] starts at 0 and A [R I]
at random: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685). Some
modules are trained whole, as a new game brings what they never saw: its own task, other actions, rare
codes, and other values of play.

Adapters live inside the model while it trains. Everything that reads weights itself, such as planners and
checkpoints, gets a plain model, into which the changes are merged (`plain_model`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import torch
from torch import Tensor, nn

from datasets.errors import UserError
from world_model.world_action_model import WorldActionModel

TRAINED_WHOLE = (
    "observation_embedding",
    "action_embedding",
    "observation_task_embedding",
    "action_task_embedding",
    "head_q",
    "head_value",
)
"""Modules that are trained as they are beside the adapters; not every model has the last."""
SCALE = 2
"""Factor on a change, peft's `lora_alpha` over the rank."""
_ADAPTER = "default"
_FROZEN = ".base_layer.weight"


def add_adapters(model: WorldActionModel, rank: int) -> None:
    """Freeze a model and give its linear layers trainable changes, which are 0 at first.

    Args:
        model: changed in place; A is drawn from torch's global generator.
        rank: R, at least 1.

    Raises:
        UserError: peft is not installed.
    """
    peft = _import_peft()
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, lora_dropout=0.0, target_modules=linear)
    peft.inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    for name, module in model.named_children():
        if name in TRAINED_WHOLE:
            module.requires_grad_(True)


def has_adapters(model: WorldActionModel) -> bool:
    """Whether `add_adapters` has been at a model."""
    return any(name.endswith(_FROZEN) for name, _ in model.named_parameters())


def adapter_tensors(model: WorldActionModel) -> dict[str, Tensor]:
    """What a plain copy of the model lacks: A and B of each layer, and the weight before the change.

    Merging rounds, so the weights before it cannot be had from those after it to the last bit.
    """
    return {name: tensor for name, tensor in model.state_dict().items() if _is_of_adapter(name)}


def load_adapters(model: WorldActionModel, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `adapter_tensors` gave, into a model that `add_adapters` has been at.

    Raises:
        UserError: the tensors are of another model or rank.
    """
    expected = adapter_tensors(model)
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected or tensors[name].shape != expected[name].shape:
            raise UserError(
                f"optimizer.safetensors: tensor {name!r} of the low-rank adapters is missing or of another "
                "shape; resume with the same model and lora_rank"
            )
    model.load_state_dict(dict(tensors), strict=False)


def plain_model(model: WorldActionModel, into: WorldActionModel | None = None) -> WorldActionModel:
    """A model without adapters that computes the same: a copy in evaluation mode, for use, not training.

    Args:
        model: with or without adapters; without, it is returned itself.
        into: an earlier copy, to be filled again.
    """
    if not has_adapters(model):
        return model
    if into is None:
        with torch.device("meta"):
            into = WorldActionModel(model.config)
        into = into.to_empty(device=model.position_embedding.weight.device).eval().requires_grad_(False)
    into.load_state_dict(_merged(model))
    return into


def _merged(model: WorldActionModel) -> dict[str, Tensor]:
    """The tensors of a plain model, with W + 2 B A in the place of each W."""
    state = model.state_dict()
    merged = {}
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        if name.endswith(_FROZEN):
            layer = name.removesuffix(_FROZEN)
            down, up = (state[f"{layer}.lora_{part}.{_ADAPTER}.weight"] for part in "AB")
            tensor = tensor + SCALE * (up @ down)
        merged[name.replace(".base_layer.", ".")] = tensor
    return merged


def _is_of_adapter(name: str) -> bool:
    return ".lora_" in name or name.endswith(_FROZEN)


def _import_peft() -> ModuleType:
    try:
        import peft  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            'lora_rank needs the library peft, which is not installed; run pip install -e ".[lora]"'
        ) from error
    return peft
