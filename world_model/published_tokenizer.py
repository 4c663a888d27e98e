"""The published tokenizer's weights: their names in its files and their way into `Tokenizer` and back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from datasets.errors import UserError
from world_model.published_tensors import find_faults, refuse, shape_of, without_prefix
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS, TokenizerConfig

_PERCEPTUAL = "lpips."
_OURS, _THEIRS = "quantizer.codebook.weight", "embedding.weight"
_ORDER = ("encoder", "pre_quant_conv", "embedding", "post_quant_conv", "decoder")
_RESOLUTIONS = (84, 12, 6)
_BLOCK = re.compile(r"encoder\.down\.0\.block\.(\d+)\..*")


def load_published_tokenizer_state_dict(
    tokenizer: Tokenizer, state_dict: Mapping[str, Tensor], source: str = "the published tokenizer"
) -> None:
    """Copy a published tokenizer's weights into `tokenizer`; its perceptual network (lpips.*) is dropped.

    Args:
        tokenizer: of the same configuration.
        state_dict: as published, behind any of the four prefixes.
        source: where the tensors come from, for messages.

    Raises:
        UserError: a tensor is missing, unknown or of another shape or type; nothing is copied then.
    """
    given = split_perceptual(state_dict, source)[0]
    expected = published_tokenizer_state_dict(tokenizer)
    refuse(source, find_faults(given, expected), "copy the file again, or name another")
    tokenizer.load_state_dict({_OURS if name == _THEIRS else name: given[name] for name in expected})


def published_tokenizer_state_dict(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The weights as in the released file: published names without prefix, in its order, without lpips.*.

    Raises:
        UserError: the published program has no such tokenizer.
    """
    config = tokenizer.config
    for field, wanted in (("network", "residual"), ("quantizer", "vq"), ("use_background", False)):
        if getattr(config, field) != wanted:
            raise UserError(
                f"a tokenizer with {field} {getattr(config, field)!r} has no published form, only one with "
                f"{wanted!r}; train with --tokenizer published to exchange checkpoints"
            )
    named = {_THEIRS if name == _OURS else name: tensor for name, tensor in tokenizer.state_dict().items()}
    return {name: named[name] for name in sorted(named, key=lambda name: _ORDER.index(name.split(".")[0]))}


def split_perceptual(
    state_dict: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A published tokenizer's tensors without prefix: its own, and those of its perceptual network."""
    tensors = without_prefix(state_dict, source)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_PERCEPTUAL)}
    return own, {name: tensor for name, tensor in tensors.items() if name.startswith(_PERCEPTUAL)}


def tokenizer_config_from_shapes(state_dict: Mapping[str, Tensor], source: str) -> TokenizerConfig:
    """The sizes of a published tokenizer, read from its tensors.

    Args:
        state_dict: as published, behind any of the four prefixes.
        source: where the tensors come from, for messages.

    Raises:
        UserError: a tensor that sizes are read from is missing.
    """
    given = split_perceptual(state_dict, source)[0]
    codes, code_width = shape_of(given, "embedding.weight", 2, source)
    channels = shape_of(given, "encoder.conv_in.weight", 4, source)[0]
    latent = shape_of(given, "encoder.conv_out.weight", 4, source)[0]
    widths = [
        shape_of(given, f"encoder.down.{level}.block.0.conv2.weight", 4, source)[0] for level in range(3)
    ]
    if any(width % channels for width in widths):
        raise UserError(
            f"{source}: levels of {widths} channels are no multiples of the {channels} of "
            "'encoder.conv_in.weight'; copy the file again"
        )
    blocks = [int(found.group(1)) for name in given if (found := _BLOCK.fullmatch(name))]
    return TokenizerConfig(
        codebook_size=codes,
        code_width=code_width,
        channels=channels,
        channel_multipliers=(widths[0] // channels, widths[1] // channels, widths[2] // channels),
        num_residual_blocks=max(blocks) + 1,
        attention_resolutions=tuple(
            resolution
            for level, resolution in reversed(list(enumerate(_RESOLUTIONS)))
            if any(name.startswith(f"encoder.down.{level}.attn.") for name in given)
        ),
        latent_channels=latent,
    )


def build_published_tokenizer(state_dict: Mapping[str, Tensor], source: str) -> Tokenizer:
    """Build a published tokenizer from its tensors, in evaluation mode.

    Raises:
        UserError: see `tokenizer_config_from_shapes` and `load_published_tokenizer_state_dict`.
    """
    given = split_perceptual(state_dict, source)[0]
    # A released file with a fault is to be told by that fault, not by the odd sizes read from it.
    candidates = [TOKENIZERS["published"], tokenizer_config_from_shapes(given, source)]
    closest = min(candidates, key=lambda config: len(find_faults(given, _tensors_of(config))))
    with torch.device("meta"):
        tokenizer = Tokenizer(closest)
    tokenizer.to_empty(device="cpu")
    load_published_tokenizer_state_dict(tokenizer, given, source)
    return tokenizer.eval()


def _tensors_of(config: TokenizerConfig) -> dict[str, Tensor]:
    """Tensors without contents, to compare names, shapes and types with."""
    with torch.device("meta"):
        return published_tokenizer_state_dict(Tokenizer(config))
