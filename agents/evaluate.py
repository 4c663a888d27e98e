"""Play a trained agent and say how well it does, with intervals.

    python -m agents.evaluate --checkpoint runs/pong --game Pong --planner beam --beam-width 2 \\
        --horizon 2 --episodes 16 --envs 8 --out pong.json --video pong.mp4

The file named by `--out` holds every episode's score and all that is needed to play them again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from agents.acting import ActingConfig, Agent, check_acting
from agents.report import format_estimate, text_table
from agents.rollout import AgentPlayer, EpisodeResult, RolloutConfig, episode_bar, play_share
from agents.scores import ScoreSummary, others_scores, summarise_scores
from agents.video import Scene, check_video_path, find_ffmpeg, write_video
from datasets.atari import EMULATOR
from datasets.errors import UserError, run_command
from datasets.executor import Here, Report, Worker, find_executor
from datasets.files import replace_file
from datasets.games import Game, find_game
from planning.model import PlanningError
from world_model.checkpoint import Checkpoint, load_checkpoint
from world_model.devices import find_device

FORMAT, VERSION = "worldbeam-evaluation", 1


@dataclass(frozen=True)
class EvaluateConfig:
    """Play a trained agent in one game and report its scores."""

    checkpoint: Path
    """A run, or one checkpoint of it."""
    game: str
    """Game to play, such as Pong."""
    acting: tyro.conf.OmitArgPrefixes[ActingConfig] = field(default_factory=ActingConfig)
    """How the agent chooses its actions."""
    rollout: tyro.conf.OmitArgPrefixes[RolloutConfig] = field(default_factory=RolloutConfig)
    """Which episodes are played."""
    workers: int = 0
    """Processes that play beside each other, with `envs` environments each; 0 plays in this one."""
    ray: str | None = None
    """Have that many workers of a Ray cluster play instead: `auto`, or the cluster's address."""
    seed: int = 0
    """Seed of no-ops, sticky actions, random actions and the bootstrap."""
    out: Path | None = None
    """JSON file to write the results to."""
    video: Path | None = None
    """MP4 file to write the first episode to, with values and planned path beside the game."""
    video_decisions: int = 900
    """Decisions of that episode to show; 15 a second."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation found."""

    config: EvaluateConfig
    """What was asked."""
    game: Game
    """What was played."""
    checkpoint: Path
    """The checkpoint that played."""
    checkpoint_sha256: str
    """Hash of its manifest, which holds the hashes of its files."""
    step: int
    """Optimisation steps it was trained for."""
    results: tuple[EpisodeResult, ...]
    """One per episode, by index."""
    scores: dict[str, ScoreSummary]
    """By scale: "raw", and "human" and "dqn" where they are known and whole games were played."""
    seconds: float
    """Time that play took, videos not counted."""
    device: str
    """What the model ran on."""
    notes: tuple[str, ...]
    """What a reader of the scores should know."""

    @property
    def decisions_per_second(self) -> float:
        """Actions chosen per second, over all environments, emulators included."""
        return sum(result.decisions for result in self.results) / self.seconds

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "game": self.game.name,
            "seed": self.config.seed,
            "checkpoint": {
                "path": str(self.checkpoint),
                "manifest_sha256": self.checkpoint_sha256,
                "step": self.step,
            },
            "acting": asdict(self.config.acting),
            "rollout": asdict(self.config.rollout),
            "scores": {scale: asdict(summary) for scale, summary in self.scores.items()},
            "others": others_scores(self.game.name),
            "decisions_per_second": self.decisions_per_second,
            "seconds": self.seconds,
            "device": self.device,
            "versions": versions(),
            "notes": list(self.notes),
            "episodes": [asdict(result) for result in self.results],
        }


