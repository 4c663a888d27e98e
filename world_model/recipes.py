"""Recipes that fill in a training run's configuration, and the command line that chooses among them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
import tyro

from datasets.errors import UserError
from datasets.mixture import parse_games
from world_model.checkpoint import config_from_json, find_checkpoint, list_checkpoints
from world_model.imagination import ImaginationConfig
from world_model.losses import LossConfig
from world_model.optimizers import OptimizerConfig
from world_model.sizes import SIZES
from world_model.train_config import TrainConfig
from world_model.training import LoopConfig
from world_model.world_action_model import WorldActionConfig

# Stage 1 and 2 of Cheng et al. 2024 (arXiv 2410.00564).
_PUBLISHED = TrainConfig(
    run=Path("runs/published"),
    tokenizer="published",
    value_range=(-10.0, 30.0),
    start_embeddings=False,
    tokenizer_steps=250_000,
    tokenizer_batch=2048,
    tokenizer_optimizer=OptimizerConfig(1e-4, weight_decay=0.0),
    world_steps=250_000,
    world_optimizer=OptimizerConfig(1e-4),
    joint_steps=1_500_000,
    joint_optimizer=OptimizerConfig(5e-5),
    batch_size=512,
    bf16=True,
    loop=LoopConfig(log_every=100, held_out_every=1000, image_every=10_000, save_every=5000),
)

# Found on whole games, in minutes of one core (benchmarks/RESULTS.md, "Learning").
_TINY = TrainConfig(
    run=Path("runs/tiny"),
    tokenizer="dictionary",
    tokenizer_steps=100,
    tokenizer_optimizer=OptimizerConfig(5e-4, schedule="cosine"),
    # A planner of horizon 2 still sees 4 real frames.
    context_frames=6,
    stride=1,
    batch_size=12,
    world_steps=200,
    world_optimizer=OptimizerConfig(1e-3, warmup_steps=50, blocks="muon"),
    joint_steps=4000,
    joint_optimizer=OptimizerConfig(1e-3, warmup_steps=50, schedule="cosine", blocks="muon"),
    loss=LossConfig(
        td_target="n_step",
        n_step=5,
        double_q=True,
        discount=0.97,
        # At temperature 1 the penalty lifts values, and the bootstrap passes that on.
        cql_weight=10.0,
        cql_temperature=0.1,
        supervised_weight=1.0,
    ),
    value_range=(-2.0, 6.0),
    target_update_every=100,
)

_FREE_WHEN_RESUMED = ("run", "resume", "max_steps", "device", "parallel", "loader_workers", "recompute")

RECIPES: dict[str, TrainConfig] = {
    "tiny": _TINY,
    "40M": replace(_PUBLISHED, size="40M"),
    "70M": replace(_PUBLISHED, size="70M"),
    "150M": replace(_PUBLISHED, size="150M"),
}
"""Defaults by size; 40M and up are the published recipe, which wants GPUs and weeks."""


def finetuning(base: TrainConfig) -> TrainConfig:
    """The recipe for going on from a checkpoint, as published: joint phase only, world part at half weight.

    Steps of 32 segments, of which 16 are also continued by beam search of width 2 and horizon 2 once two
    fifths of the phase are over; imagined steps are pushed down, and only real ones up (the penalty `combo`).
    Nothing is held out: of the few episodes that one fine-tunes on, each counts. The published sizes take
    50,000 steps at 5e-5; a tiny model keeps its own learning rate and number of steps.
    """
    horizon = min(2, base.context_frames - 1)
    share = 0.5 if horizon and base.loss.discount else 0.0
    changed = replace(
        base,
        tokenizer_steps=0,
        world_steps=0,
        batch_size=32,
        # Padding in front leaves the last steps real, which are the ones to continue.
        padding="left",
        loss=replace(
            base.loss,
            supervised_weight=0.5,
            penalty="combo" if base.loss.penalty == "cql" else base.loss.penalty,
        ),
        imagination=ImaginationConfig(share=share, horizon=max(1, horizon)),
        held_out_fraction=0.0,
    )
    return changed if base.size == "tiny" else replace(changed, joint_steps=50_000)


def source_recipe(path: Path) -> TrainConfig:
    """The recipe of the size of a checkpoint, with what its weights and its training fix.

    A checkpoint that was converted from a published one has no training configuration; its size and its
    shapes are read from its model.

    Raises:
        UserError: there is no such checkpoint, or its model has none of the sizes that have a recipe.
    """
    file = find_checkpoint(path) / "config.json"
    content = json.loads(file.read_text())
    if "run" in content["training"]:
        source = config_from_json(TrainConfig, content["training"], file)
        return replace(
            RECIPES[source.size],
            size=source.size,
            tokenizer=source.tokenizer,
            context_frames=source.context_frames,
            value_range=source.value_range,
            value_head=source.value_head,
            value_of=source.value_of,
            loss=source.loss,
        )
    if content["model"] is None:
        raise UserError(f"{file.parent}: holds a tokenizer only; there is no model to start from")
    model = config_from_json(WorldActionConfig, content["model"], file)
    return replace(
        RECIPES[_size_of(model, file)],
        context_frames=model.max_blocks,
        value_range=(model.q_head.value_min, model.q_head.value_max),
        value_head=model.value_head,
    )


def _size_of(model: WorldActionConfig, file: Path) -> str:
    """Name of a model's size."""

    def shape(config: WorldActionConfig) -> tuple[int, ...]:
        trunk, head = config.transformer, config.q_head
        return trunk.layers, trunk.heads, trunk.width, head.ensemble_size, head.mlp_width

    for name, size in SIZES.items():
        if shape(size) == shape(model):
            return name
    layers, heads, width, members, mlp_width = shape(model)
    raise UserError(
        f"{file}: model: {layers} layers of {heads} heads and width {width} with {members} Q heads of width "
        f"{mlp_width} are none of the sizes {', '.join(SIZES)}; start from a checkpoint of one of them"
    )


