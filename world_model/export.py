"""Turn a checkpoint of several processes into one of plain files, without what only training needs.

    python -m world_model.export --checkpoint runs/eight --out plain         the newest of a run
    python -m world_model.export --checkpoint runs/eight --best --out plain  that of the lowest held-out loss

The result holds one safetensors file for the tokenizer and one for the model, and loads wherever a run does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from datasets.errors import UserError, run_command
from world_model.checkpoint import best_checkpoint, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class ExportConfig:
    """Which checkpoint becomes which folder."""

    checkpoint: Path
    """A run, or one checkpoint of it."""
    out: Path
    """Folder to make."""
    best: bool = False
    """Of a run, take the checkpoint of the last phase with the lowest held-out loss, not the newest."""


def export(config: ExportConfig) -> Path:
    """Read a checkpoint of any kind and write it as plain files; the checkpoint that was read.

    Raises:
        UserError: there is none, it is damaged, or `out` exists.
    """
    source = best_checkpoint(config.checkpoint) if config.best else config.checkpoint
    if source is None:
        raise UserError(f"{config.checkpoint}: no checkpoint has a held-out loss; export without --best")
    if config.out.exists():
        raise UserError(f"{config.out} exists already; give another --out")
    checkpoint = load_checkpoint(source)
    save_checkpoint(
        config.out,
        step=checkpoint.step,
        tokenizer=checkpoint.tokenizer,
        model=checkpoint.model,
        optimizer={},
        training=checkpoint.training,
    )
    return checkpoint.path


def main() -> None:
    """Read the command line and export."""
    config = tyro.cli(ExportConfig, description=__doc__)
    print(f"{export(config)} is exported to {config.out}")


if __name__ == "__main__":
    run_command(main)
