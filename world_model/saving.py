"""How a run saves: by itself and at once, or with other processes and in the background (`shared_saving`).

Either way there is a checkpoint only when it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from world_model.checkpoint import checkpoint_name, prune_checkpoints, save_checkpoint
from world_model.distributed import Processes
from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel


@runtime_checkable
class Saver(Protocol):
    """Saves a run, and keeps the newest checkpoints and the best."""

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
        """Save; the modules may change as soon as it returns. Arguments as of `save_checkpoint`."""
        ...

    def finish(self) -> None:
        """Wait until everything is on disk."""
        ...


def open_saver(run: Path, keep: int, processes: Processes) -> Saver:
    """What saves a run of these processes.

    Args:
        run: the run's folder, on a disk that all processes see.
        keep: newest checkpoints to keep.
        processes: who takes part.
    """
    if processes.parallel is None:
        return _AloneSaver(run, keep)
    # What shards are written by takes a second to import, which a process alone need not wait for.
    from world_model.shared_saving import SharingSaver

    return SharingSaver(run, keep, processes)


class _AloneSaver:
    """Writes before training goes on."""

    def __init__(self, run: Path, keep: int) -> None:
        self._run, self._keep = run, keep

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
        save_checkpoint(
            self._run / "checkpoints" / checkpoint_name(step),
            step=step,
            tokenizer=tokenizer,
            model=model,
            optimizer=optimizer,
            training=training,
            phase=phase,
            held_out_loss=held_out_loss,
        )
        prune_checkpoints(self._run, self._keep)

    def finish(self) -> None:
        """Nothing is under way."""
