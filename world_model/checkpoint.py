"""Native checkpoints: a directory of safetensors files that is whole or does not exist.

A checkpoint directory holds

    config.json            format, step and every resolved configuration
    tokenizer.safetensors  frame tokenizer
    model.safetensors      world-action model (absent while only the tokenizer is trained)
    optimizer.safetensors  moments of the optimiser, keyed `<parameter>.<moment>` (absent in exports)
    manifest.json          size and SHA-256 of each of the files above, written last

Of a run of several processes, a folder `sharded` stands in place of the safetensors files (see `shards.py`).
`python -m world_model.export` makes the files above of it.

It is written beside its final name and renamed in place. Loading verifies the manifest first, so a
truncated or altered file is named instead of half-loaded. No file is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import dacite
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datasets.errors import UserError
from datasets.files import replace_directory
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TokenizerConfig
from world_model.world_action_model import WorldActionConfig, WorldActionModel

FORMAT = "worldbeam-checkpoint"
VERSION = 1
STEP_NAME = re.compile(r"step_(\d{8})")
ConfigType = TypeVar("ConfigType")


SHARDS = "sharded"
"""Folder of the tensors that several processes wrote."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything a checkpoint holds, its modules built and loaded."""

    path: Path
    """The directory it was read from."""
    step: int
    """Optimisation steps done, over all phases of training."""
    tokenizer: Tokenizer
    """In evaluation mode, on the device asked for."""
    model: WorldActionModel | None
    """In evaluation mode, on the device asked for; None while only the tokenizer has been trained."""
    optimizer: dict[str, Tensor]
    """Moments by `<parameter>.<moment>`, on the CPU; empty if none were saved."""
    training: dict[str, Any]
    """The resolved training configuration, as plain JSON."""


def save_checkpoint(
    path: Path,
    *,
    step: int,
    tokenizer: Tokenizer,
    model: WorldActionModel | None,
    optimizer: Mapping[str, Tensor],
    training: Mapping[str, Any],
    phase: str | None = None,
    held_out_loss: float | None = None,
) -> None:
    """Write a checkpoint directory beside `path` and rename it in place.

    Args:
        path: directory to make; an existing one is replaced whole.
        step: optimisation steps done.
        tokenizer: saved with its configuration.
        model: saved with its configuration, or None.
        optimizer: tensors by name (see `optimizer_state.py`); may be empty.
        training: the resolved training configuration, as plain JSON.
        phase: the phase that the last step belongs to.
        held_out_loss: loss on held-out episodes, if it was measured just then; comparable within a phase.

    Raises:
        UserError: the disk is full or the folder cannot be written; an existing checkpoint stays.
    """
    with replace_directory(path) as directory:
        _save_tensors(directory / "tokenizer.safetensors", tokenizer.state_dict(), path)
        if model is not None:
            _save_tensors(directory / "model.safetensors", model.state_dict(), path)
        if optimizer:
            _save_tensors(directory / "optimizer.safetensors", optimizer, path)
        seal_checkpoint(
            directory,
            step=step,
            tokenizer=tokenizer,
            model=model,
            training=training,
            phase=phase,
            held_out_loss=held_out_loss,
        )


