"""What pretraining is worth: a new game from few transitions, fine-tuned and from scratch.

    python -m benchmarks.finetuning                     about ten minutes on one core
    python -m benchmarks.finetuning --steps 20 --pretraining-steps 20 --episodes 1     a rehearsal

Scripted players record three games. A tiny model is pretrained on two of them and then trained in several
ways, all for the same number of steps, on the first transitions of the third. The published tokenizer stays
as it is, as it has seen many games; one that has seen two cannot draw a third, so here it is first trained
on for a while, on the same transitions, and all but one of the ways share it. Held-out losses are of other
episodes of the third game, by the same players; scores are of new games, played without planning. What is
printed at the end is the table of RESULTS.md; beside it stands the plot.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
import tyro

from agents.acting import ActingConfig
from agents.evaluate import EvaluateConfig, evaluate
from agents.rollout import RolloutConfig
from benchmarks.finetuning_report import Measurement, plot, read_measurements, table
from datasets.collect import CollectConfig, collect
from datasets.errors import run_command
from datasets.mixture import SamplingConfig
from datasets.sampling import SegmentSampler
from datasets.segments import SegmentConfig
from datasets.store import EpisodeStore
from datasets.tokens import build_token_cache
from train import train
from world_model.checkpoint import (
    checkpoint_name,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from world_model.distributed import Processes
from world_model.imagination import ImaginationConfig
from world_model.losses import LossConfig, compute_loss
from world_model.optimizers import OptimizerConfig
from world_model.recipes import RECIPES, finetuning
from world_model.starting_embeddings import start_embeddings
from world_model.train_config import TrainConfig
from world_model.training import LoopConfig
from world_model.training_data import open_data, set_backgrounds
from world_model.training_state import fresh_model

CONTEXT = 4
HELD_OUT_BATCHES = 8
LORA_RANK = 8
LOSS = LossConfig(td_target="monte_carlo", discount=0.97, supervised_weight=1.0)
OPTIMIZER = OptimizerConfig(2e-3, warmup_steps=20, schedule="cosine")
SEGMENTS = SegmentConfig(segment_length=CONTEXT, stride=2, discount=LOSS.discount)


@dataclass(frozen=True)
class Recording:
    """Play of one game, from which a part of the benchmark learns or is measured."""

    game: str
    """Name of the game."""
    behaviour: str
    """Who plays, in the words of datasets.collect."""
    steps: int
    """Decisions."""
    max_decisions: int
    """Length of an episode."""


PRETRAINING = (
    Recording("Breakout", "tracker@0..0.5", 15_000, 500),
    Recording("Pong", "tracker@0..0.5:0.7,tracker@0.5..1:0.3", 15_000, 300),
)
TARGET = Recording("Freeway", "up=0.3..0.9", 10_000, 500)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Compare fine-tuning with training from scratch on a few transitions of a new game."""

    out: Path = Path("runs/finetuning")
    """Folder to work in; data, weights and measurements that are there are used again."""
    transitions: int = 5000
    """Transitions of the new game to learn from."""
    tokenizer_steps: int = 800
    """Steps of the tokenizer, 64 frames each, on the two games; half as many on the new one."""
    pretraining_steps: int = 1500
    """Steps of pretraining the model: 40% world part alone, then with the Q head."""
    steps: int = 320
    """Steps on the new game."""
    measurements: int = 8
    """Times that the losses are measured on the way."""
    batch_size: int = 8
    """Segments in a step."""
    episodes: int = 4
    """Games played per return; 0 plays none."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of training on the new game: each draws other batches and other adapters or fresh weights."""
    plot: Path = Path("benchmarks/finetuning.png")
    """Picture of the curves."""


