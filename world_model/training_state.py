"""Where a training run stands, and how it begins: fresh, resumed, or from another run's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datasets.errors import UserError
from world_model.checkpoint import list_checkpoints, load_checkpoint
from world_model.lora import adapter_tensors, add_adapters, has_adapters, load_adapters, plain_model
from world_model.sizes import SIZES
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS
from world_model.train_config import TrainConfig
from world_model.training import step_seeds
from world_model.world_action_model import WorldActionConfig, WorldActionModel

_ADAPTER_PREFIX = "adapter/"


@dataclass(frozen=True)
class TrainingState:
    """Everything a run needs besides its configuration and data."""

    step: int
    """Steps done."""
    tokenizer: Tokenizer
    """On the training device."""
    model: WorldActionModel
    """On the training device; with low-rank adapters if the run trains these."""
    optimizer: dict[str, Tensor]
    """Moments to restore, if the state was read in the middle of a phase."""

    def plain_model(self) -> WorldActionModel:
        """The model as checkpoints hold it, adapters merged."""
        return plain_model(self.model)

    def resumable(self, moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a checkpoint holds for going on exactly: moments, and what merging the adapters loses."""
        adapters = adapter_tensors(self.model) if has_adapters(self.model) else {}
        return {**moments, **{_ADAPTER_PREFIX + name: tensor for name, tensor in adapters.items()}}

    def describe(self) -> str:
        """One line for people."""
        parameters = list(self.model.parameters())
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad) / 1e6
        return (
            f"model: {sum(parameter.numel() for parameter in parameters) / 1e6:.1f}M parameters, "
            f"{trained:.1f}M of them trained, {self.tokenizer.config.vocab_size} codes; at step {self.step}"
        )


def begin(config: TrainConfig, device: torch.device) -> TrainingState:
    """The state a run starts from.

    Raises:
        UserError: the run exists and is not resumed, there is nothing to resume, or the checkpoint does
            not fit the configuration.
    """
    existing = list_checkpoints(config.run)
    if config.resume:
        return _resumed(config, device)
    if existing:
        raise UserError(
            f"{config.run}: already holds {existing[-1].name}; add --resume or give another --run"
        )
    if config.from_checkpoint is None:
        torch.manual_seed(step_seeds(config.seed, 0)[0])
        tokenizer = Tokenizer(TOKENIZERS[config.tokenizer]).to(device)
        return TrainingState(0, tokenizer, fresh_model(config, tokenizer, device), {})
    return _from_other_run(config, device)


def fresh_model(config: TrainConfig, tokenizer: Tokenizer, device: torch.device) -> WorldActionModel:
    """A model of the configured size for this tokenizer, its weights drawn from the run's seed."""
    torch.manual_seed(step_seeds(config.seed, 0)[1])
    size = SIZES[config.size]
    low, high = config.value_range
    model_config: WorldActionConfig = replace(
        size,
        q_head=replace(size.q_head, value_min=low, value_max=high),
        vocab_size=tokenizer.config.vocab_size,
        tokens_per_frame=tokenizer.config.tokens_per_frame,
        max_blocks=config.context_frames,
        value_head=config.value_head,
    )
    return WorldActionModel(model_config).to(device)


def _resumed(config: TrainConfig, device: torch.device) -> TrainingState:
    checkpoint = load_checkpoint(config.run, device)
    model = checkpoint.model or fresh_model(config, checkpoint.tokenizer, device)
    adapters, moments = {}, {}
    for name, tensor in checkpoint.optimizer.items():
        if name.startswith(_ADAPTER_PREFIX):
            adapters[name.removeprefix(_ADAPTER_PREFIX)] = tensor
        else:
            moments[name] = tensor
    if config.lora_rank:
        add_adapters(model, config.lora_rank)
        load_adapters(model, adapters)
    return TrainingState(checkpoint.step, checkpoint.tokenizer, model, moments)


def _from_other_run(config: TrainConfig, device: torch.device) -> TrainingState:
    assert config.from_checkpoint is not None
    checkpoint = load_checkpoint(config.from_checkpoint, device)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer.config
    if model is None:
        raise UserError(f"{checkpoint.path}: holds a tokenizer only; train its world part first")
    if model.config.max_blocks < config.context_frames:
        raise UserError(
            f"{checkpoint.path}: its model takes {model.config.max_blocks} frames, "
            f"not {config.context_frames}; lower --context-frames"
        )
    for name in ("vocab_size", "tokens_per_frame"):
        needed, made = getattr(model.config, name), getattr(tokenizer, name)
        if needed != made:
            raise UserError(
                f"{checkpoint.path}: its model was trained with a {name} of {needed} and its tokenizer has "
                f"{made}; bring the two that were trained together into one checkpoint"
            )
    if config.lora_rank:
        torch.manual_seed(step_seeds(config.seed, 0)[1])
        add_adapters(model, config.lora_rank)
    return TrainingState(0, checkpoint.tokenizer, model, {})
