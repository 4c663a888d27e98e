"""What pretraining is worth: a new game from few transitions, fine-tuned and from scratch.

    python -m benchmarks.finetuning                     about an hour on one core
    python -m benchmarks.finetuning --steps 20 --pretraining-steps 20 --episodes 1     a rehearsal

Scripted players record four games. A tiny model is pretrained on three of them, another on one of these, and
both are then trained, for the same number of steps as fresh weights, on the first transitions of the fourth.
A tokenizer that has seen one game cannot draw another, so all share one that has seen the frames of the
three games and of those transitions; one way has a tokenizer of its own. Held-out losses are of other
episodes of the fourth game, by the same players; scores are of new whole games, played without planning. What
is printed at the end is the table of RESULTS.md; beside it stands the plot.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import torch
import tyro

from agents.acting import ActingConfig
from agents.demo_games import DEMO_GAMES
from agents.evaluate import EvaluateConfig, evaluate
from agents.rollout import RolloutConfig
from benchmarks.finetuning_report import Measurement, plot, read_measurements, table
from benchmarks.held_out import held_out_losses, write_untrained
from benchmarks.learning_games import EPSILON, LEARNING_GAMES
from datasets.collect import CollectConfig, collect
from datasets.errors import run_command
from datasets.store import EpisodeStore
from datasets.subset import write_first
from train import train
from world_model.checkpoint import checkpoint_name, find_checkpoint, list_checkpoints
from world_model.imagination import ImaginationConfig
from world_model.recipes import RECIPES, finetuning
from world_model.train_config import TrainConfig
from world_model.training import LoopConfig

TINY = RECIPES["tiny"]
LORA_RANK = 8


@dataclass(frozen=True)
class Recording:
    """Play of one game, from which a part of the benchmark learns or is measured."""

    game: str
    """Name of the game."""
    behaviour: str
    """Who plays, in the words of datasets.collect."""
    steps: int
    """Decisions."""
    max_decisions: int = CollectConfig.max_episode_decisions
    """Decisions after which an episode is cut short; by default that of a whole game."""


PRETRAINING = (
    Recording("Breakout", LEARNING_GAMES["Breakout"].behaviour, 30_000, 1000),
    Recording("Pong", DEMO_GAMES["Pong"].behaviour, 30_000, 1000),
    Recording("Freeway", DEMO_GAMES["Freeway"].behaviour, 30_000, 1000),
)
TARGET = Recording("SpaceInvaders", LEARNING_GAMES["SpaceInvaders"].behaviour, 6000)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Compare fine-tuning with training from scratch on a few transitions of a new game."""

    out: Path = Path("runs/finetuning")
    """Folder to work in; data, weights and measurements that are there are used again."""
    transitions: int = 5000
    """Transitions of the new game to learn from."""
    tokenizer_steps: int = 100
    """Steps of a tokenizer, 64 frames each."""
    pretraining_steps: int = 2400
    """Steps of pretraining: a tenth for the world part alone, then with the Q head."""
    steps: int = 600
    """Steps on the new game."""
    measurements: int = 8
    """Times that the losses are measured on the way."""
    episodes: int = 15
    """Whole games played at the end; 0 plays none."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of training on the new game: each draws other batches and other adapters or fresh weights."""
    plot: Path = Path("benchmarks/finetuning.png")
    """Picture of the curves."""


