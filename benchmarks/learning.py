"""Whether learning and planning pay on whole games: our agent beside its data and what else learns from it.

    python benchmarks/learning.py --game Pong --minutes 60 --seeds 3
    python -m benchmarks.learning --game Freeway --minutes 4 --episodes 2     a rehearsal

For each seed it collects play by the game's scripted players, trains our agent, the Q network of a pair of
separate networks of the same total size, a cloning and a conservative Q-learning Nature-CNN on it, and has
all of them play whole games. `--minutes` is what collecting and learning are meant to take for a seed on
two cores: each learner has a fifth of it on one core. Whole games come on top: first those of all who play
without planning, and what came of them is reported; then, where a game lasts thousands of decisions for
hours, those of our planners, and all is reported again. `--only` names the stages to run. Steps follow from
the minutes alone, not from the clock, so a run can be repeated; what it took is printed. Stages that are
done are kept in `--out`, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the packages lie beside its folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
import tyro

from agents.acting import ActingConfig
from agents.evaluate import EvaluateConfig, evaluate
from agents.rollout import EpisodeResult, Player, RandomPlayer, RolloutConfig, play_episodes
from benchmarks.learning_baselines import Baseline, BaselineConfig, BaselinePlayer, train_baseline
from benchmarks.learning_games import (
    EPSILON,
    LearningGame,
    find_learning_game,
    greedy_players,
    planners_of,
)
from benchmarks.learning_report import report
from datasets.collect import CollectConfig, collect
from datasets.errors import UserError, run_command
from datasets.executor import end_with_parent
from datasets.files import replace_file
from datasets.games import find_game
from train import train
from world_model.checkpoint import best_checkpoint, list_checkpoints
from world_model.recipes import parse_command_line
from world_model.sizes import SIZES
from world_model.train_config import TrainConfig
from world_model.training import LoopConfig
from world_model.world_action_model import WorldActionConfig

CURVE_POINTS = 5
"""Checkpoints of our agent that play for the learning curve."""
LEARNER_SHARE = 0.2
"""Minutes of one core that each learner has for each minute of two cores that a seed may take."""
STEPS_A_MINUTE = 560.0
"""Our training steps in a minute of one core of the machine of RESULTS.md."""
BASELINE_STEPS_A_MINUTE: dict[Baseline, float] = {
    "clone": 2100.0,
    "clone the best": 2100.0,
    "conservative": 1200.0,
}
"""Gradient steps of the baselines in the same time."""
APART_WIDTH = 72
"""Width of two separate networks, one for the world part and one for the Q head, that have as many parameters
together as the tiny network has with both (1024 codes)."""
EVALUATION_SEED = 10_007
"""Added to the seed, so that games are played from other starts than those of the data."""


@dataclass(frozen=True)
class LearningConfig:
    """Collect, learn in several ways, play whole games, compare."""

    game: str
    """Game to learn."""
    minutes: float = 60.0
    """What a seed may take on two cores before games are played; a fifth, on one core, is each learner's."""
    seeds: int = 1
    """Seeds 0, 1, ...: each has its own data, weights and games."""
    first_seed: int = 0
    """The first of them."""
    episodes: int = 20
    """Whole games that each player plays for each seed."""
    curve_episodes: int = 6
    """Whole games for each point of the learning curve."""
    only: tuple[str, ...] = ()
    """Run only the stages whose names hold one of these words, such as "ours" or "greedy"; the same command
    without it does the rest."""
    workers: int = 2
    """Stages that run side by side, each on one core."""
    out: Path = Path("runs/learning")
    """Folder for everything; a folder for each game, budget and seed."""


@dataclass(frozen=True)
class Stage:
    """Something to do once, in a process of its own."""

    name: str
    """For people; its log is called so."""
    done: Path
    """A file or folder that is there when it is done."""
    work: Callable[[], None]
    """Does it."""


def main() -> None:
    """Read the command line and run every stage that is left."""
    config = tyro.cli(LearningConfig, description=__doc__)
    game = find_learning_game(config.game)
    if config.minutes <= 0 or config.seeds < 1 or config.episodes < 1:
        raise UserError("minutes, seeds and episodes must be above 0")
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    folders = [config.out / f"{game.game.lower()}_{config.minutes:g}_{seed}" for seed in seeds]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    places = list(zip(folders, seeds, strict=True))
    picture = config.out / f"{game.game.lower()}_{config.minutes:g}.png"
    run_stages([collecting(config, game, *place) for place in places], 1)
    for stages in (learning, playing, planning):
        every = [stage for place in places for stage in stages(config, game, *place)]
        wanted = [s for s in every if not config.only or any(word in s.name for word in config.only)]
        ran = run_stages(wanted, config.workers)
        if stages is playing or (stages is planning and ran):
            print(report(game.game, folders, picture), flush=True)