def seal_checkpoint(
    directory: Path,
    *,
    step: int,
    tokenizer: Tokenizer,
    model: WorldActionModel | None,
    training: Mapping[str, Any],
    phase: str | None,
    held_out_loss: float | None,
) -> None:
    """Add to a directory of tensors what makes it a checkpoint; arguments as of `save_checkpoint`."""
    config = {
        "format": FORMAT,
        "version": VERSION,
        "step": step,
        "phase": phase,
        "held_out_loss": held_out_loss,
        "tokenizer": asdict(tokenizer.config),
        "model": asdict(model.config) if model is not None else None,
        "training": dict(training),
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    written = sorted(file for file in directory.rglob("*") if file.is_file())
    files = {file.relative_to(directory).as_posix(): _fingerprint(file) for file in written}
    (directory / "manifest.json").write_text(json.dumps(files, indent=2) + "\n")


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read and verify a checkpoint, or the newest one of a run.

    Args:
        path: a checkpoint directory, or a run directory that holds `checkpoints/`.
        device: where the modules go.

    Raises:
        UserError: there is none, a file is missing, truncated or altered, or a tensor does not fit
            the stored configuration.
    """
    path = find_checkpoint(path)
    _verify(path)
    config = json.loads((path / "config.json").read_text())
    if config.get("format") != FORMAT or config.get("version") != VERSION:
        raise UserError(
            f"{path}/config.json: format {config.get('format')!r} version {config.get('version')!r} is not "
            f"{FORMAT!r} version {VERSION}; convert the checkpoint or use the release that wrote it"
        )
    source = path / "config.json"
    tensors = _read_tensors(path)
    tokenizer = Tokenizer(config_from_json(TokenizerConfig, config["tokenizer"], source))
    _load_module(tokenizer, tensors["tokenizer"], path / "tokenizer")
    model = None
    if config["model"] is not None:
        model = WorldActionModel(config_from_json(WorldActionConfig, config["model"], source))
        _load_module(model, tensors["model"], path / "model")
        model.to(device).eval()
    return Checkpoint(
        path=path,
        step=config["step"],
        tokenizer=tokenizer.to(device).eval(),
        model=model,
        optimizer=tensors["optimizer"],
        training=config["training"],
    )


def checkpoint_name(step: int) -> str:
    """Directory name of the checkpoint after `step` steps; names sort by step."""
    return f"step_{step:08d}"


def list_checkpoints(run: str | Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    folder = Path(run) / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted(
        entry
        for entry in folder.iterdir()
        if STEP_NAME.fullmatch(entry.name) and (entry / "manifest.json").exists()
    )


def best_checkpoint(run: str | Path) -> Path | None:
    """The checkpoint of the newest one's phase with the lowest held-out loss; None if none was measured."""
    paths = list_checkpoints(run)
    configs = [json.loads((path / "config.json").read_text()) for path in paths]
    measured = [
        (config["held_out_loss"], path)
        for path, config in zip(paths, configs, strict=True)
        if config.get("held_out_loss") is not None and config["phase"] == configs[-1]["phase"]
    ]
    return min(measured)[1] if measured else None


def prune_checkpoints(run: str | Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints of a run and the best."""
    best = best_checkpoint(run)
    for path in list_checkpoints(run)[:-keep]:
        if path != best:
            shutil.rmtree(path)


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint directory meant by `path`: itself, or the newest one of a run.

    Raises:
        UserError: nothing there, or no complete checkpoint in the run.
    """
    path = Path(path)
    if (path / "manifest.json").exists():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such run or checkpoint; give a folder made by train.py")
    checkpoints = list_checkpoints(path)
    if not checkpoints:
        raise UserError(f"{path}: holds no complete checkpoint; train for longer or give another folder")
    return checkpoints[-1]


def config_from_json(kind: type[ConfigType], content: Mapping[str, Any], source: Path) -> ConfigType:
    """Rebuild a frozen configuration dataclass from plain JSON.

    Raises:
        UserError: a field is missing, unknown or of the wrong type; names `source` and the field.
    """
    try:
        return dacite.from_dict(kind, dict(content), dacite.Config(strict=True, cast=[tuple, Path]))
    except dacite.DaciteError as error:
        raise UserError(
            f"{source}: {kind.__name__}: {error}; use the release that wrote this file"
        ) from error


def _save_tensors(file: Path, tensors: Mapping[str, Tensor], target: Path) -> None:
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)
    except SafetensorError as error:
        raise UserError(
            f"cannot write {target}/{file.name}: {error}; free some disk space and run again"
        ) from error


def _read_tensors(path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of tokenizer, model and optimiser; empty where there are none."""
    found: dict[str, dict[str, Tensor]] = {"tokenizer": {}, "model": {}, "optimizer": {}}
    if (path / SHARDS).is_dir():
        # Takes a second to import, which those who read no shards need not wait for.
        from world_model.shards import read_shards

        for key, tensor in read_shards(path / SHARDS).items():
            part, name = key.split(".", 1)
            found[part][name] = tensor
        return found
    for part in found:
        file = path / f"{part}.safetensors"
        if file.exists():
            try:
                found[part] = load_file(file)
            except SafetensorError as error:
                raise UserError(
                    f"{file}: not a readable safetensors file ({error}); use another checkpoint"
                ) from error
    return found


def _load_module(module: nn.Module, found: Mapping[str, Tensor], file: Path) -> None:
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name not in found:
            raise UserError(f"{file}: tensor {name!r} is missing; the checkpoint is of another model")
        if found[name].shape != tensor.shape:
            raise UserError(
                f"{file}: tensor {name!r} has shape {tuple(found[name].shape)}, the configuration needs "
                f"{tuple(tensor.shape)}; the checkpoint is of another size"
            )
    extra = sorted(set(found) - set(expected))
    if extra:
        raise UserError(f"{file}: unexpected tensor {extra[0]!r}; the checkpoint is of another model")
    module.load_state_dict(found)


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def _verify(path: Path) -> None:
    manifest = path / "manifest.json"
    try:
        files = json.loads(manifest.read_text())
    except ValueError as error:
        raise UserError(f"{manifest}: not readable; the checkpoint is damaged, use an earlier one") from error
    for name, expected in files.items():
        file = path / name
        if not file.is_file() or _fingerprint(file) != expected:
            state = "is missing" if not file.is_file() else "is truncated or altered"
            raise UserError(f"{file} {state}; delete {path} to fall back on an earlier checkpoint")
