"""Proof that it does not matter who plays: one process, local processes or Ray, also when a worker is killed.

    python -m benchmarks.rollouts

Evaluation, collection of ten games, and self-play of the search agent run through their command lines, in one
process and by each of two crews: local processes, and a Ray cluster that is made here, of two nodes of one
CPU each. One worker of each crew is killed with signal 9 while it plays. What comes out is compared episode
for episode. Needs the extra `ray`.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from agents.search_agent.checkpoint import load_search_checkpoint
from benchmarks.kills import children, quietly
from datasets.store import EpisodeStore

GAMES = "Pong Breakout Freeway Boxing Assault Atlantis Alien Amidar Asterix BankHeist".split()
TRAIN = (
    "--tokenizer-steps 20 --world-steps 5 --joint-steps 5 --batch-size 4 --context-frames 4 "
    "--allow-collapse --device cpu"
).split()
PATIENCE = 900.0
"""Seconds after which a command is given up."""
STARTED = 6.0
"""Seconds of CPU time after which a worker plays for sure, and does not only load its libraries."""


@dataclass(frozen=True)
class RolloutsConfig:
    """Play by one process and by crews of which a worker is killed, and compare."""

    tasks: tuple[Literal["evaluation", "collection", "self-play"], ...] = (
        "evaluation",
        "collection",
        "self-play",
    )
    """What to play."""
    episodes: int = 200
    """Episodes of the evaluation, of 20 decisions each."""
    games: tuple[str, ...] = tuple(GAMES)
    """Games collected, 400 steps each."""
    self_play: int = 8
    """Games of the search agent on one job shop."""
    workers: int = 2
    """Local processes, and Ray nodes of one CPU."""
    out: Path = Path("runs/rollouts_benchmark")
    """Folder to work in; emptied first."""
    seed: int = 0
    """Seed of the moments at which workers are killed."""


@dataclass(frozen=True)
class Crew:
    """Who plays."""

    name: str
    options: tuple[str, ...]
    mark: str
    """What the command of a worker at work holds, but no other process's."""


def main() -> None:
    """Run the proof, print a table, and exit with 1 if anything differs."""
    config = tyro.cli(RolloutsConfig, description=__doc__)
    # Imported here, so that --help works without the extra.
    import ray
    from ray.cluster_utils import Cluster

    shutil.rmtree(config.out, ignore_errors=True)
    config.out.mkdir(parents=True)
    if "evaluation" in config.tasks:
        prepare(config)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(config.workers - 1):
        cluster.add_node(num_cpus=1)
    many = ("--workers", str(config.workers))
    crews = (
        Crew("local processes", many, "spawn_main"),
        Crew("Ray", (*many, "--ray", cluster.address), "ray::_RayWorker.do"),
    )
    try:
        print("| task | by | seconds | killed | equal to one process |", flush=True)
        print("| --- | --- | --- | --- | --- |", flush=True)
        same = [TASKS[task](config, crews) for task in config.tasks]
    finally:
        ray.shutdown()
        cluster.shutdown()
    raise SystemExit(not all(same))


def prepare(config: RolloutsConfig) -> None:
    """A checkpoint to evaluate."""
    store, run = config.out / "pong.h5", config.out / "run"
    quietly(module("datasets.collect", "--game", "Pong", "--steps", "400", "--out", str(store)))
    quietly([sys.executable, "train.py", "--data", str(store), "--run", str(run), *TRAIN])


def evaluations(config: RolloutsConfig, crews: Iterable[Crew]) -> bool:
    """Evaluate; whether every episode's score, length and end are the same."""

    def command(name: str) -> list[str]:
        return module(
            *(
                "agents.evaluate",
                "--checkpoint",
                str(config.out / "run"),
                "--game",
                "Pong",
                "--device",
                "cpu",
            ),
            *("--planner", "beam", "--beam-width", "2", "--horizon", "1", "--epsilon", "0.1"),
            *("--episodes", str(config.episodes), "--envs", "10", "--max-decisions", "20"),
            *("--out", str(config.out / f"{name}.json")),
        )

    def found(name: str) -> list[dict[str, Any]]:
        return json.loads((config.out / f"{name}.json").read_text())["episodes"]

    row(f"evaluation, {config.episodes} episodes", "one process", timed(command("one")))
    expected, all_same = found("one"), True
    assert len(expected) == config.episodes
    for crew in crews:
        seconds, killed = with_a_death(config, [*command(crew.name), *crew.options], crew)
        same = found(crew.name) == expected
        row("", crew.name, seconds, killed, f"{len(found(crew.name))} of {len(expected)}" if same else "no")
        all_same &= same and killed > 0
    return all_same