def run_stages(stages: list[Stage], workers: int) -> int:
    """Run what is not done yet, so many at a time; what they print goes to logs beside their results.

    Returns:
        How many there were to run.

    Raises:
        UserError: a stage failed; the others are run to their end.
    """
    left = [stage for stage in stages if not stage.done.exists()]
    context = multiprocessing.get_context("spawn")
    failures = []
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        started = time.perf_counter()
        futures = {pool.submit(_run_alone, stage): stage for stage in left}
        for future in as_completed(futures):
            stage = futures[future]
            minutes = (time.perf_counter() - started) / 60
            print(f"[{minutes:5.1f} min] {stage.done.parent}: {stage.name}", flush=True)
            if future.exception():
                failures.append(f"{stage.name}: {future.exception()}; see {_log_of(stage)}")
    if failures:
        raise UserError("; ".join(failures))
    return len(left)


def _run_alone(stage: Stage) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    log = _log_of(stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    with log.open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        stage.work()
        print(f"\n{stage.name}: {(time.process_time() - started) / 60:.2f} CPU minutes", flush=True)


def _log_of(stage: Stage) -> Path:
    return stage.done.parent / "logs" / f"{stage.name.replace(' ', '_').replace(',', '')}.txt"


def collecting(config: LearningConfig, game: LearningGame, folder: Path, seed: int) -> Stage:
    """Collect whole games."""
    store = folder / "play.h5"
    asked = CollectConfig(
        game=game.game,
        behaviour=game.behaviour,
        steps=game.data_steps(config.minutes),
        out=store,
        seed=seed,
        workers=config.workers,
    )
    return Stage("collect", store, partial(collect, asked))


def learning(config: LearningConfig, game: LearningGame, folder: Path, seed: int) -> Iterator[Stage]:
    """Train every learner for the same CPU time, and the Q network apart for as many steps as ours."""
    asked = training(config, game, folder, seed)
    yield Stage("train ours", folder / "trained.json", partial(train_ours, asked, folder / "trained.json"))
    done = folder / "trained apart.json"
    yield Stage("train apart", done, partial(train_apart, apart(asked, folder), done))
    for kind in baselines_of(game):
        path = weights_of(folder, kind)
        yield Stage(
            f"train {kind}", path, partial(train_baseline, baseline(config, game, folder, kind, seed), path)
        )


def training(config: LearningConfig, game: LearningGame, folder: Path, seed: int) -> TrainConfig:
    """How our agent is trained."""
    steps = round(STEPS_A_MINUTE * LEARNER_SHARE * config.minutes)
    world = round(game.world_share * steps)
    return replace(
        game.recipe,
        data=(folder / "play.h5",),
        run=folder / "run",
        seed=seed,
        world_steps=world,
        joint_steps=steps - world,
        keep_checkpoints=CURVE_POINTS,
        device="cpu",
        loop=LoopConfig(
            held_out_every=max(1, steps // 50), image_every=steps, save_every=max(1, steps // CURVE_POINTS)
        ),
    )


def apart(asked: TrainConfig, folder: Path) -> TrainConfig:
    """How the Q network of two is trained: for as many steps, without the world part's losses."""
    return replace(
        asked,
        run=folder / "apart",
        world_steps=0,
        joint_steps=asked.world_steps + asked.joint_steps,
        loss=replace(asked.loss, supervised_weight=0.0),
        keep_checkpoints=1,
    )


def train_apart(asked: TrainConfig, done: Path) -> None:
    """Train the Q network of two; a stage has its own process, so that the size changes here alone."""
    SIZES["tiny"] = network_apart()
    train_ours(asked, done)


def network_apart() -> WorldActionConfig:
    """One of two networks as large together as the tiny one."""
    return tiny_of_width(APART_WIDTH)


def tiny_of_width(width: int) -> WorldActionConfig:
    """The tiny size with a transformer of another width."""
    tiny = SIZES["tiny"]
    return replace(tiny, transformer=replace(tiny.transformer, width=width))


def train_ours(asked: TrainConfig, done: Path) -> None:
    """Train our agent, or go on with it, and note what that took."""
    started = time.process_time()
    resumed = bool(list_checkpoints(asked.run))
    train(parse_command_line(["--run", str(asked.run), "--resume"]) if resumed else asked)
    spent = {"cpu_minutes": (time.process_time() - started) / 60, "resumed": resumed}
    with replace_file(done) as temporary:
        temporary.write_text(json.dumps(spent))


def baselines_of(game: LearningGame) -> list[Baseline]:
    """The baselines of a game; cloning the best of all is cloning."""
    learns_from_all = game.recipe.best_share == 1
    return [kind for kind in BASELINE_STEPS_A_MINUTE if not (learns_from_all and kind == "clone the best")]


def baseline(
    config: LearningConfig, game: LearningGame, folder: Path, kind: Baseline, seed: int
) -> BaselineConfig:
    """How a baseline is trained."""
    steps = round(BASELINE_STEPS_A_MINUTE[kind] * LEARNER_SHARE * config.minutes)
    return BaselineConfig(kind, folder / "play.h5", steps, best_share=game.recipe.best_share, seed=seed)


def weights_of(folder: Path, kind: Baseline) -> Path:
    """Where a baseline's weights are."""
    return folder / f"{kind}.safetensors"


def playing(config: LearningConfig, game: LearningGame, folder: Path, seed: int) -> Iterator[Stage]:
    """The games of all who play without planning."""
    # What --only left untrained does not play.
    if list_checkpoints(folder / "run"):
        best = _best(folder / "run")
        for name, acting in greedy_players(game).items():
            yield evaluation(name, best, acting, config.episodes, game, folder, seed)
    if list_checkpoints(folder / "apart"):
        name, greedy = "Q network apart", greedy_players(game)["greedy"]
        yield evaluation(name, _best(folder / "apart"), greedy, config.episodes, game, folder, seed)
    rollout = RolloutConfig(episodes=config.episodes, envs=config.episodes)
    start = seed + EVALUATION_SEED
    for kind in baselines_of(game):
        out = folder / "scores" / f"{kind}.json"
        trained = baseline(config, game, folder, kind, seed)
        yield Stage(
            f"play {kind}",
            out,
            partial(play_baseline, trained, weights_of(folder, kind), game.game, rollout, start, out),
        )
    out = folder / "scores" / "random.json"
    yield Stage("play random", out, partial(play_randomly, game.game, rollout, start, out))


def planning(config: LearningConfig, game: LearningGame, folder: Path, seed: int) -> Iterator[Stage]:
    """The games of our learning curve, and of our planners, first those that take longest."""
    checkpoints = list_checkpoints(folder / "run")
    if not checkpoints:
        return
    greedy, best = greedy_players(game)["greedy"], _best(folder / "run")
    for path in checkpoints:
        yield evaluation(f"curve {path.name}", path, greedy, config.curve_episodes, game, folder, seed)
    for name, acting in reversed(planners_of(game).items()):
        yield evaluation(name, best, acting, config.episodes, game, folder, seed)


def evaluation(
    name: str,
    checkpoint: Path,
    acting: ActingConfig,
    episodes: int,
    game: LearningGame,
    folder: Path,
    seed: int,
) -> Stage:
    """Games that our agent plays from a checkpoint."""
    out = folder / "scores" / f"{name}.json"
    asked = EvaluateConfig(
        checkpoint,
        game.game,
        acting=acting,
        rollout=RolloutConfig(episodes=episodes, envs=episodes),
        seed=seed + EVALUATION_SEED,
        out=out,
        device="cpu",
    )
    return Stage(f"play {name}", out, partial(play_ours, asked))


def _best(run: Path) -> Path:
    return best_checkpoint(run) or list_checkpoints(run)[-1]


def play_ours(asked: EvaluateConfig) -> None:
    """Have our agent play; `evaluate` writes the scores."""
    evaluate(asked)


def play_baseline(
    trained: BaselineConfig, weights: Path, game: str, rollout: RolloutConfig, seed: int, out: Path
) -> None:
    """Have a baseline play."""
    player = BaselinePlayer(trained, weights, find_game(game), epsilon=EPSILON, seed=seed)
    _play(player, game, rollout, seed, out)


def play_randomly(game: str, rollout: RolloutConfig, seed: int, out: Path) -> None:
    """Have chance play."""
    _play(RandomPlayer(find_game(game), seed=seed), game, rollout, seed, out)


def _play(player: Player, game: str, rollout: RolloutConfig, seed: int, out: Path) -> None:
    results = play_episodes(player, find_game(game), rollout, seed=seed)
    write_scores(results, out)


def write_scores(results: list[EpisodeResult], out: Path) -> None:
    """Scores in the place where `agents.evaluate` writes its own."""
    episodes = [{"score": result.score, "decisions": result.decisions} for result in results]
    with replace_file(out) as temporary:
        temporary.write_text(json.dumps({"episodes": episodes}, indent=1))


if __name__ == "__main__":
    run_command(main)
