"""Names and settings of the published world-action models, translated to ours and back.

The published program stores the same tensors in the same shapes under other names, behind one of
four prefixes that depend on how the model was wrapped when it was saved. It also stores what can
be recomputed (kept positions of each head, attention masks); those entries are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datasets.errors import UserError
from world_model.heads import QHeadConfig
from world_model.transformer import TransformerConfig
from world_model.world_action_model import WorldActionConfig, WorldActionModel

PREFIXES = ("_orig_mod.module.", "_orig_mod.", "module.", "")
"""What may stand before every name, by how the model was compiled and distributed; longest first."""

_RECOMPUTED = re.compile(r"head_\w+\.indices|transformer\.blocks\.\d+\.attn\.mask")

# Pairs of published and own module names. {i} counts the transformer's blocks.
_BLOCK_MODULES = (
    ("transformer.blocks.{i}.ln1", "transformer.blocks.{i}.attention_norm"),
    ("transformer.blocks.{i}.attn.query", "transformer.blocks.{i}.attention.query"),
    ("transformer.blocks.{i}.attn.key", "transformer.blocks.{i}.attention.key"),
    ("transformer.blocks.{i}.attn.value", "transformer.blocks.{i}.attention.value"),
    ("transformer.blocks.{i}.attn.proj", "transformer.blocks.{i}.attention.output"),
    ("transformer.blocks.{i}.ln2", "transformer.blocks.{i}.mlp_norm"),
    ("transformer.blocks.{i}.mlp.0", "transformer.blocks.{i}.mlp.0"),
    ("transformer.blocks.{i}.mlp.2", "transformer.blocks.{i}.mlp.2"),
)
_MODULES = (
    ("transformer.ln_f", "transformer.final_norm"),
    ("head_observations.head_module.0", "head_observations.0"),
    ("head_observations.head_module.2", "head_observations.2"),
    ("head_rewards.head_module.0", "head_rewards.0"),
    ("head_rewards.head_module.2", "head_rewards.2"),
    ("head_ends.head_module.0", "head_ends.0"),
    ("head_ends.head_module.2", "head_ends.2"),
)
_EMBEDDINGS = (
    ("pos_emb", "position_embedding"),
    ("task_emb.embedding_tables.0", "action_task_embedding"),
    ("task_emb.embedding_tables.1", "observation_task_embedding"),
    ("embedder.embedding_tables.0", "action_embedding"),
    ("embedder.embedding_tables.1", "observation_embedding"),
)
_Q_LAYERS = ("linear1", "norm1", "linear2", "norm2", "linear3")


def published_names(layers: int) -> dict[str, str]:
    """Our name of each tensor of a published model with this many transformer blocks.

    Returns:
        Published name without prefix -> name in `WorldActionModel.state_dict()`.
    """
    modules = [
        (theirs.format(i=i), ours.format(i=i)) for i in range(layers) for theirs, ours in _BLOCK_MODULES
    ]
    modules += _MODULES
    names = {f"{theirs}.weight": f"{ours}.weight" for theirs, ours in _EMBEDDINGS}
    for kind in ("weight", "bias"):
        names |= {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in modules}
    for head in ("head_q", "head_q_target"):
        for number, layer in enumerate(_Q_LAYERS):
            names[f"{head}.head_module.params.{2 * number}"] = f"{head}.{layer}.weight"
            names[f"{head}.head_module.params.{2 * number + 1}"] = f"{head}.{layer}.bias"
    return names


def load_published_state_dict(model: WorldActionModel, state_dict: Mapping[str, Tensor]) -> None:
    """Fill a model with a published model's tensors.

    Args:
        model: a model of the same size.
        state_dict: as published, behind any of the four prefixes.

    Raises:
        UserError: a tensor is missing, unknown or of another shape; the model is left as it was.
    """
    given = {
        name: tensor
        for name, tensor in _without_prefix(state_dict).items()
        if not _RECOMPUTED.fullmatch(name)
    }
    names = published_names(model.config.transformer.layers)
    own = model.state_dict()
    for theirs, ours in names.items():
        if theirs not in given:
            raise UserError(f"the published model has no tensor {theirs!r}; choose a size that matches it")
        if given[theirs].shape != own[ours].shape:
            raise UserError(
                f"tensor {theirs!r} of the published model has shape {tuple(given[theirs].shape)}, "
                f"expected {tuple(own[ours].shape)}; choose a size that matches it"
            )
    for theirs in given:
        if theirs not in names:
            raise UserError(
                f"tensor {theirs!r} of the published model has no place here; choose a size that matches it"
            )
    model.load_state_dict({ours: given[theirs] for theirs, ours in names.items()})


def to_published_state_dict(model: WorldActionModel) -> dict[str, Tensor]:
    """A model's tensors under their published names, without prefix and without recomputed entries."""
    own = model.state_dict()
    return {theirs: own[ours] for theirs, ours in published_names(model.config.transformer.layers).items()}


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


def model_from_published(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> WorldActionModel:
    """Build a published model from its settings and tensors, in evaluation mode.

    Raises:
        UserError: see `config_from_published` and `load_published_state_dict`.
    """
    with torch.device("meta"):
        model = WorldActionModel(config_from_published(config))
    model.to_empty(device="cpu")
    load_published_state_dict(model, state_dict)
    return model.eval()


def _without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = next(prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state_dict))
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