def collections(config: RolloutsConfig, crews: Iterable[Crew]) -> bool:
    """Collect; whether the stores are the same."""

    def commands(name: str) -> list[list[str]]:
        options = ("--max-episode-decisions", "100", "--append", "--sticky", "0.25")
        store = ("--out", str(config.out / f"{name}.h5"))
        # The first game is long enough for a worker to be killed at it.
        steps = dict.fromkeys(config.games, "400") | {config.games[0]: "4000"}
        return [
            module("datasets.collect", "--game", game, "--steps", steps[game], *options, *store)
            for game in config.games
        ]

    seconds = sum(timed([*command, "--workers", "1"]) for command in commands("one"))
    row(f"collection, {len(config.games)} games", "one process", seconds)
    expected, all_same = EpisodeStore(config.out / "one.h5"), True
    for crew in crews:
        total, deaths = 0.0, 0
        for number, command in enumerate(commands(crew.name)):
            if number == 0:
                seconds, killed = with_a_death(config, [*command, *crew.options], crew)
            else:
                seconds, killed = timed([*command, *crew.options]), 0
            total, deaths = total + seconds, deaths + killed
        found = EpisodeStore(config.out / f"{crew.name}.h5")
        same = found.content_id == expected.content_id
        row("", crew.name, total, deaths, f"{len(found.episodes)} episodes" if same else "no")
        all_same &= same and deaths > 0
    return all_same


def self_plays(config: RolloutsConfig, crews: Iterable[Crew]) -> bool:
    """Play a round against itself; whether every game's moves and rewards are the same."""

    def command(name: str) -> list[str]:
        return module(
            *("agents.train_search", "--game", "job-shop", "--run", str(config.out / name)),
            *("--iterations", "1", "--games-per-iteration", str(config.self_play), "--reanalysed", "0"),
            *("--steps-per-iteration", "1", "--play.num-simulations", "256"),
        )

    def found(name: str) -> dict[str, np.ndarray]:
        [file] = (config.out / name / "checkpoints").iterdir()
        replay = load_search_checkpoint(file).replay
        return {key: value for key, value in replay.items() if key.endswith(("/actions", "/rewards"))}

    row(f"self-play, {config.self_play} games", "one process", timed(command("one")))
    expected, all_same = found("one"), True
    for crew in crews:
        seconds, killed = with_a_death(config, [*command(crew.name), *crew.options], crew)
        games = found(crew.name)
        same = games.keys() == expected.keys()
        same = same and all(np.array_equal(games[name], expected[name]) for name in games)
        row("", crew.name, seconds, killed, f"{len(games) // 2} games" if same else "no")
        all_same &= same and killed > 0
    return all_same


TASKS = {"evaluation": evaluations, "collection": collections, "self-play": self_plays}


def with_a_death(config: RolloutsConfig, command: list[str], crew: Crew) -> tuple[float, int]:
    """Seconds that a command took of which one worker was killed at work, and how many were."""
    started = time.perf_counter()
    with (config.out / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    draw = random.Random(config.seed)
    killed = 0
    while process.poll() is None and time.perf_counter() - started < PATIENCE:
        time.sleep(0.05)
        if killed:
            continue
        for victim in workers_at_work(process.pid, crew.mark, has_begun(config.out / "log.txt")):
            time.sleep(draw.uniform(0.0, 0.5))
            os.kill(victim, signal.SIGKILL)
            killed += 1
            break
    if process.poll() is None:
        process.kill()
        raise SystemExit(f"given up after {PATIENCE:.0f} s: {' '.join(command)}")
    if process.returncode:
        raise SystemExit((config.out / "log.txt").read_text())
    return time.perf_counter() - started, killed


def has_begun(log: Path) -> bool:
    """Whether the progress bar in a log says that something is done, but not all."""
    counts = re.findall(r" (\d+)/(\d+) \[", log.read_text(errors="replace"))
    return any(0 < int(done) < int(whole) for done, whole in counts)


def workers_at_work(driver: int, mark: str, begun: bool) -> list[int]:
    """Processes that play: children of the driver, or Ray's.

    Before the progress bar has moved, only those that have computed for so long that they play for sure.
    """
    if mark.startswith("ray"):
        candidates = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    else:
        candidates = children(driver)
    return [pid for pid in candidates if mark in command_of(pid) and (begun or cpu_seconds(pid) > STARTED)]


def command_of(pid: int) -> str:
    """The command line of a process, or what it calls itself; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(command: list[str]) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    quietly(command)
    return time.perf_counter() - started


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def row(task: str, crew: str, seconds: float, killed: int = 0, equal: str = "") -> None:
    """Print a row of the table."""
    print(f"| {task} | {crew} | {seconds:.0f} | {killed or ''} | {equal} |", flush=True)


if __name__ == "__main__":
    main()
