"""Training in several processes of this machine, started faster than torchrun would."""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120
"""Seconds in which something that is waited for must happen."""

Setup = Callable[[int], None]
"""Told the rank, in each process before it trains."""


def tell_and_wait(told: Path) -> None:
    """Write this process's number to a file, and stay longer than anyone waits."""
    told.write_text(str(os.getpid()))
    time.sleep(2 * PATIENCE)


def assert_ends_with_parent(script: str, told: Path) -> None:
    """Run a script one of whose processes calls `tell_and_wait(told)`; kill it, and see that process end."""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    try:
        _wait_until(lambda: told.exists() and told.read_text() != "")
    finally:
        parent.kill()
        parent.wait()
    _wait_until(lambda: not Path(f"/proc/{told.read_text()}").exists())


def _wait_until(happened: Callable[[], bool]) -> None:
    since = time.monotonic()
    while not happened():
        assert time.monotonic() - since < PATIENCE
        time.sleep(0.05)


def run_processes(size: int, arguments: Sequence[str], folder: Path, setup: Setup | None = None) -> list[int]:
    """Train in `size` processes; their exit statuses. What rank r prints goes to `<folder>/rank_r.txt`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train", "torch._dynamo", "torch.distributed.checkpoint"])
    started = [
        context.Process(target=_train, args=(rank, size, port, list(arguments), folder, setup))
        for rank in range(size)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(150)
        process.kill()
        process.join()
    return [process.exitcode or 0 for process in started]


def limit_file_size(rank: int) -> None:
    """Let the second process write no file of more than 100 kB, as if its disk were full."""
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


def set_dropout(rank: int) -> None:
    """Give the tiny model dropout."""
    from dataclasses import replace

    from world_model.sizes import SIZES

    tiny = SIZES["tiny"]
    trunk = replace(tiny.transformer, embedding_dropout=0.1, residual_dropout=0.1, attention_dropout=0.1)
    SIZES["tiny"] = replace(tiny, transformer=trunk, q_head=replace(tiny.q_head, dropout=0.1))


def spoil_loss(rank: int) -> None:
    """Let the second process find a loss that is not a number once the Q head is trained."""
    if rank != 1:
        return
    from dataclasses import replace

    from world_model import learners

    real = learners.compute_loss

    def broken(*arguments, train_q, **more):
        output = real(*arguments, train_q=train_q, **more)
        return replace(output, total=output.total * float("nan")) if train_q else output

    learners.compute_loss = broken


def _train(rank: int, size: int, port: int, arguments: list[str], folder: Path, setup: Setup | None) -> None:
    printed = (folder / f"rank_{rank}.txt").open("w", buffering=1)
    os.dup2(printed.fileno(), 1)
    os.dup2(printed.fileno(), 2)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    import torch

    from train import train
    from world_model.recipes import parse_command_line

    torch.set_num_threads(1)
    if setup is not None:
        setup(rank)
    train(parse_command_line(arguments))
    sys.exit(0)
