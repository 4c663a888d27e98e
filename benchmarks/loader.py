"""How many segments a second are drawn from a token cache, by its size and the number of worker processes.

    python -m benchmarks.loader
    python -m benchmarks.loader --steps 20000000 --workers 0 1 2 --need 1300
    python -m benchmarks.loader --steps 20000000 --workers 0 2 8 --batches 20 --cold

The stores are made up: episodes of 2000 steps of two games whose tokens are all 0, in a file without content
on disk, so the figures are of drawing, reading from the page cache and cutting, not of a disk. With --cold
the tokens are written, dropped from the page cache before each row, and read as those of a store larger than
memory. A segment has 8 steps of 37 tokens.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tyro

from datasets import tokens
from datasets.sampling import SamplingConfig, SegmentSampler, batches
from datasets.segments import SegmentConfig
from datasets.store_format import EpisodeInfo, StoreSteps
from datasets.tokens import TokenCache, token_cache_header

EPISODE_STEPS = 2000
TOKENS_PER_FRAME = 36
TOKENS_PER_SEGMENT = 8 * 37
CACHE = "made_up.safetensors"


@dataclass(frozen=True)
class LoaderConfig:
    """Time the drawing of batches."""

    steps: tuple[int, ...] = (200_000, 20_000_000)
    """Steps of the stores; each is 72 bytes of tokens."""
    workers: tuple[int, ...] = (0, 1, 2)
    """Worker processes."""
    batch_size: int = 512
    """Segments of a batch."""
    batches: int = 40
    """Batches timed, after as many as workers load ahead."""
    cold: bool = False
    """Read from the disk."""
    need: float | None = None
    """Tokens a second that training consumes, to compare with."""
    out: Path = Path("runs/loader_benchmark")
    """Folder of the stores; emptied."""


def main() -> None:
    """Measure and print a table."""
    config = tyro.cli(LoaderConfig, description=__doc__)
    print("| steps in the store | workers | segments/s | tokens/s | times the need |")
    print("| --- | --- | --- | --- | --- |")
    if config.cold:
        tokens.PHYSICAL_MEMORY = 0
    for steps in config.steps:
        sampler = made_up_sampler(config.out, steps, config.batch_size)
        path = config.out / CACHE
        if config.cold:
            write_content(path)
        for workers in config.workers:
            if config.cold:
                forget(path)
            rate = segments_per_second(sampler, config, workers)
            consumed = rate * TOKENS_PER_SEGMENT
            times = "" if config.need is None else f"{consumed / config.need:.0f}"
            print(f"| {steps} | {workers} | {rate:.0f} | {consumed:.0f} | {times} |", flush=True)
        shutil.rmtree(config.out)


def write_content(path: Path) -> None:
    """Fill a cache of no content with zeros that take room on the disk."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while file.tell() < size:
            file.write(bytes(min(2**24, size - file.tell())))
        os.fsync(file.fileno())


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def segments_per_second(sampler: SegmentSampler, config: LoaderConfig, workers: int) -> float:
    """Segments a second, once the workers have started."""
    ahead = 2 * workers + 1
    drawn = batches(sampler, 0, ahead + config.batches, workers)
    for _ in range(ahead):
        next(drawn)
    started = time.perf_counter()
    for _ in drawn:
        pass
    return config.batches * config.batch_size / (time.perf_counter() - started)


def made_up_sampler(folder: Path, steps: int, batch_size: int) -> SegmentSampler:
    """A sampler of a store with this many steps, of which only the token cache exists."""
    folder.mkdir(parents=True, exist_ok=True)
    count = steps // EPISODE_STEPS
    infos = [
        EpisodeInfo(
            key=f"{number:06d}",
            game=("Pong", "Breakout")[number % 2],
            length=EPISODE_STEPS,
            total_reward=0.0,
            ended=True,
            behaviour="none",
            seed=number,
            digest=hashlib.sha256(str(number).encode()).hexdigest(),
        )
        for number in range(count)
    ]
    total = count * EPISODE_STEPS
    store = SimpleNamespace(
        path=folder / "made_up.h5",
        episodes=infos,
        num_steps=total,
        content_id="made up",
        steps=StoreSteps(
            offsets=np.arange(count + 1) * EPISODE_STEPS,
            actions=np.zeros(total, np.uint8),
            rewards=np.zeros(total, np.float32),
            ends=np.zeros(total, np.uint8),
            lives=np.zeros(total, np.uint8),
            has_lives=np.zeros(count, bool),
        ),
    )
    path = folder / CACHE
    header = token_cache_header("made up", "none", count, (total, TOKENS_PER_FRAME))
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * total * TOKENS_PER_FRAME)
    sampling = SamplingConfig(batch_size=batch_size)
    return SegmentSampler([store], [TokenCache(path)], sampling, SegmentConfig())


if __name__ == "__main__":
    main()
