"""Proof that several processes lose nothing when one is killed: kills workers at random steps, and compares.

    python -m benchmarks.kills --kills 20

A run of one process is left alone first. Then runs of two processes under torchrun have one worker, drawn
at random, killed with signal 9 at a random step, and torchrun starts both again; every third run loses all
its processes, as with a machine, and one alone goes on. Copies and shards take turns. Losses are held to
those of the undisturbed run, to 1e-5 of their size.

Every run computes its batches in two parts, so that all add up the same numbers: what rounds otherwise, a
tokenizer turns into other tokens within some tens of steps.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from datasets.collect import CollectConfig, collect
from world_model.checkpoint import list_checkpoints
from world_model.run_log import read_metrics

OPTIONS = (
    "--tokenizer-steps 60 --world-steps 60 --joint-steps 80 --batch-size 4 --tokenizer-batch 8 "
    "--context-frames 4 --target-update-every 10 --loop.save-every 7 --loop.held-out-every 50 "
    "--loop.image-every 1000 --device cpu --allow-collapse --micro-batches 2"
).split()
STEPS = 200
TOLERANCE = 1e-5
PATIENCE = 600.0
"""Seconds after which a run that makes no step is given up."""


@dataclass(frozen=True)
class KillsConfig:
    """Kill workers of training runs, and compare with a run that was left alone."""

    kills: int = 20
    """Runs, each killed once."""
    out: Path = Path("runs/kills")
    """Folder to work in; emptied first."""
    seed: int = 0
    """Seed of the moments and of who is killed."""


def main() -> None:
    """Run the proof, print what was found, and exit with 1 if any trace differs."""
    config = tyro.cli(KillsConfig, description=__doc__)
    shutil.rmtree(config.out, ignore_errors=True)
    store = config.out / "two_games.h5"
    for game in ("Pong", "Breakout"):
        collect(CollectConfig(game=game, out=store, steps=400, max_episode_decisions=100, append=True))
    options = ["--data", str(store), *OPTIONS]
    started = time.perf_counter()
    quietly([sys.executable, "train.py", "--run", str(config.out / "straight"), *options])
    print(f"undisturbed run of one process: {STEPS} steps, {time.perf_counter() - started:.0f} s", flush=True)
    expected = losses(config.out / "straight")
    worst = [killed(config, options, number, expected) for number in range(config.kills)]
    same = sum(error <= TOLERANCE for error in worst)
    print(f"{same} of {config.kills} end with the undisturbed trace; largest relative error {max(worst):.1e}")
    raise SystemExit(same < config.kills)


def killed(config: KillsConfig, options: list[str], number: int, expected: dict[int, float]) -> float:
    """Start a run, kill a worker or all, see it to its end, and give the largest relative error of a loss."""
    draw = random.Random(1000 * config.seed + number)
    step, parallel = draw.randrange(1, STEPS), ("ddp", "fsdp")[number % 2]
    run = config.out / f"killed_{number}"
    command = ["train.py", "--run", str(run), *options, "--parallel", parallel]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*torchrun, "--max-restarts", "3", "--", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_step(run, step, process)
    time.sleep(draw.uniform(0.0, 0.2))
    workers = children(process.pid)
    loses_all = number % 3 == 2
    for victim in [process.pid, *workers] if loses_all else [draw.choice(workers)]:
        os.kill(victim, signal.SIGKILL)
    if loses_all:
        process.wait()
        saved = list_checkpoints(run)
        again = ["--run", str(run), "--resume"] if saved else ["--run", str(run), *options]
        quietly([sys.executable, "train.py", *again])
    elif process.wait():
        raise SystemExit(f"{run}: torchrun ended with status {process.returncode}")
    found = losses(run)
    error = max(abs(found[step] - loss) / abs(loss) for step, loss in expected.items())
    what = "both, then one process alone" if loses_all else "one worker of two"
    print(f"{parallel}: killed {what} at step {step}: largest relative error {error:.1e}", flush=True)
    return error


def wait_for_step(run: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the run has logged this step."""
    seen, since = 0, time.monotonic()
    while seen <= step:
        if process.poll() is not None or time.monotonic() - since > PATIENCE:
            raise SystemExit(f"{run}: ended or stood still before step {step}")
        time.sleep(0.05)
        file = run / "metrics.jsonl"
        now = file.read_text().count('"loss":') if file.exists() else 0
        if now != seen:
            seen, since = now, time.monotonic()


def losses(run: Path) -> dict[int, float]:
    """The loss of each step."""
    return {line["step"]: line["loss"] for line in read_metrics(run) if "loss" in line}


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name of a program stands in brackets and may hold anything.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return sorted(found)


def quietly(command: list[str]) -> None:
    """Run a command without what it prints."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