def main() -> None:
    """Record, pretrain, train on the new game in every way, measure, print and draw."""
    config = tyro.cli(BenchmarkConfig, description=__doc__)
    torch.set_num_threads(1)
    started = time.perf_counter()
    stores = {recording.game: record(config, recording) for recording in (*PRETRAINING, TARGET)}
    held_out = record(config, replace(TARGET, steps=TARGET.steps // 2), seed=1)
    shared, own = make_tokenizers(config, stores)
    pretrained = {
        f"pretrained on {len(games)} game{'s' * (len(games) > 1)}": pretrain(config, stores, games, shared)
        for games in (PRETRAINING, PRETRAINING[:1])
    }
    measured = config.out / "measurements.json"
    found = read_measurements(measured)
    for seed in config.seeds:
        untrained = {
            "from scratch": fresh(config, shared, seed),
            "from scratch, own tokenizer": fresh(config, own, seed),
        }
        for name, run in arms(config, pretrained | untrained, stores[TARGET.game], seed):
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
    world = config.pretraining_steps // 10
    return replace(
        TINY,
        tokenizer_steps=config.tokenizer_steps,
        world_steps=world,
        joint_steps=config.pretraining_steps - world,
        held_out_fraction=0.0,
        allow_collapse=True,
        device="cpu",
    )


def make_tokenizers(config: BenchmarkConfig, stores: dict[str, Path]) -> tuple[Path, Path]:
    """Runs of a tokenizer that has seen all games, each equally often, and of one for the new game alone."""
    few = config.out / "few_transitions.h5"
    if not few.exists():
        write_first([EpisodeStore(stores[TARGET.game])], [TARGET.game], config.transitions, few)
    seen = [*(stores[recording.game] for recording in PRETRAINING), few]
    runs = config.out / "shared_tokenizer", config.out / "own_tokenizer"
    for run, data in zip(runs, (seen, [few]), strict=True):
        alone = replace(base_config(config), world_steps=0, joint_steps=0)
        games = tuple(f"{EpisodeStore(path).games[0]}=1" for path in data)
        finish(replace(alone, data=tuple(data), games=games, run=run))
    return runs


def pretrain(
    config: BenchmarkConfig, stores: dict[str, Path], games: Sequence[Recording], tokenizer: Path
) -> Path:
    """A run on some games, each drawn equally often, with a tokenizer that stays as it is."""
    names = [recording.game for recording in games]
    asked = replace(
        base_config(config),
        data=tuple(stores[name] for name in names),
        games=tuple(f"{name}=1" for name in names),
        tokenizer_steps=0,
        from_checkpoint=fresh(config, tokenizer, 0),
        run=config.out / f"pretrained_{len(games)}",
    )
    finish(asked)
    return asked.run


def finish(asked: TrainConfig) -> None:
    """Train, go on with what was interrupted, or leave what is done."""
    done = list_checkpoints(asked.run)
    if not done or done[-1].name != checkpoint_name(asked.total_steps):
        train(replace(asked, resume=bool(done)))


def arms(
    config: BenchmarkConfig, sources: dict[str, Path], store: Path, seed: int
) -> Iterator[tuple[str, Path]]:
    """Train in each way, and give its name and its run."""
    tuned = replace(
        finetuning(base_config(config)),
        data=(store,),
        games=(TARGET.game,),
        transitions=config.transitions,
        joint_steps=config.steps,
        batch_size=TINY.batch_size,
        keep_checkpoints=config.measurements + 1,
        loop=LoopConfig(save_every=max(1, config.steps // config.measurements), image_every=config.steps),
        seed=seed,
    )
    real = replace(tuned, imagination=ImaginationConfig())
    ways = {name: replace(real, from_checkpoint=source) for name, source in sources.items()}
    first, way = next(iter(ways.items()))
    ways[f"{first}, imagined data"] = replace(way, imagination=tuned.imagination)
    ways[f"{first}, LoRA rank {LORA_RANK}"] = replace(way, lora_rank=LORA_RANK)
    for name, way in ways.items():
        run = config.out / f"{name.replace(',', '').replace(' ', '_')}_{seed}"
        finish(replace(way, run=run))
        yield name, run


def fresh(config: BenchmarkConfig, source: Path, seed: int) -> Path:
    """A checkpoint with the tokenizer of another and untrained weights, begun as `train.py` begins them."""
    path = config.out / f"fresh_{source.name}_{seed}"
    if not path.exists():
        write_untrained(path, source, replace(base_config(config), seed=seed))
    return path


def measure_run(
    config: BenchmarkConfig, name: str, run: Path, held_out: Path, seed: int
) -> list[Measurement]:
    """Losses at every checkpoint of a run and before the first; scores at the end."""
    source = Path(
        json.loads((find_checkpoint(run) / "config.json").read_text())["training"]["from_checkpoint"]
    )
    steps = [(0, find_checkpoint(source)), *((int(p.name.split("_")[1]), p) for p in list_checkpoints(run))]
    last = steps[-1][0]
    return [
        Measurement(
            name,
            seed,
            step,
            **losses(path, held_out),
            scores=scores(config, path) if step == last and config.episodes else (),
        )
        for step, path in steps
    ]


def losses(path: Path, held_out: Path) -> dict[str, float]:
    """The losses of a checkpoint that the report shows."""
    found = held_out_losses(path, held_out, TINY)
    return {
        "token_loss": found["loss/observation"],
        "reward_loss": found["loss/reward"],
        "action_loss": found["loss/action"],
    }


def scores(config: BenchmarkConfig, path: Path) -> tuple[float, ...]:
    """Scores of new games played greedily by a checkpoint."""
    rollout = RolloutConfig(config.episodes, config.episodes, max_decisions=TARGET.max_decisions)
    acting = ActingConfig(planner="greedy", context_frames=TINY.context_frames, epsilon=EPSILON)
    asked = EvaluateConfig(path, TARGET.game, acting=acting, rollout=rollout, seed=7, device="cpu")
    return tuple(result.score for result in evaluate(asked).results)


if __name__ == "__main__":
    run_command(main)
