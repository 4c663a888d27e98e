"""Convert a synthetic DQN-Replay checkpoint and measure it: transitions a second, memory and size.

    python -m benchmarks.convert --frames 1000000

The conversion runs as its own process, by the command that users run; writing the checkpoint is not counted.
Frames are a fixed background with moving blocks, which compress about as well as those of a simple game.
"""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from datasets.errors import run_command
from datasets.games import find_game

ROOT = Path(__file__).resolve().parents[1]
FRAMES_PER_BLOCK = 4000
ARRAYS = {"observation": "uint8", "action": "int32", "reward": "float32", "terminal": "uint8"}


@dataclass(frozen=True)
class BenchmarkConfig:
    """One run of the benchmark."""

    frames: int = 1_000_000
    """Frames of each checkpoint."""
    checkpoints: int = 1
    """Checkpoints to write and convert."""
    episode_length: int = 1000
    """Mean steps of an episode."""
    game: str = "Phoenix"
    """The game whose actions are used."""
    workers: int = 0
    """Processes that convert; 0 for one a core."""
    folder: Path | None = None
    """Where to work; a temporary folder, removed afterwards, if not given."""


def make_frames(seed: int) -> np.ndarray:
    """A block of frames uint8 [4000, 84, 84]: deflate sees 5 frames back, so blocks may repeat."""
    generator = np.random.default_rng(seed)
    background = np.kron(generator.integers(0, 6, (12, 12)), np.ones((7, 7))).astype(np.uint8) * 30
    frames = np.repeat(background[None], FRAMES_PER_BLOCK, axis=0)
    for _ in range(8):
        row, column = generator.integers(0, 78, 2)
        down, right = generator.integers(-3, 4, 2)
        steps = np.arange(FRAMES_PER_BLOCK)
        for pixel in range(30):
            rows = (row + steps * down + pixel // 5) % 84
            columns = (column + steps * right + pixel % 5) % 84
            frames[steps, rows, columns] = 200 + pixel
    return frames


def write_array(path: Path, dtype: str, shape: tuple[int, ...], blocks: Iterator[np.ndarray]) -> None:
    with gzip.open(path, "wb", compresslevel=6) as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)


def write_checkpoint(folder: Path, number: int, config: BenchmarkConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(number)
    small = {
        "action": generator.integers(0, len(find_game(config.game).legal_actions), config.frames),
        "reward": generator.integers(-1, 2, config.frames),
        "terminal": generator.random(config.frames) < 1 / config.episode_length,
    }
    for name, values in small.items():
        write_array(folder / f"$store$_{name}_ckpt.{number}.gz", ARRAYS[name], values.shape, iter([values]))
    block = make_frames(number)
    counts = [
        min(FRAMES_PER_BLOCK, config.frames - start) for start in range(0, config.frames, FRAMES_PER_BLOCK)
    ]
    bar = tqdm(counts, desc=f"writing checkpoint {number}", unit="block", disable=None)
    path = folder / f"$store$_observation_ckpt.{number}.gz"
    write_array(path, "uint8", (config.frames, 84, 84), (block[:count] for count in bar))


def measure(config: BenchmarkConfig, folder: Path) -> None:
    source, out = folder / "dqn", folder / "stores"
    game = find_game(config.game).name
    for number in range(1, config.checkpoints + 1):
        write_checkpoint(source / game / "1" / "replay_logs", number, config)
    command = ["dqn-replay", "--root", str(source), "--out", str(out), "--workers", str(config.workers)]
    used_before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "datasets.convert", *command], cwd=ROOT, check=True)
    seconds = time.perf_counter() - started
    report = json.loads((out / f"{game}.report.json").read_text())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - used_before.ru_utime - used_before.ru_stime
    largest = used.ru_maxrss / 1024
    read = sum(path.stat().st_size for path in source.rglob("*.gz"))
    written = (out / f"{game}.h5").stat().st_size
    raw = config.frames * config.checkpoints * 84 * 84
    print(f"frames read            {config.frames * config.checkpoints}")
    print(f"transitions converted  {report['steps']}")
    print(f"seconds, start to end  {seconds:.1f} ({cpu:.1f} of CPU)")
    print(
        f"transitions/s          {report['steps'] / seconds:.0f} ({report['steps'] / cpu:.0f} a CPU second)"
    )
    print(f"peak memory, largest process   {largest:.0f} MiB")
    print(f"peak memory, all processes     {report['peak_memory_mb'] / 1.048576:.0f} MiB at most")
    print(f"frames as an array     {raw / 2**20:.0f} MiB")
    print(f"source {read / 2**20:.1f} MiB, store {written / 2**20:.1f} MiB, ratio {written / read:.2f}")


def main() -> None:
    config = tyro.cli(BenchmarkConfig, description=__doc__)
    if config.folder is not None:
        measure(config, config.folder)
        return
    folder = Path(tempfile.mkdtemp(prefix="convert-benchmark-"))
    try:
        measure(config, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    run_command(main)
