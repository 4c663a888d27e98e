"""Configurations of published world-action models: from the published settings, or from tensors alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from datasets.errors import UserError
from world_model.frames import GRID
from world_model.heads import QHeadConfig
from world_model.published_tensors import shape_of
from world_model.transformer import TransformerConfig
from world_model.world_action_model import WorldActionConfig

_BLOCK = re.compile(r"transformer\.blocks\.(\d+)\..*")


def config_from_published(config: Mapping[str, Any]) -> WorldActionConfig:
    """Translate the published program's settings of a model.

    Args:
        config: nested settings with the groups `transformer`, `critic_head` and `action`.

    Raises:
        UserError: a setting is missing, or asks for an architecture that this model does not have.
    """
    try:
        transformer, critic, action = config["transformer"], config["critic_head"], config["action"]
        if transformer["attention"] != "causal":
            raise UserError(f"setting attention is {transformer['attention']!r}; only 'causal' can be loaded")
        return WorldActionConfig(
            transformer=TransformerConfig(
                layers=transformer["num_layers"],
                heads=transformer["num_heads"],
                width=transformer["embed_dim"],
                embedding_dropout=transformer["embed_pdrop"],
                residual_dropout=transformer["resid_pdrop"],
                attention_dropout=transformer["attn_pdrop"],
            ),
            q_head=QHeadConfig(
                ensemble_size=critic["num_q"],
                mlp_width=critic["mlp_dim"],
                dropout=critic["dropout"],
                distribution=action["td_loss"],
                num_atoms=action["num_atoms"],
                value_min=float(action["vmin"]),
                value_max=float(action["vmax"]),
            ),
            tokens_per_frame=transformer["tokens_per_block"] - 1,
            vocab_size=config["obs_vocab_size"],
            max_blocks=transformer["max_blocks"],
            num_actions=config["act_vocab_size"],
            num_tasks=transformer["max_tasks"],
            use_task_embedding=action["use_task_embed"],
            q_gradient_to_trunk=action["q_loss_backwards_wm"],
        )
    except KeyError as error:
        raise UserError(f"the published settings lack {error.args[0]!r}") from error


def config_from_shapes(tensors: Mapping[str, Tensor], heads: int, source: str) -> WorldActionConfig:
    """The configuration of a model of any size, as far as shapes tell it.

    Dropouts, the support of the return distribution and the use of task embeddings leave no trace in
    the tensors; they are taken to be those of the released models.

    Args:
        tensors: under their published names, without prefix.
        heads: attention heads, which the shapes do not tell either.
        source: where the tensors come from, for messages.

    Raises:
        UserError: a tensor that sizes are read from is missing, or the sizes contradict each other.
    """
    blocks = [int(found.group(1)) for name in tensors if (found := _BLOCK.fullmatch(name))]
    positions, width = shape_of(tensors, "pos_emb.weight", 2, source)
    actions, _ = shape_of(tensors, "embedder.embedding_tables.0.weight", 2, source)
    vocab, _ = shape_of(tensors, "embedder.embedding_tables.1.weight", 2, source)
    tasks, _ = shape_of(tensors, "task_emb.embedding_tables.0.weight", 2, source)
    members, mlp_width, _ = shape_of(tensors, "head_q.head_module.params.0", 3, source)
    _, outputs, _ = shape_of(tensors, "head_q.head_module.params.8", 3, source)
    block_tokens = GRID * GRID + 1
    for name, size, unit in (
        ("pos_emb.weight", positions, block_tokens),
        ("head_q.head_module.params.8", outputs, actions),
    ):
        if size % unit:
            raise UserError(
                f"{source}: tensor {name!r} has {size} rows, expected a multiple of {unit}; "
                "copy the file again"
            )
    atoms = outputs // actions
    return WorldActionConfig(
        transformer=TransformerConfig(layers=max(blocks, default=-1) + 1, heads=heads, width=width),
        q_head=QHeadConfig(
            ensemble_size=members,
            mlp_width=mlp_width,
            distribution="c51" if atoms > 1 else "mse",
            num_atoms=atoms if atoms > 1 else QHeadConfig.num_atoms,
        ),
        tokens_per_frame=GRID * GRID,
        vocab_size=vocab,
        max_blocks=positions // block_tokens,
        num_actions=actions,
        num_tasks=tasks,
    )
