"""How processes that train together save: each copies what it holds, goes on, and writes meanwhile.

The first of them verifies all files and gives the checkpoint its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from datasets.files import replace_directory
from world_model.checkpoint import (
    SHARDS,
    checkpoint_name,
    list_checkpoints,
    prune_checkpoints,
    seal_checkpoint,
)
from world_model.distributed import Processes
from world_model.shards import check_written, make_stager, write_shards
from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel


@dataclass(frozen=True)
class _Writing:
    """A checkpoint that is being written."""

    step: int
    done: Future[None]


class SharingSaver:
    """Copies, returns, and writes in a thread; one checkpoint at a time."""

    def __init__(self, run: Path, keep: int, processes: Processes) -> None:
        self._run, self._keep, self._processes = run, keep, processes
        # Training goes on meanwhile and must not find its own messages mixed with these.
        group = dist.new_group(backend="gloo")
        assert isinstance(group, dist.ProcessGroup)
        self._group = group
        self._stager = make_stager(processes.device)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._writing: _Writing | None = None

    def save(
        self,
        step: int,
        *,
        tokenizer: Tokenizer,
        model: WorldActionModel | None,
        optimizer: Mapping[str, Tensor],
        training: Mapping[str, Any],
        phase: str,
        held_out_loss: float | None,
    ) -> None:
        """Copy, and write while training goes on; arguments as of `save_checkpoint`."""
        self._wait()
        path = self._run / "checkpoints" / checkpoint_name(step)
        parts = {"tokenizer": tokenizer.state_dict(), "optimizer": optimizer}
        if model is not None:
            parts["model"] = model.state_dict()
        tensors = {
            f"{part}.{name}": tensor.detach() for part, held in parts.items() for name, tensor in held.items()
        }
        stack = ExitStack()
        folder = stack.enter_context(replace_directory(path)) if self._processes.is_first else None
        shared: list[Path | None] = [folder]
        dist.broadcast_object_list(shared, src=0, group=self._group)
        assert shared[0] is not None
        done = shards = write_shards(shared[0] / SHARDS, tensors, self._group, self._stager)
        if folder is not None:
            shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}

            def complete() -> None:
                with stack:
                    shards.result()
                    check_written(folder / SHARDS, shapes)
                    seal_checkpoint(
                        folder,
                        step=step,
                        tokenizer=tokenizer,
                        model=model,
                        training=training,
                        phase=phase,
                        held_out_loss=held_out_loss,
                    )
                prune_checkpoints(self._run, self._keep)

            done = self._thread.submit(complete)
        self._writing = _Writing(step, done)

    def finish(self) -> None:
        """Wait until everything is on disk."""
        self._wait()
        dist.barrier(group=self._group)  # the first process has given the checkpoint its name

    def _wait(self) -> None:
        """Wait for the checkpoint under way.

        Raises:
            UserError: it could not be written, in the process whose fault it is.
            StoppedElsewhere: the same, in all others.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.done.result()
        except CheckpointException as error:
            culprit = min(error.failures)
            cause, _ = error.failures[culprit]
            kept = list_checkpoints(self._run)
            self._processes.stop(
                culprit,
                f"step {writing.step}: the checkpoint was not written ({cause}); free some disk space or "
                f"check the folder, and go on with --resume from {kept[-1].name if kept else 'the start'}",
            )