def main() -> None:
    """Record, pretrain, train on the new game in every way, measure, print and draw."""
    config = tyro.cli(BenchmarkConfig, description=__doc__)
    torch.set_num_threads(1)
    started = time.perf_counter()
    stores = {recording.game: record(config, recording) for recording in (*PRETRAINING, TARGET)}
    held_out = record(config, replace(TARGET, steps=TARGET.steps // 4), seed=1)
    pretrained = pretrain(config, [stores[recording.game] for recording in PRETRAINING])
    measured = config.out / "measurements.json"
    found = read_measurements(measured)
    for seed in config.seeds:
        for name, run in arms(config, pretrained, stores[TARGET.game], seed):
            if not any((m.name, m.seed) == (name, seed) for m in found):
                found += measure_run(config, name, run, held_out, seed)
                measured.write_text(json.dumps([asdict(m) for m in found], indent=1))
    plot(found, config.plot, f"{TARGET.game}, {config.transitions} transitions")
    minutes = [
        sum(resource.getrusage(who)[:2]) / 60 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(
        f"\nDate: {date.today()}; {sum(minutes):.1f} CPU minutes, {(time.perf_counter() - started) / 60:.0f} "
        "minutes by the clock; one thread"
    )
    for name, store in (*stores.items(), (f"{TARGET.game}, held out", held_out)):
        print(f"{name}: content {EpisodeStore(store).content_id[:12]}")
    print(table(found))


def record(config: BenchmarkConfig, recording: Recording, seed: int = 0) -> Path:
    """The store of a recording, made if it is not there."""
    path = config.out / f"{recording.game.lower()}_{seed}.h5"
    if not path.exists():
        collect(
            CollectConfig(
                game=recording.game,
                behaviour=recording.behaviour,
                steps=recording.steps,
                max_episode_decisions=recording.max_decisions,
                seed=seed,
                workers=1,
                out=path,
            )
        )
    return path


def base_config(config: BenchmarkConfig) -> TrainConfig:
    """What all training has in common."""
    return TrainConfig(
        run=Path("runs/tiny"),
        context_frames=CONTEXT,
        stride=SEGMENTS.stride,
        value_range=(-5.0, 5.0),
        tokenizer_steps=config.tokenizer_steps,
        world_steps=2 * config.pretraining_steps // 5,
        joint_steps=config.pretraining_steps - 2 * config.pretraining_steps // 5,
        world_optimizer=replace(OPTIMIZER, schedule="constant"),
        joint_optimizer=OPTIMIZER,
        batch_size=config.batch_size,
        loss=LOSS,
        held_out_fraction=0.0,
        allow_collapse=True,
        device="cpu",
    )


def pretrain(config: BenchmarkConfig, stores: Sequence[Path]) -> Path:
    """The run pretrained on two games, each drawn equally often."""
    run = config.out / "pretrained"
    if not list_checkpoints(run):
        games = tuple(f"{recording.game}=1" for recording in PRETRAINING)
        train(replace(base_config(config), data=tuple(stores), games=games, run=run))
    return run


def arms(config: BenchmarkConfig, pretrained: Path, store: Path, seed: int) -> Iterator[tuple[str, Path]]:
    """Train in each way, and give its name and its run."""
    loop = LoopConfig(save_every=max(1, config.steps // config.measurements), image_every=config.steps)
    tuned = replace(
        finetuning(base_config(config)),
        data=(store,),
        games=(TARGET.game,),
        transitions=config.transitions,
        joint_steps=config.steps,
        joint_optimizer=OPTIMIZER,
        batch_size=config.batch_size,
        from_checkpoint=pretrained,
        keep_checkpoints=config.measurements + 1,
        loop=loop,
        seed=seed,
    )
    real = replace(tuned, imagination=ImaginationConfig())
    source, own = with_tokenizers(config, tuned, pretrained)
    ways = (
        ("fine-tuned", source, real),
        ("fine-tuned, imagined data", source, tuned),
        (f"fine-tuned, LoRA rank {LORA_RANK}", source, replace(real, lora_rank=LORA_RANK)),
        ("from scratch", fresh(config, source, seed), real),
        ("from scratch, own tokenizer", fresh(config, own, seed), real),
    )
    for name, source, way in ways:
        run = config.out / f"{name.replace(',', '').replace(' ', '_')}_{seed}"
        done = list_checkpoints(run)
        way = replace(way, run=run, from_checkpoint=source, resume=bool(done))
        if not done or done[-1].name != checkpoint_name(config.steps):
            train(way)
        yield name, run


def with_tokenizers(config: BenchmarkConfig, tuned: TrainConfig, pretrained: Path) -> tuple[Path, Path]:
    """The pretrained run with its tokenizer trained on, and a tokenizer trained on the new game alone."""
    runs = config.out / "pretrained_tokenizer_tuned", config.out / "own_tokenizer"
    steps = config.tokenizer_steps // 2
    for run, source in zip(runs, (pretrained, None), strict=True):
        if not list_checkpoints(run):
            alone = replace(tuned, tokenizer_steps=steps, joint_steps=0, loop=LoopConfig(), seed=0)
            train(replace(alone, from_checkpoint=source, run=run))
    return runs


def fresh(config: BenchmarkConfig, source: Path, seed: int) -> Path:
    """A checkpoint with the tokenizer of another and untrained weights, begun as `train.py` begins them."""
    path = config.out / f"fresh_{source.name}_{seed}"
    tokenizer = load_checkpoint(source).tokenizer
    settings = replace(base_config(config), seed=seed)
    model = fresh_model(settings, tokenizer, torch.device("cpu"))
    start_embeddings(model, tokenizer, seed)
    save_checkpoint(path, step=0, tokenizer=tokenizer, model=model, optimizer={}, training=settings.to_json())
    return path


def measure_run(
    config: BenchmarkConfig, name: str, run: Path, held_out: Path, seed: int
) -> list[Measurement]:
    """Losses at every checkpoint of a run and before the first; scores at a quarter and at the end."""
    source = Path(
        json.loads((find_checkpoint(run) / "config.json").read_text())["training"]["from_checkpoint"]
    )
    steps = [(0, find_checkpoint(source)), *((int(p.name.split("_")[1]), p) for p in list_checkpoints(run))]
    playing = {steps[index][0] for index in (len(steps) // 4, -1) if config.episodes}
    return [
        Measurement(
            name,
            seed,
            step,
            **losses(path, held_out),
            scores=scores(config, path) if step in playing else (),
        )
        for step, path in steps
    ]


@torch.no_grad()
def losses(path: Path, held_out: Path) -> dict[str, float]:
    """Losses of a checkpoint on the same segments of held-out episodes."""
    checkpoint = load_checkpoint(path)
    assert checkpoint.model is not None
    store = EpisodeStore(held_out)
    data = open_data(replace(RECIPES["tiny"], data=(held_out,), held_out_fraction=0.0), Processes())
    set_backgrounds(checkpoint.tokenizer, data)
    cache = build_token_cache(store, checkpoint.tokenizer, progress=False)
    sampling = SamplingConfig(batch_size=32, held_out_fraction=0.0)
    sampler = SegmentSampler([store], [cache], sampling, SEGMENTS, split="all")
    outputs = [
        compute_loss(checkpoint.model, sampler.batch(step), LOSS, train_q=True).scalars()
        for step in range(HELD_OUT_BATCHES)
    ]
    chosen = {
        "token_loss": "loss/observation",
        "reward_loss": "loss/reward",
        "q_loss": "loss/td",
    }
    return {
        ours: float(np.mean([out[theirs] for out in outputs if theirs in out]))
        for ours, theirs in chosen.items()
    }


def scores(config: BenchmarkConfig, path: Path) -> tuple[float, ...]:
    """Scores of new games played greedily by a checkpoint."""
    rollout = RolloutConfig(config.episodes, config.episodes, max_decisions=TARGET.max_decisions)
    acting = ActingConfig(planner="greedy", context_frames=CONTEXT)
    asked = EvaluateConfig(path, TARGET.game, acting=acting, rollout=rollout, seed=7, device="cpu")
    return tuple(result.score for result in evaluate(asked).results)


if __name__ == "__main__":
    run_command(main)
