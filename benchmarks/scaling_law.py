"""How held-out losses fall with the size of the model, the play it learns from and the steps it takes.

    python -m benchmarks.scaling_law --game Breakout                    40 minutes on two cores
    python -m benchmarks.scaling_law --game Pong --widths 24 48 --decisions 2000 4000 --steps 32     rehearsal

A network is trained for each width and each amount of play, at a constant learning rate, so that any of its
checkpoints stands for a training that ended there (but for the decay that ours end with). All share the
tokenizer of the most play, and are measured on the same segments of play that none has seen. To the
points before a run's own lowest loss a law is fitted, E + A / parameters^a + B / decisions^b + C / steps^c
(after Hoffmann et al. 2022, with steps and decisions apart because play is learned from many times); it is
judged by how well it foretells the largest network on the most play, which it is then fitted without.
Stages that are done are kept in `--out`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import tyro

from benchmarks.held_out import held_out_losses, write_untrained
from benchmarks.learning import Stage, run_stages, tiny_of_width, train_ours
from benchmarks.learning_games import LearningGame, find_learning_game
from benchmarks.scaling_fit import Point
from benchmarks.scaling_report import report
from datasets.collect import CollectConfig, collect
from datasets.errors import UserError, run_command
from datasets.files import replace_file
from datasets.store import EpisodeStore
from datasets.subset import write_first
from datasets.tokens import build_token_cache
from train import train
from world_model.checkpoint import list_checkpoints, load_checkpoint
from world_model.sizes import SIZES
from world_model.train_config import TrainConfig
from world_model.training import LoopConfig

POINTS = 16
"""Checkpoints of a training that are measured."""
HELD_OUT_DECISIONS = 30_000


@dataclass(frozen=True)
class ScalingConfig:
    """Train a grid of sizes and amounts of play, measure on the way, fit, draw."""

    game: str
    """Game to learn, by its recipe in the benchmark of learning."""
    widths: tuple[int, ...] = (48, 96, 192)
    """Of the transformer; multiples of its 3 heads."""
    decisions: tuple[int, ...] = (20_000, 80_000, 300_000)
    """Decisions of recorded play to learn from, the first so many of the largest."""
    steps: int = 2400
    """Of each training."""
    seed: int = 0
    """Of play, weights and batches."""
    workers: int = 2
    """Trainings that run side by side, each on one core."""
    out: Path = Path("runs/scaling")
    """Folder for everything; a folder for each game and number of steps."""


def main() -> None:
    """Read the command line and run what is left."""
    config = tyro.cli(ScalingConfig, description=__doc__)
    game = find_learning_game(config.game)
    heads = SIZES["tiny"].transformer.heads
    if any(width < 1 or width % heads for width in config.widths):
        raise UserError(f"widths are {config.widths}; each must be a multiple of {heads}")
    if min(config.decisions) < 1 or config.steps < POINTS:
        raise UserError(f"decisions must be at least 1, and steps at least {POINTS}")
    folder = config.out / f"{game.game.lower()}_{config.steps}"
    for stages in ([recording(config, game, folder)], [preparing(config, game, folder)]):
        run_stages(stages, 1)
    # The longest come first, so that none is left to run alone.
    trainings = sorted(runs(config, game, folder), key=lambda run: run.width, reverse=True)
    run_stages([run.stage(folder) for run in trainings], config.workers)
    points = [point for run in trainings for point in read_points(run.measured)]
    print(f"data: {EpisodeStore(folder / 'play.h5').content_id[:12]}")
    print(report(game.game, points, folder / "scaling.png"))


def recording(config: ScalingConfig, game: LearningGame, folder: Path) -> Stage:
    """Collect the most play that is learned from, and some for measuring."""
    asked = CollectConfig(
        game=game.game,
        behaviour=game.behaviour,
        steps=max(config.decisions),
        out=folder / "play.h5",
        seed=config.seed,
        workers=config.workers,
    )
    return Stage("collect", folder / "held_out.h5", partial(record, asked, folder / "held_out.h5"))


def record(asked: CollectConfig, held_out: Path) -> None:
    """Collect both stores, the one that says that both are there last."""
    if not asked.out.exists():
        collect(asked)
    steps = min(HELD_OUT_DECISIONS, asked.steps)
    collect(replace(asked, steps=steps, out=held_out, seed=asked.seed + 1))


def preparing(config: ScalingConfig, game: LearningGame, folder: Path) -> Stage:
    """Train the tokenizer; cut the play; make the tokens of each part."""
    asked = replace(
        game.recipe,
        data=(folder / "play.h5",),
        run=folder / "tokenizer",
        world_steps=0,
        joint_steps=0,
        seed=config.seed,
        device="cpu",
    )
    done = folder / f"prepared_{'_'.join(map(str, config.decisions))}.json"
    return Stage("prepare", done, partial(prepare, asked, config.decisions, done))


def prepare(asked: TrainConfig, decisions: tuple[int, ...], done: Path) -> None:
    """Do what `preparing` says."""
    folder = asked.run.parent
    if not list_checkpoints(asked.run):
        train(asked)
    tokenizer = load_checkpoint(asked.run).tokenizer.eval()
    whole = EpisodeStore(asked.data[0])
    for count in decisions:
        write_first([whole], whole.games, count, part_of(folder, count))
    for path in (*(part_of(folder, count) for count in decisions), folder / "held_out.h5"):
        build_token_cache(EpisodeStore(path), tokenizer)
    with replace_file(done) as temporary:
        temporary.write_text(json.dumps({part_of(folder, count).name: count for count in decisions}))


def part_of(folder: Path, decisions: int) -> Path:
    """Where the first so many decisions are."""
    return folder / f"first_{decisions}.h5"


@dataclass(frozen=True)
class Run:
    """One training of the grid."""

    width: int
    """Of the transformer."""
    decisions: int
    """That it learns from."""
    asked: TrainConfig
    """How it is trained."""

    @property
    def measured(self) -> Path:
        """Where its losses are written."""
        return self.asked.run.with_suffix(".json")

    def stage(self, folder: Path) -> Stage:
        """Train and measure."""
        return Stage(self.asked.run.name, self.measured, partial(train_and_measure, self, folder))


def runs(config: ScalingConfig, game: LearningGame, folder: Path) -> Iterator[Run]:
    """Every training of the grid."""
    recipe = game.recipe
    for width in config.widths:
        for decisions in config.decisions:
            yield Run(
                width,
                decisions,
                replace(
                    recipe,
                    data=(part_of(folder, decisions),),
                    run=folder / f"width_{width}_decisions_{decisions}",
                    from_checkpoint=folder / f"untrained_{width}",
                    tokenizer_steps=0,
                    world_steps=0,
                    joint_steps=config.steps,
                    joint_optimizer=replace(recipe.joint_optimizer, schedule="constant"),
                    held_out_fraction=0.0,
                    keep_checkpoints=POINTS + 1,
                    seed=config.seed,
                    device="cpu",
                    loop=LoopConfig(save_every=config.steps // POINTS, image_every=config.steps),
                ),
            )


def train_and_measure(run: Run, folder: Path) -> None:
    """Train and measure one network; a stage has its own process, so that the size changes here alone."""
    SIZES["tiny"] = tiny_of_width(run.width)
    start = run.asked.from_checkpoint
    assert start is not None
    if not start.exists():
        write_untrained(start, folder / "tokenizer", replace(run.asked, from_checkpoint=None))
    spent = run.asked.run.with_name(f"{run.asked.run.name}_trained.json")
    if not spent.exists():
        train_ours(run.asked, spent)
    minutes = json.loads(spent.read_text())["cpu_minutes"]
    model = load_checkpoint(start).model
    assert model is not None
    parameters = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    points = []
    for path in list_checkpoints(run.asked.run):
        losses, step = held_out_losses(path, folder / "held_out.h5", run.asked), int(path.name.split("_")[1])
        points.append(
            Point(
                width=run.width,
                parameters=parameters,
                decisions=run.decisions,
                steps=step,
                seconds_a_step=60 * minutes / run.asked.joint_steps,
                next_token=losses["loss/observation"],
                action=losses["loss/penalty"] / run.asked.loss.cql_temperature,
            )
        )
    with replace_file(run.measured) as temporary:
        temporary.write_text(json.dumps([asdict(point) for point in points], indent=1))


def read_points(path: Path) -> list[Point]:
    """What a training measured."""
    return [Point(**point) for point in json.loads(path.read_text())]


if __name__ == "__main__":
    run_command(main)
