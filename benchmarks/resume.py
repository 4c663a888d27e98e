"""Proof that nothing is lost when training is killed: kills a tiny run at random moments, and compares.

    python -m benchmarks.resume --kills 10          kill -9 ten times over, each at another moment
    python -m benchmarks.resume --size 40M          3 + resume + 3 steps of the published 40M model

Both collect a small store of two games first, and compare the whole loss trace, to the last bit, with
that of a run that was left alone.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from datasets.collect import CollectConfig, collect
from world_model.checkpoint import list_checkpoints

TINY = (
    "--tokenizer-steps 40 --world-steps 40 --joint-steps 40 --batch-size 4 --tokenizer-batch 16 "
    "--context-frames 4 --target-update-every 10 --loop.save-every 7 --loop.held-out-every 25 "
    "--allow-collapse"
).split()
PUBLISHED = (
    "--tokenizer-steps 2 --world-steps 2 --joint-steps 2 --batch-size 1 --tokenizer-batch 2 "
    "--target-update-every 1 --allow-collapse"
).split()


@dataclass(frozen=True)
class ResumeConfig:
    """Kill and resume training, and compare with a run that was left alone."""

    size: Literal["tiny", "40M"] = "tiny"
    """tiny is killed at random moments; 40M is stopped half way."""
    kills: int = 10
    """Runs of the tiny model, each killed once."""
    out: Path = Path("runs/resume")
    """Folder to work in; emptied first."""
    seed: int = 0
    """Seed of the moments."""


def main() -> None:
    """Run the proof, print what was found, and exit with 1 if any trace differs."""
    config = tyro.cli(ResumeConfig, description=__doc__)
    shutil.rmtree(config.out, ignore_errors=True)
    store = config.out / "two_games.h5"
    length = 100 if config.size == "tiny" else 16
    for game in ("Pong", "Breakout"):
        collect(
            CollectConfig(game=game, out=store, steps=4 * length, max_episode_decisions=length, append=True)
        )
    options = ["--size", config.size, "--data", str(store), *(TINY if config.size == "tiny" else PUBLISHED)]
    started = time.perf_counter()
    call("--run", str(config.out / "straight"), *options)
    seconds = time.perf_counter() - started
    expected = (config.out / "straight" / "metrics.jsonl").read_bytes()
    print(f"undisturbed run: {seconds:.0f} s, {expected.count(b'loss')} lines with losses")
    if config.size == "tiny":
        same = [killed(config, options, kill, seconds, expected) for kill in range(config.kills)]
    else:
        run = config.out / "halves"
        call("--run", str(run), *options, "--max-steps", "3")
        call("--run", str(run), "--resume")
        same = [(run / "metrics.jsonl").read_bytes() == expected]
        print(f"3 steps, resume, 3 steps: {'the same' if same[0] else 'ANOTHER'} trace")
    print(f"{sum(same)} of {len(same)} traces equal the undisturbed one to the last bit")
    raise SystemExit(not all(same))


def killed(config: ResumeConfig, options: list[str], kill: int, seconds: float, expected: bytes) -> bool:
    """Start a run, kill it at a random moment, resume it, and compare its trace."""
    run = config.out / f"killed_{kill}"
    moment = random.Random(1000 * config.seed + kill).uniform(0.1, 0.95) * seconds
    process = subprocess.Popen(command("--run", str(run), *options), stderr=subprocess.DEVNULL)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = list_checkpoints(run)
    call("--run", str(run), *(["--resume"] if saved else options))
    same = (run / "metrics.jsonl").read_bytes() == expected
    where = saved[-1].name if saved else "no checkpoint yet"
    print(f"killed after {moment:.1f} s ({where}): {'the same' if same else 'ANOTHER'} trace", flush=True)
    return same


def command(*arguments: str) -> list[str]:
    """The training command."""
    return [sys.executable, "train.py", *arguments]


def call(*arguments: str) -> None:
    """Train, without the progress bars."""
    subprocess.run(command(*arguments), check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
