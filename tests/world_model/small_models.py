"""Small random world-action models whose predictions differ from token to token."""

from __future__ import annotations

import torch

from world_model.heads import QHeadConfig
from world_model.transformer import TransformerConfig
from world_model.world_action_model import WorldActionConfig, WorldActionModel

UNREGULARISED = TransformerConfig(
    layers=2,
    heads=2,
    width=16,
    embedding_dropout=0.0,
    residual_dropout=0.0,
    attention_dropout=0.0,
)
SMALL_Q_HEAD = QHeadConfig(ensemble_size=2, mlp_width=8, dropout=0.0, num_atoms=5)


def small_config(
    *,
    transformer: TransformerConfig = UNREGULARISED,
    q_head: QHeadConfig = SMALL_Q_HEAD,
    tokens_per_frame: int = 4,
    max_blocks: int = 5,
    use_task_embedding: bool = True,
    q_gradient_to_trunk: bool = True,
    value_head: bool = False,
) -> WorldActionConfig:
    """A model of two narrow layers on an observation vocabulary smaller than the action vocabulary."""
    return WorldActionConfig(
        transformer=transformer,
        q_head=q_head,
        tokens_per_frame=tokens_per_frame,
        vocab_size=11,
        max_blocks=max_blocks,
        num_tasks=6,
        use_task_embedding=use_task_embedding,
        q_gradient_to_trunk=q_gradient_to_trunk,
        value_head=value_head,
    )


def random_model(config: WorldActionConfig, seed: int = 0) -> WorldActionModel:
    """A model in evaluation mode, with wide random weights in every tensor, the target head included."""
    generator = torch.Generator().manual_seed(seed)
    model = WorldActionModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or name.endswith("bias"):
                parameter.copy_(float("norm" in name and name.endswith("weight")) + 0.1 * noise)
            elif "embedding" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(2 * noise / parameter.shape[-1] ** 0.5)
    return model


def random_tokens(config: WorldActionConfig, rows: int, length: int, seed: int = 1) -> torch.Tensor:
    """Valid token sequences: [rows length]."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.arange(length)
    is_action = position % config.block_tokens == config.tokens_per_frame
    limit = torch.where(is_action, config.num_actions, config.vocab_size)
    return (torch.rand(rows, length, generator=generator) * limit).long()