def main() -> None:
    """Read the command line, play, print and write."""
    evaluation = evaluate(tyro.cli(EvaluateConfig, description=__doc__))
    print(describe(evaluation))


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Load a checkpoint, play its episodes, and write the files asked for.

    Raises:
        UserError: an unknown game, a bad checkpoint, settings beyond the game or the model, no ffmpeg for
            a video, or a file that cannot be written. What can be known before play is told before it.
    """
    game = find_game(config.game)
    _check_request(config)
    device = find_device(config.device)
    checkpoint = load_checkpoint(config.checkpoint, device)
    if checkpoint.model is None:
        raise UserError(f"{checkpoint.path}: holds only a tokenizer; train on until the model is trained too")
    config = replace(config, acting=with_discount_of_training(config.acting, checkpoint))
    check_acting(config.acting, game, checkpoint.tokenizer, checkpoint.model)
    start = time.perf_counter()
    results, scenes = _play(config, game, checkpoint)
    evaluation = Evaluation(
        config=config,
        game=game,
        checkpoint=checkpoint.path,
        checkpoint_sha256=hashlib.sha256((checkpoint.path / "manifest.json").read_bytes()).hexdigest(),
        step=checkpoint.step,
        results=results,
        scores=summarise_scores(
            np.array([result.score for result in results]),
            game.name,
            whole_games=config.rollout.whole_games,
            seed=config.seed,
        ),
        seconds=time.perf_counter() - start,
        device=_device_name(device),
        notes=notes(checkpoint, game, config),
    )
    if config.out is not None:
        with replace_file(config.out) as temporary:
            temporary.write_text(json.dumps(evaluation.to_json(), indent=2, allow_nan=False) + "\n")
    if config.video is not None:
        write_video(config.video, scenes, game, caption=describe_planner(config.acting))
    return evaluation


def _play(
    config: EvaluateConfig, game: Game, checkpoint: Checkpoint
) -> tuple[tuple[EpisodeResult, ...], list[Scene]]:
    """Play all episodes; results by index, and what is filmed."""
    executor = find_executor(config.workers, config.ray)
    episodes = range(config.rollout.episodes)
    if isinstance(executor, Here):
        make, shares = partial(_player, config, checkpoint), [episodes]
    else:
        # Other processes load the checkpoint themselves. Small shares keep all of them busy to the end.
        size = config.rollout.envs
        make = partial(_player, replace(config, checkpoint=checkpoint.path.absolute()), None)
        shares = [episodes[first : first + size] for first in episodes[::size]]
    results: list[EpisodeResult] = []
    scenes: list[Scene] = []
    try:
        with episode_bar(len(episodes), game.name) as show:
            for played, filmed in executor.run(make, shares, show):
                results += played
                scenes += filmed
    except PlanningError as error:
        raise UserError(f"{checkpoint.path}: {error}; use an earlier checkpoint of the run") from error
    return tuple(sorted(results, key=lambda result: result.index)), scenes


def _player(
    config: EvaluateConfig, checkpoint: Checkpoint | None
) -> Worker[range, tuple[list[EpisodeResult], list[Scene]]]:
    """What plays a share of the episodes: their results, and scenes of the filmed one if it is among them."""
    game = find_game(config.game)
    if checkpoint is None:
        torch.set_num_threads(1)  # there is a process for each core
        checkpoint = load_checkpoint(config.checkpoint, find_device(config.device))
    assert checkpoint.model is not None
    agent = Agent(
        checkpoint.tokenizer,
        checkpoint.model,
        game,
        config.acting,
        environments=config.rollout.envs,
        seed=config.seed,
    )

    def play(task: range, report: Report) -> tuple[list[EpisodeResult], list[Scene]]:
        player = AgentPlayer(agent, max_scenes=config.video_decisions if config.video else 0)
        played = play_share(player, game, config.rollout, task, seed=config.seed, report=report)
        return played, player.scenes

    return play


def with_discount_of_training(acting: ActingConfig, checkpoint: Checkpoint) -> ActingConfig:
    """Plan with the discount that the Q head learned with, unless another is asked for."""
    learned_with = checkpoint.training.get("loss", {}).get("discount")
    return acting if acting.discount is not None else replace(acting, discount=learned_with)


def notes(checkpoint: Checkpoint, game: Game, config: EvaluateConfig) -> tuple[str, ...]:
    """What a reader of the scores should know, in sentences."""
    found = []
    trained = checkpoint.training.get("games") or ()
    names = {find_game(name.split("=")[0]).name for name in trained}
    if names and game.name not in names:
        found.append(f"{game.name} is not among the games of this training run: {', '.join(sorted(names))}.")
    if not config.rollout.whole_games:
        found.append("Episodes were cut short: these scores cannot be compared with those of whole games.")
    if config.rollout.sticky_action_probability:
        found.append("Sticky actions were used; the published agents played without them.")
    return tuple(found)


def describe(evaluation: Evaluation) -> str:
    """The report that is printed."""
    config = evaluation.config
    names = {"raw": "score", "human": "human-normalised", "dqn": "DQN-normalised"}
    rows = [
        [names[scale], format_estimate(summary.mean), format_estimate(summary.iqm)]
        for scale, summary in evaluation.scores.items()
    ]
    parts = [
        f"{evaluation.game.name}, {describe_planner(config.acting)}, {len(evaluation.results)} episodes",
        f"{evaluation.checkpoint}, step {evaluation.step}",
        "",
        text_table(["", "mean [95% interval]", "IQM [95% interval]"], rows),
        "",
        f"{evaluation.decisions_per_second:.1f} decisions/s, {config.rollout.envs} envs, {evaluation.device}",
    ]
    others = others_scores(evaluation.game.name)
    if others and config.rollout.whole_games:
        parts += ["", text_table(["mean score of", evaluation.game.name], _ranking(evaluation, others))]
    parts += ["", *evaluation.notes] if evaluation.notes else []
    parts += ["", *(f"written: {file}" for file in (config.out, config.video) if file is not None)]
    return "\n".join(parts).rstrip()


def describe_planner(acting: ActingConfig) -> str:
    """A planner in a few words."""
    if acting.planner == "greedy":
        return "no planning"
    if acting.planner == "mcts":
        return f"tree search, {acting.num_simulations} simulations, horizon {acting.horizon}"
    return f"beam search, width {acting.beam_width}, horizon {acting.horizon}"


def versions() -> dict[str, str]:
    """Versions of what the scores depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "emulator": EMULATOR,
        "opencv": metadata.version("opencv-python-headless"),
    }


def _ranking(evaluation: Evaluation, others: dict[str, float]) -> list[list[str]]:
    scores = {"this agent": evaluation.scores["raw"].mean.value} | others
    return [[name, f"{score:.1f}"] for name, score in sorted(scores.items(), key=lambda item: -item[1])]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _check_request(config: EvaluateConfig) -> None:
    """Find out before hours of play what would spoil it, or the writing of its results."""
    if config.seed < 0:
        raise UserError(f"seed is {config.seed}; it must be at least 0")
    if config.video is not None:
        check_video_path(config.video)
        find_ffmpeg()
        if config.video_decisions < 1:
            raise UserError(f"video_decisions is {config.video_decisions}; it must be at least 1")
    for file in (config.out, config.video):
        if file is not None and file.is_dir():
            raise UserError(f"{file} is a folder; give the name of a file")


if __name__ == "__main__":
    run_command(main)
