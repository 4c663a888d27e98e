"""What a training run is configured by, and the recipes that fill it in."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from datasets.errors import UserError
from world_model.checkpoint import config_from_json, find_checkpoint
from world_model.losses import LossConfig
from world_model.training import LoopConfig, OptimizerConfig, Phase


@dataclass(frozen=True)
class TrainConfig:
    """Train a world-action model on stored Atari play.

    Stage 1 trains the tokenizer for `tokenizer_steps`, then the world part of the model for
    `world_steps` on the frozen tokenizer's tokens. Stage 2 trains the model with its Q head for
    `joint_steps`. The defaults are the recipe of `--size` (or of fine-tuning, with `--from`).
    """

    run: Path
    """Folder of the run: checkpoints, TensorBoard, metrics.jsonl."""
    data: tuple[Path, ...] = ()
    """Episode stores made by datasets.collect, of one game or several."""
    games: tuple[str, ...] = ()
    """Games to train on, with weights if wanted, such as Pong=2 Breakout=1; all in the stores if empty."""
    resume: bool = False
    """Go on with the run in `--run` from its newest checkpoint, exactly as if it had not stopped."""
    from_checkpoint: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Run or checkpoint whose weights to start from, with fresh optimisers: fine-tuning."""
    max_steps: int | None = None
    """Stop, with a checkpoint, after this many steps of this invocation; --resume goes on."""
    size: Literal["tiny", "40M", "70M", "150M"] = "tiny"
    """Size of the world-action model."""
    tokenizer: Literal["tiny", "dictionary", "published"] = "tiny"
    """Kind of the tokenizer."""
    context_frames: int = 8
    """Frames of a training segment, and the longest context the model can act or plan in."""
    value_range: tuple[float, float] = (-10.0, 10.0)
    """Ends of the support of the return distribution; returns count each reward's sign, discounted."""
    stride: int = 4
    """Steps between the starts of neighbouring segments of an episode."""
    padding: Literal["right", "left"] = "right"
    """The side on which a segment that reaches past its episode is filled up."""
    tokenizer_steps: int = 1000
    """Steps of training the tokenizer."""
    tokenizer_batch: int = 64
    """Frames in a step of the tokenizer."""
    tokenizer_optimizer: OptimizerConfig = OptimizerConfig(2e-3, warmup_steps=20, schedule="cosine")
    """Optimiser of the tokenizer."""
    world_steps: int = 500
    """Steps of training the world part alone."""
    world_optimizer: OptimizerConfig = OptimizerConfig(1e-3, warmup_steps=50)
    """Optimiser of the world part."""
    joint_steps: int = 1500
    """Steps of training world part and Q head together."""
    joint_optimizer: OptimizerConfig = OptimizerConfig(1e-3, warmup_steps=50, schedule="cosine")
    """Optimiser of the joint phase."""
    batch_size: int = 32
    """Segments in a step of the world-action model."""
    loss: LossConfig = LossConfig()
    """Losses and targets of the world-action model."""
    target_update_every: int = 1000
    """Steps between copies of the Q head into the target head."""
    held_out_fraction: float = 0.05
    """Share of whole episodes that is never trained on, and measured instead."""
    allow_collapse: bool = False
    """Go on with a collapsed tokenizer, on whose tokens nothing can learn to play; only of use for tests."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    loader_workers: int = 0
    """Processes that prepare batches ahead; 0 prepares each when it is needed."""
    bf16: bool = False
    """Compute in bfloat16 where that is safe; pays on GPUs and on CPUs with AMX, from 40M up."""
    keep_checkpoints: int = 3
    """Newest checkpoints to keep."""
    loop: LoopConfig = LoopConfig()
    """How often to log, look and save."""

    @property
    def total_steps(self) -> int:
        """Steps of all phases."""
        return self.tokenizer_steps + self.world_steps + self.joint_steps

    def phases(self) -> tuple[Phase, ...]:
        """The phases in order; one of no steps starts where it stops."""
        world = self.tokenizer_steps
        joint = world + self.world_steps
        return (
            Phase("tokenizer", 0, world),
            Phase("world", world, joint),
            Phase("joint", joint, self.total_steps),
        )

    def optimizer_of(self, phase: Phase) -> OptimizerConfig:
        """Optimiser of a phase."""
        return {
            "tokenizer": self.tokenizer_optimizer,
            "world": self.world_optimizer,
            "joint": self.joint_optimizer,
        }[phase.name]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, paths made absolute so that a run can be resumed from anywhere."""
        absolute = replace(
            self,
            data=tuple(path.absolute() for path in self.data),
            run=self.run.absolute(),
            resume=False,
            max_steps=None,
        )
        return json.loads(json.dumps(asdict(absolute), default=str))


