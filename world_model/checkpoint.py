"""Native checkpoints: a directory of safetensors files that is whole or does not exist.

A checkpoint directory holds

    config.json            format, step and every resolved configuration
    tokenizer.safetensors  frame tokenizer
    model.safetensors      world-action model (absent while only the tokenizer is trained)
    optimizer.safetensors  moments of the optimiser, keyed `<parameter>.<moment>` (absent in exports)
    manifest.json          size and SHA-256 of each of the files above, written last

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
) -> None:
    """Write a checkpoint directory beside `path` and rename it in place.

    Args:
        path: directory to make; an existing one is replaced whole.
        step: optimisation steps done.
        tokenizer: saved with its configuration.
        model: saved with its configuration, or None.
        optimizer: tensors by name (see `optimizer_tensors`); may be empty.
        training: the resolved training configuration, as plain JSON.

    Raises:
        UserError: the disk is full or the folder cannot be written; an existing checkpoint stays.
    """
    config = {
        "format": FORMAT,
        "version": VERSION,
        "step": step,
        "tokenizer": asdict(tokenizer.config),
        "model": asdict(model.config) if model is not None else None,
        "training": dict(training),
    }
    with replace_directory(path) as directory:
        _save_tensors(directory / "tokenizer.safetensors", tokenizer.state_dict(), path)
        if model is not None:
            _save_tensors(directory / "model.safetensors", model.state_dict(), path)
        if optimizer:
            _save_tensors(directory / "optimizer.safetensors", optimizer, path)
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        files = {file.name: _fingerprint(file) for file in sorted(directory.iterdir())}
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
    tokenizer = Tokenizer(config_from_json(TokenizerConfig, config["tokenizer"], path / "config.json"))
    _load_module(tokenizer, path / "tokenizer.safetensors")
    model = None
    if config["model"] is not None:
        model = WorldActionModel(config_from_json(WorldActionConfig, config["model"], path / "config.json"))
        _load_module(model, path / "model.safetensors")
        model.to(device).eval()
    optimizer_file = path / "optimizer.safetensors"
    return Checkpoint(
        path=path,
        step=config["step"],
        tokenizer=tokenizer.to(device).eval(),
        model=model,
        optimizer=load_file(optimizer_file) if optimizer_file.exists() else {},
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


def prune_checkpoints(run: str | Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints of a run."""
    for path in list_checkpoints(run)[:-keep]:
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


def config_from_json(kind: type[ConfigType], fields: Mapping[str, Any], source: Path) -> ConfigType:
    """Rebuild a frozen configuration dataclass from plain JSON.

    Raises:
        UserError: a field is missing, unknown or of the wrong type; names `source` and the field.
    """
    try:
        return dacite.from_dict(kind, dict(fields), dacite.Config(strict=True, cast=[tuple, Path]))
    except dacite.DaciteError as error:
        raise UserError(
            f"{source}: {kind.__name__}: {error}; use the release that wrote this file"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimiser's moments as `<parameter>.<moment>` tensors, ready for `save_checkpoint`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}.{moment}": value.detach().cpu().contiguous()
        for parameter, moments in optimizer.state.items()
        for moment, value in moments.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Put moments from `optimizer_tensors` back; parameters and groups must be as when saved.

    Raises:
        UserError: a moment belongs to no parameter of `module`.
    """
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        parameter, moment = key.rsplit(".", 1)
        moments.setdefault(parameter, {})[moment] = value
    state = optimizer.state_dict()
    names = {parameter: name for name, parameter in module.named_parameters()}
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    unknown = sorted(set(moments) - set(order))
    if unknown:
        raise UserError(
            f"optimizer.safetensors: moments of unknown parameter {unknown[0]!r}; resume with the same model"
        )
    state["state"] = {index: moments[name] for index, name in enumerate(order) if name in moments}
    optimizer.load_state_dict(state)


def _save_tensors(file: Path, tensors: Mapping[str, Tensor], target: Path) -> None:
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)
    except SafetensorError as error:
        raise UserError(
            f"cannot write {target}/{file.name}: {error}; free some disk space and run again"
        ) from error


def _load_module(module: nn.Module, file: Path) -> None:
    try:
        found = load_file(file)
    except SafetensorError as error:
        raise UserError(
            f"{file}: not a readable safetensors file ({error}); use another checkpoint"
        ) from error
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
