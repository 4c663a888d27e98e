"""Published checkpoints into ours, and ours into published ones.

    python -m world_model.convert published --model JOWA_150M.pt --tokenizer tokenizer.pt --out runs/jowa-150M
    python -m world_model.convert to-published --checkpoint runs/mine --model mine.pt --tokenizer tokenizer.pt

The first makes a folder that every `--checkpoint` and `--from` takes. The files read are pickles; no code in
them is run. Nothing that exists is written over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from torch import nn

from datasets.errors import UserError, run_command
from datasets.files import replace_file
from world_model.checkpoint import load_checkpoint, save_checkpoint
from world_model.published import (
    RELEASED_SIZES,
    build_published,
    released_config,
    to_published_state_dict,
)
from world_model.published_files import read_state_dict, write_state_dict
from world_model.published_tokenizer import (
    build_published_tokenizer,
    published_tokenizer_state_dict,
    split_perceptual,
)
from world_model.sizes import SIZES
from world_model.world_action_model import WorldActionConfig


@dataclass(frozen=True)
class FromPublishedConfig:
    """Make a checkpoint of ours from a published model and its tokenizer."""

    model: Path
    """The model's file, such as JOWA_150M.pt."""
    tokenizer: Path
    """The tokenizer's file; its perceptual network (lpips) is dropped."""
    out: Path
    """Folder to make; it must not exist."""
    heads: int | None = None
    """Attention heads of a model of none of the released sizes; its tensors do not tell them."""


@dataclass(frozen=True)
class ToPublishedConfig:
    """Write a checkpoint of ours as files that the published program loads."""

    checkpoint: Path
    """A checkpoint folder, or a run, whose newest checkpoint is taken."""
    model: Path
    """File to make of the model; it must not exist."""
    tokenizer: Path
    """File to make of the tokenizer; it must not exist."""
    lpips_from: Path | None = None
    """A published tokenizer file to copy the perceptual network from, which our checkpoints do not keep."""


Command = (
    Annotated[FromPublishedConfig, tyro.conf.subcommand("published")]
    | Annotated[ToPublishedConfig, tyro.conf.subcommand("to-published")]
)


def main() -> None:
    """Run the command line."""
    config = tyro.cli(Command, prog="python -m world_model.convert", description=__doc__)  # type: ignore[arg-type]
    match config:
        case FromPublishedConfig():
            print(from_published(config))
        case ToPublishedConfig():
            print(to_published(config))


def from_published(config: FromPublishedConfig) -> str:
    """Read a published model and tokenizer and write them as one checkpoint.

    Returns:
        What was converted, in a line.

    Raises:
        UserError: `out` exists; a file cannot be read, or a tensor is missing, unknown or misshaped; the
            tokenizer has another vocabulary than the model; the disk is full. Nothing is written then.
    """
    _refuse_existing(config.out)
    tensors, source = read_state_dict(config.model), str(config.model)
    model_config = released_config(tensors, source, heads=config.heads)
    model = build_published(model_config, tensors, source)
    del tensors
    tokenizer = build_published_tokenizer(read_state_dict(config.tokenizer), str(config.tokenizer))
    codes = tokenizer.config.vocab_size
    if codes != model_config.vocab_size:
        raise UserError(
            f"{config.tokenizer}: has {codes} codes, but {config.model} was made for a vocabulary of "
            f"{model_config.vocab_size}; name the tokenizer that the model was trained with"
        )
    save_checkpoint(
        config.out,
        step=0,
        tokenizer=tokenizer,
        model=model,
        optimizer={},
        training={"converted_from": {"model": config.model.name, "tokenizer": config.tokenizer.name}},
    )
    return (
        f"{config.out}: {_describe(model_config)} of {_millions(model)} parameters "
        f"with a tokenizer of {_millions(tokenizer)} and {codes} codes"
    )


def to_published(config: ToPublishedConfig) -> str:
    """Write a checkpoint's model and tokenizer as published files.

    Returns:
        What was written, in a line.

    Raises:
        UserError: a file exists already; the checkpoint cannot be read or holds no model; the published
            program has no such tokenizer or heads; the disk is full. Nothing is written then.
    """
    for path in (config.model, config.tokenizer):
        _refuse_existing(path)
    if config.model.resolve() == config.tokenizer.resolve():
        raise UserError(f"{config.model}: --model and --tokenizer name one file; name two")
    checkpoint = load_checkpoint(config.checkpoint)
    if checkpoint.model is None:
        raise UserError(f"{checkpoint.path}: holds a tokenizer only; train its world part first")
    tokenizer = published_tokenizer_state_dict(checkpoint.tokenizer)
    if config.lpips_from is not None:
        _, perceptual = split_perceptual(read_state_dict(config.lpips_from), str(config.lpips_from))
        if not perceptual:
            raise UserError(f"{config.lpips_from}: holds no tensor lpips.*; name a released tokenizer file")
        tokenizer |= perceptual
    # Both are whole before either gets its name.
    with replace_file(config.model) as model_file, replace_file(config.tokenizer) as tokenizer_file:
        write_state_dict(model_file, to_published_state_dict(checkpoint.model))
        write_state_dict(tokenizer_file, tokenizer)
    without = "" if config.lpips_from else " without a perceptual network (see --lpips-from)"
    return (
        f"{config.model}: {_describe(checkpoint.model.config)} of {_millions(checkpoint.model)} parameters\n"
        f"{config.tokenizer}: its tokenizer{without}"
    )


def _describe(config: WorldActionConfig) -> str:
    released = next((size for size in RELEASED_SIZES if SIZES[size] == config), None)
    sizes = config.transformer
    shape = f"{sizes.layers} layers, {sizes.heads} heads, width {sizes.width}"
    return f"the released {released} model" if released else f"a model of {shape}"


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f}M"


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: already exists; name another, or remove it first")


if __name__ == "__main__":
    run_command(main)