# Stage 1 and 2 of Cheng et al. 2024 (arXiv 2410.00564).
_PUBLISHED = TrainConfig(
    run=Path("runs/published"),
    tokenizer="published",
    value_range=(-10.0, 30.0),
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

RECIPES: dict[str, TrainConfig] = {
    "tiny": TrainConfig(run=Path("runs/tiny")),
    "40M": replace(_PUBLISHED, size="40M"),
    "70M": replace(_PUBLISHED, size="70M"),
    "150M": replace(_PUBLISHED, size="150M"),
}
"""Defaults by size; 40M and up are the published recipe, which wants GPUs and weeks."""


def finetuning(base: TrainConfig) -> TrainConfig:
    """The recipe for going on from a checkpoint: joint phase only, world part at half weight.

    The published sizes take the published fine-tuning: 50,000 steps of 32 segments at 5e-5. A tiny model
    keeps its own learning rate and number of steps.
    """
    changed = replace(
        base, tokenizer_steps=0, world_steps=0, loss=replace(base.loss, supervised_weight=0.5), batch_size=32
    )
    return changed if base.size == "tiny" else replace(changed, joint_steps=50_000)


def parse_command_line(arguments: Sequence[str] | None = None, description: str | None = None) -> TrainConfig:
    """The configuration that a command line asks for.

    `--size` chooses the recipe that fills in what is not given; `--from` takes the size of that
    checkpoint and the recipe of fine-tuning; `--resume` takes everything from the run itself.

    Args:
        arguments: what follows the program's name; by default the process's own arguments.
        description: what `--help` begins with.

    Raises:
        UserError: an option contradicts the run to be resumed, or a checkpoint cannot be read.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    first_look = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first_look.add_argument("--size", choices=RECIPES, default="tiny")
    first_look.add_argument("--from", dest="from_checkpoint", type=Path)
    first_look.add_argument("--run", type=Path)
    first_look.add_argument("--resume", action="store_true")
    look, _ = first_look.parse_known_args(given)
    default = RECIPES[look.size]
    if look.resume and look.run is not None:
        default = _stored_config(look.run)
    elif look.from_checkpoint is not None:
        source = _stored_config(look.from_checkpoint)
        recipe = replace(
            RECIPES[source.size],
            size=source.size,
            tokenizer=source.tokenizer,
            context_frames=source.context_frames,
            value_range=source.value_range,
            loss=source.loss,
        )
        default = finetuning(recipe)
    config = tyro.cli(
        TrainConfig,
        args=given,
        default=default,
        description=description,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if config.resume:
        _check_unchanged(config, default)
    elif not config.data:
        raise UserError("no --data: give one episode store or several; python -m datasets.collect makes them")
    return config


def _stored_config(path: Path) -> TrainConfig:
    """The configuration that a run was started with."""
    file = find_checkpoint(path) / "config.json"
    return config_from_json(TrainConfig, json.loads(file.read_text())["training"], file)


def _check_unchanged(config: TrainConfig, stored: TrainConfig) -> None:
    for field in fields(TrainConfig):
        asked, was = getattr(config, field.name), getattr(stored, field.name)
        if asked != was and field.name not in ("run", "resume", "max_steps", "device"):
            raise UserError(
                f"--{field.name.replace('_', '-')} {asked} contradicts {config.run}, which has {was}; "
                "--resume goes on unchanged: drop the option, or start another run with --from"
            )
