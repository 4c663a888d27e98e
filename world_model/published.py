"""The published world-action models' tensors, translated to ours and back.

The published program stores the same tensors in the same shapes under other names, behind one of
four prefixes that depend on how the model was wrapped when it was saved. It also stores what can
be recomputed: the positions that each head is evaluated at, and sometimes attention masks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datasets.errors import UserError
from world_model.published_config import config_from_published, config_from_shapes
from world_model.published_tensors import find_faults, refuse, without_prefix
from world_model.sizes import SIZES
from world_model.world_action_model import WorldActionConfig, WorldActionModel

RELEASED_SIZES = ("40M", "70M", "150M")
"""Names in `SIZES` of the models whose weights were released."""

_MASK = re.compile(r"transformer\.blocks\.\d+\.attn\.mask")

# Pairs of published and own module names, in the published order. {i} counts the transformer's blocks.
_BLOCK_MODULES = (
    ("transformer.blocks.{i}.ln1", "transformer.blocks.{i}.attention_norm"),
    ("transformer.blocks.{i}.ln2", "transformer.blocks.{i}.mlp_norm"),
    ("transformer.blocks.{i}.attn.key", "transformer.blocks.{i}.attention.key"),
    ("transformer.blocks.{i}.attn.query", "transformer.blocks.{i}.attention.query"),
    ("transformer.blocks.{i}.attn.value", "transformer.blocks.{i}.attention.value"),
    ("transformer.blocks.{i}.attn.proj", "transformer.blocks.{i}.attention.output"),
    ("transformer.blocks.{i}.mlp.0", "transformer.blocks.{i}.mlp.0"),
    ("transformer.blocks.{i}.mlp.2", "transformer.blocks.{i}.mlp.2"),
)
_FINAL_NORM = ("transformer.ln_f", "transformer.final_norm")
_EMBEDDINGS = (
    ("pos_emb", "position_embedding"),
    ("task_emb.embedding_tables.0", "action_task_embedding"),
    ("task_emb.embedding_tables.1", "observation_task_embedding"),
    ("embedder.embedding_tables.0", "action_embedding"),
    ("embedder.embedding_tables.1", "observation_embedding"),
)
_CLASSIFIERS = ("head_observations", "head_rewards", "head_ends")
_Q_HEADS = ("head_q", "head_q_target")
_Q_LAYERS = ("linear1", "norm1", "linear2", "norm2", "linear3")


def published_names(layers: int) -> dict[str, str]:
    """Our name of each tensor of a published model with this many transformer blocks.

    Returns:
        Published name without prefix -> name in `WorldActionModel.state_dict()`, in the published order.
    """
    modules = [
        (theirs.format(i=i), ours.format(i=i)) for i in range(layers) for theirs, ours in _BLOCK_MODULES
    ]
    names = _weights_and_biases([*modules, _FINAL_NORM])
    names |= {f"{theirs}.weight": f"{ours}.weight" for theirs, ours in _EMBEDDINGS}
    for head in _CLASSIFIERS:
        names |= _weights_and_biases([(f"{head}.head_module.{k}", f"{head}.{k}") for k in (0, 2)])
    for head in _Q_HEADS:
        for number, layer in enumerate(_Q_LAYERS):
            names[f"{head}.head_module.params.{2 * number}"] = f"{head}.{layer}.weight"
            names[f"{head}.head_module.params.{2 * number + 1}"] = f"{head}.{layer}.bias"
    return names


def load_published_state_dict(
    model: WorldActionModel, state_dict: Mapping[str, Tensor], source: str = "the published model"
) -> None:
    """Fill a model with a published model's tensors.

    Args:
        model: a model of the same size.
        state_dict: as published, behind any of the four prefixes, with attention masks or without.
        source: where the tensors come from, for messages.

    Raises:
        UserError: a tensor is missing, unknown or of another shape or type, or a head is evaluated at
            other positions; the model is left as it was.
    """
    given = _bare(state_dict, source)
    remedy = "choose a size that matches it"
    refuse(source, find_faults(given, to_published_state_dict(model)), remedy)
    for name, kept in kept_positions(model.config).items():
        if not torch.equal(given[name].cpu(), kept):
            raise UserError(
                f"{source}: tensor {name!r} does not hold the positions {kept[:3].tolist()} ... that its "
                "head is evaluated at; copy the file again"
            )
    names = published_names(model.config.transformer.layers)
    model.load_state_dict({ours: given[theirs] for theirs, ours in names.items()})


def to_published_state_dict(model: WorldActionModel) -> dict[str, Tensor]:
    """A model's tensors as in the released files: their names without prefix, their order, no masks.

    Raises:
        UserError: the model has a part that the published program does not know.
    """
    if model.head_value is not None or model.config.q_head.reads != "last_token":
        raise UserError(
            "the published program knows no value head and no Q heads that read whole frames; "
            "convert a model of a published size, trained without --value-head"
        )
    own = model.state_dict()
    positions = kept_positions(model.config)
    tensors: dict[str, Tensor] = {}
    for theirs, ours in published_names(model.config.transformer.layers).items():
        head = f"{theirs.split('.', 1)[0]}.indices"
        if head in positions:
            tensors[head] = positions[head]  # a head's first entry, each time the same
        tensors[theirs] = own[ours]
    return tensors


def kept_positions(config: WorldActionConfig) -> dict[str, Tensor]:
    """The positions of the longest sequence that each published head is evaluated at, by buffer name."""
    position = torch.arange(config.max_tokens)
    place, last = position % config.block_tokens, config.tokens_per_frame - 1
    return {
        "head_observations.indices": position[place != last],
        "head_rewards.indices": position[place == last + 1],
        "head_ends.indices": position[place == last + 1],
        "head_q.indices": position[place == last],
        "head_q_target.indices": position[place == last],
    }


def released_config(
    state_dict: Mapping[str, Tensor], source: str, *, heads: int | None = None
) -> WorldActionConfig:
    """Infer a published model's configuration from its tensors.

    Args:
        state_dict: as published, behind any of the four prefixes.
        source: where the tensors come from, for messages.
        heads: attention heads of a model of none of the released sizes: no tensor tells them.

    Raises:
        UserError: the tensors are of no released size and `heads` is not given or does not fit them; names
            the first tensor that differs from the closest size.
    """
    given = _bare(state_dict, source)
    faults = {size: find_faults(given, _tensors_of(SIZES[size])) for size in RELEASED_SIZES}
    closest = min(RELEASED_SIZES, key=lambda size: len(faults[size]))
    if not faults[closest]:
        known = SIZES[closest].transformer.heads
        if heads not in (None, known):
            raise UserError(f"{source}: is the released {closest} model of {known} heads, not {heads}")
        return SIZES[closest]
    if heads is None:
        remedy = f"copy the file again, or give --heads if it was not meant to be {closest}"
        refuse(f"{source} (closest to the released {closest})", faults[closest], remedy)
    assert heads is not None
    return config_from_shapes(given, heads, source)


def model_from_published(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> WorldActionModel:
    """Build a published model from its settings and tensors, in evaluation mode.

    Raises:
        UserError: see `config_from_published` and `load_published_state_dict`.
    """
    return build_published(config_from_published(config), state_dict)


def build_published(
    config: WorldActionConfig, state_dict: Mapping[str, Tensor], source: str = "the published model"
) -> WorldActionModel:
    """Build a model of this configuration and fill it with published tensors, in evaluation mode.

    Raises:
        UserError: see `load_published_state_dict`.
    """
    with torch.device("meta"):
        model = WorldActionModel(config)
    model.to_empty(device="cpu")
    load_published_state_dict(model, state_dict, source)
    return model.eval()


def _bare(state_dict: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors without their prefix, and without the attention masks that some published files hold."""
    tensors = without_prefix(state_dict, source)
    return {name: tensor for name, tensor in tensors.items() if not _MASK.fullmatch(name)}


def _tensors_of(config: WorldActionConfig) -> dict[str, Tensor]:
    """Tensors without contents, to compare names, shapes and types with."""
    with torch.device("meta"):
        model = WorldActionModel(config)
    return to_published_state_dict(model)


def _weights_and_biases(modules: list[tuple[str, str]]) -> dict[str, str]:
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in modules for kind in ("weight", "bias")}
