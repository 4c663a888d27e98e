"""Where a training run stands, and how it begins: fresh, resumed, or from another run's weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datasets.errors import UserError
from world_model.checkpoint import list_checkpoints, load_checkpoint
from world_model.recipes import TrainConfig
from world_model.sizes import SIZES
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS
from world_model.training import step_seeds
from world_model.world_action_model import WorldActionConfig, WorldActionModel


@dataclass(frozen=True)
class TrainingState:
    """Everything a run needs besides its configuration and data."""

    step: int
    """Steps done."""
    tokenizer: Tokenizer
    """On the training device."""
    model: WorldActionModel
    """On the training device."""
    optimizer: dict[str, Tensor]
    """Moments to restore, if the state was read in the middle of a phase."""

    def describe(self) -> str:
        """One line for people."""
        million = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        return (
            f"model: {million:.1f}M parameters, {self.tokenizer.config.vocab_size} codes; at step {self.step}"
        )


def begin(config: TrainConfig, device: torch.device) -> TrainingState:
    """The state a run starts from.

    Raises:
        UserError: the run exists and is not resumed, there is nothing to resume, or the checkpoint does
            not fit the configuration.
    """
    existing = list_checkpoints(config.run)
    if config.resume:
        checkpoint = load_checkpoint(config.run, device)
        return TrainingState(
            checkpoint.step,
            checkpoint.tokenizer,
            checkpoint.model or fresh_model(config, checkpoint.tokenizer, device),
            checkpoint.optimizer,
        )
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
    )
    return WorldActionModel(model_config).to(device)


def _from_other_run(config: TrainConfig, device: torch.device) -> TrainingState:
    assert config.from_checkpoint is not None
    checkpoint = load_checkpoint(config.from_checkpoint, device)
    if checkpoint.model is None:
        raise UserError(f"{checkpoint.path}: holds a tokenizer only; train its world part first")
    if checkpoint.model.config.max_blocks < config.context_frames:
        raise UserError(
            f"{checkpoint.path}: its model takes {checkpoint.model.config.max_blocks} frames, "
            f"not {config.context_frames}; lower --context-frames"
        )
    return TrainingState(0, checkpoint.tokenizer, checkpoint.model, {})
