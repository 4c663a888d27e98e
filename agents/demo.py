"""The whole project in one command: collect, train, plan, play, report. Run by `make demo`.

    python -m agents.demo                     both games, about a quarter of an hour on two cores
    python -m agents.demo --games Freeway     one of them
    python -m agents.demo --budget 0.1        a tenth of the data, training and games: a rehearsal

For each game it collects play by imperfect behaviours, trains a tiny world-action model on nothing
but that play, and lets it play new games with and without the beam planner. The games go side by
side, each on its share of the cores; what each prints is in `demo/<game>/log.txt`. What came of it is
a table in the terminal and a page, `demo/report.html`, with pictures and videos. Finished stages are
kept: run again after an interruption, it goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from agents.demo_games import DEMO_GAMES, DemoGame
from agents.demo_report import GameOutcome, PlayerOutcome, print_outcomes, write_report
from agents.evaluate import EvaluateConfig, evaluate
from agents.rollout import RandomPlayer, RolloutConfig, play_episodes
from datasets.collect import CollectConfig, collect
from datasets.errors import UserError, run_command
from datasets.executor import end_with_parent
from datasets.games import find_game
from datasets.store import EpisodeStore
from train import train
from world_model.checkpoint import list_checkpoints
from world_model.recipes import parse_command_line
from world_model.train_config import TrainConfig

LOG = "log.txt"
STATUS_SECONDS = 20


@dataclass(frozen=True)
class DemoConfig:
    """Collect, train, plan, play and report, on a laptop."""

    out: Path = Path("demo")
    """Folder for everything that the demo makes."""
    games: tuple[str, ...] = tuple(DEMO_GAMES)
    """Games to show."""
    budget: float = 1.0
    """Share of the usual data, training steps and games; below 1 it is quicker and proves less."""
    seed: int = 0
    """Seed of everything random."""


def main() -> None:
    """Read the command line and show everything."""
    config = tyro.cli(DemoConfig, description=__doc__)
    if not config.games:
        raise UserError("no --games: name one of " + ", ".join(DEMO_GAMES))
    started = time.perf_counter()
    outcomes = show_side_by_side(config, [find_demo_game(name) for name in config.games])
    page = config.out / "report.html"
    write_report(page, outcomes, seconds=time.perf_counter() - started, budget=config.budget)
    print_outcomes(outcomes)
    print(f"\n{page.absolute()}: open it in a browser")


def show_side_by_side(config: DemoConfig, demos: Sequence[DemoGame]) -> list[GameOutcome]:
    """Go through all games at once, one process a game, and say every few seconds how far they are."""
    threads = max(1, (os.cpu_count() or 1) // len(demos))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(demos), mp_context=context, initializer=end_with_parent) as processes:
        games = {demo.game: processes.submit(show_alone, config, demo, threads) for demo in demos}
        started = time.perf_counter()
        while wait(games.values(), timeout=STATUS_SECONDS, return_when=FIRST_EXCEPTION).not_done:
            minutes = (time.perf_counter() - started) / 60
            for game, process in games.items():
                state = "done" if process.done() else last_words(config.out / game.lower() / LOG)
                print(f"[{minutes:4.1f} min] {game}: {state}", flush=True)
            if any(game.done() and game.exception() for game in games.values()):
                break
        return [game.result() for game in games.values()]


def show_alone(config: DemoConfig, demo: DemoGame, threads: int) -> GameOutcome:
    """Go through one game in a process of its own, all that it prints going to its log."""
    torch.set_num_threads(threads)
    log = config.out / demo.game.lower() / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        return show(config, demo)


def last_words(log: Path) -> str:
    """The newest state of the newest progress bar, or the newest line, of a log."""
    if not log.exists():
        return "starting"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = file.read().decode(errors="ignore").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "starting")


def find_demo_game(name: str) -> DemoGame:
    """The demo's recipe for a game.

    Raises:
        UserError: no such game, or none with a recipe.
    """
    game = find_game(name)
    if game.name not in DEMO_GAMES:
        raise UserError(f"the demo has no recipe for {game.name}; name one of {', '.join(DEMO_GAMES)}")
    return DEMO_GAMES[game.name]


def show(config: DemoConfig, demo: DemoGame) -> GameOutcome:
    """Go through every stage of one game."""
    folder = config.out / demo.game.lower()
    seconds: dict[str, float] = {}

    started = time.perf_counter()
    print(f"\n== {demo.game}: collect play ==")
    store_path = folder / "play.h5"
    if not store_path.exists():
        collect(collect_config(config, demo, store_path))
    seconds["collect"] = time.perf_counter() - started

    started = time.perf_counter()
    print(f"\n== {demo.game}: train ==")
    run = folder / "run"
    train(train_config(config, demo, store_path, run))
    seconds["train"] = time.perf_counter() - started

    started = time.perf_counter()
    print(f"\n== {demo.game}: play ==")
    players = play(config, demo, run, folder)
    seconds["play"] = time.perf_counter() - started
    store = EpisodeStore(store_path)
    scores = np.array([info.total_reward for info in store.episodes])
    return GameOutcome(
        demo=demo,
        players=(players[0], PlayerOutcome("the data", scores), *players[1:]),
        steps_of_data=store.num_steps,
        run=run,
        folder=folder,
        seconds=seconds,
    )


def collect_config(config: DemoConfig, demo: DemoGame, out: Path) -> CollectConfig:
    """What is collected for a game."""
    return CollectConfig(
        game=demo.game,
        behaviour=demo.behaviour,
        steps=max(2 * demo.max_decisions, round(demo.steps * config.budget)),
        out=out,
        max_episode_decisions=demo.max_decisions,
        seed=config.seed,
    )


def train_config(config: DemoConfig, demo: DemoGame, store: Path, run: Path) -> TrainConfig:
    """How a game is trained; goes on with a run that was interrupted."""
    if list_checkpoints(run):
        return parse_command_line(["--run", str(run), "--resume"])
    recipe = demo.recipe
    return replace(
        recipe,
        data=(store,),
        run=run,
        seed=config.seed,
        tokenizer_steps=max(1, round(recipe.tokenizer_steps * config.budget)),
        world_steps=round(recipe.world_steps * config.budget),
        joint_steps=max(1, round(recipe.joint_steps * config.budget)),
        allow_collapse=config.budget < 1.0,
    )


def play(config: DemoConfig, demo: DemoGame, run: Path, folder: Path) -> list[PlayerOutcome]:
    """Scores of random play, of the agent without planning and of the agent with it."""
    game = find_game(demo.game)
    rollout = RolloutConfig(
        episodes=max(2, round(demo.episodes * config.budget)),
        envs=demo.episodes,
        max_decisions=demo.max_decisions,
    )
    # The games played are others than those of the data.
    seed = config.seed + 1
    random = play_episodes(RandomPlayer(game, seed=seed), game, rollout, seed=seed, label="random")
    outcomes = [PlayerOutcome("random", np.array([result.score for result in random]))]
    for name, acting in (("greedy", replace(demo.acting, planner="greedy")), ("planned", demo.acting)):
        evaluation = evaluate(
            EvaluateConfig(
                checkpoint=run,
                game=demo.game,
                acting=acting,
                rollout=rollout,
                seed=seed,
                out=folder / f"{name}.json",
                video=folder / f"{name}.mp4",
                video_decisions=300,
            )
        )
        scores = np.array([result.score for result in evaluation.results])
        outcomes.append(PlayerOutcome(name, scores, folder / f"{name}.mp4", evaluation.decisions_per_second))
    return outcomes


if __name__ == "__main__":
    run_command(main)