def parse_command_line(arguments: Sequence[str] | None = None, description: str | None = None) -> TrainConfig:
    """The configuration that a command line asks for.

    `--size` chooses the recipe that fills in what is not given; `--from` takes the size of that
    checkpoint and the recipe of fine-tuning; `--resume` takes everything from the run itself. Under
    torchrun, which starts the same command again when a process has died, a run goes on if it can.

    Args:
        arguments: what follows the program's name; by default the process's own arguments.
        description: what `--help` begins with.

    Raises:
        UserError: an option contradicts the run to be resumed or the checkpoint started from, or one of
            these cannot be read.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    look = _first_look(given)
    default = RECIPES[look.size]
    if look.resume and look.run is not None:
        default = _stored_config(look.run)
    elif look.from_checkpoint is not None:
        default = finetuning(source_recipe(look.from_checkpoint))
    config = tyro.cli(
        TrainConfig,
        args=given,
        default=default,
        description=description,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if config.resume:
        _check_unchanged(config, default)
        return config
    if not config.data:
        raise UserError("no --data: give one episode store or several; python -m datasets.collect makes them")
    if config.from_checkpoint is not None:
        _check_shapes_kept(config, default, config.from_checkpoint)
        if look.run is None:
            config = replace(config, run=_run_named_after(config))
    return _going_on(config) if dist.is_torchelastic_launched() else config


def _going_on(config: TrainConfig) -> TrainConfig:
    """The same run from its newest checkpoint, if it has one."""
    if not list_checkpoints(config.run):
        return config
    stored = _stored_config(config.run)
    _check_unchanged(config_from_json(TrainConfig, config.to_json(), config.run), stored)
    return replace(
        stored,
        run=config.run,
        resume=True,
        **{name: getattr(config, name) for name in _FREE_WHEN_RESUMED[2:]},
    )


def _first_look(given: Sequence[str]) -> argparse.Namespace:
    """What the defaults of everything else depend on."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--size", choices=RECIPES, default="tiny")
    parser.add_argument("--from", dest="from_checkpoint", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--resume", action="store_true")
    look, _ = parser.parse_known_args(given)
    return look


def _run_named_after(config: TrainConfig) -> Path:
    """Such as runs/two_Pong for a run that starts from runs/two."""
    assert config.from_checkpoint is not None
    source = config.from_checkpoint.absolute()
    if source.parent.name == "checkpoints":
        source = source.parent.parent
    games = parse_games(config.games) or ["finetuned"]
    return Path("runs") / "_".join([source.name, *games])


def _stored_config(path: Path) -> TrainConfig:
    """The configuration that a run was started with."""
    file = find_checkpoint(path) / "config.json"
    return config_from_json(TrainConfig, json.loads(file.read_text())["training"], file)


def _check_unchanged(config: TrainConfig, stored: TrainConfig) -> None:
    """Refuse to resume a run as another one."""
    for field in fields(TrainConfig):
        asked, was = getattr(config, field.name), getattr(stored, field.name)
        if asked != was and field.name not in _FREE_WHEN_RESUMED:
            raise UserError(
                f"{_option(field.name, asked)} contradicts {config.run}, which has {was}; "
                "--resume goes on unchanged: drop the option, or start another run with --from"
            )


def _check_shapes_kept(config: TrainConfig, default: TrainConfig, source: Path) -> None:
    """Refuse options that would need weights of another shape than those started from."""
    for name in ("size", "tokenizer", "value_range", "value_head"):
        asked, was = getattr(config, name), getattr(default, name)
        if asked != was:
            raise UserError(
                f"{_option(name, asked)} contradicts {source}, which has {was}: weights keep their shape; "
                "drop the option, or start from another checkpoint"
            )


def _option(name: str, value: Any) -> str:
    return f"--{name.replace('_', '-')} {value}"
