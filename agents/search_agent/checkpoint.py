"""Checkpoints of the search agent: one safetensors file that is whole or does not exist.

Tensors are named `network/...`, `optimizer/<parameter>.<moment>` and `replay/...`; the configurations are
JSON in the file's metadata. A file for release holds `network/` alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dacite
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from agents.search_agent.network import SearchNetwork, SearchNetworkConfig
from datasets.errors import UserError
from datasets.files import replace_file

FORMAT = "worldbeam-search-agent"


@dataclass(frozen=True)
class SearchCheckpoint:
    """What a file holds."""

    network: SearchNetwork
    """In evaluation mode, on the CPU."""
    game: str
    """Kind of game: memory-mapping, packing or job-shop."""
    step: int
    """Iterations of training done."""
    training: dict[str, Any]
    """The resolved training configuration, as plain JSON."""
    optimizer: dict[str, Tensor]
    """Moments by `<parameter>.<moment>`; empty in a file for release."""
    replay: dict[str, np.ndarray]
    """`Replay.arrays`; empty in a file for release."""


def save_search_checkpoint(path: Path, checkpoint: SearchCheckpoint) -> None:
    """Write a checkpoint beside `path` and rename it in place.

    Raises:
        UserError: the disk is full or the folder cannot be written; an existing file stays.
    """
    tensors = {f"network/{name}": tensor for name, tensor in checkpoint.network.state_dict().items()}
    tensors |= {f"optimizer/{name}": tensor for name, tensor in checkpoint.optimizer.items()}
    tensors |= {f"replay/{name}": torch.from_numpy(array) for name, array in checkpoint.replay.items()}
    metadata = {
        "format": FORMAT,
        "game": checkpoint.game,
        "step": str(checkpoint.step),
        "network": json.dumps(asdict(checkpoint.network.config)),
        "training": json.dumps(checkpoint.training),
    }
    with replace_file(path) as beside:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, metadata)
        except SafetensorError as error:
            raise UserError(f"cannot write {path}: {error}; free some disk space and run again") from error


def load_search_checkpoint(path: Path) -> SearchCheckpoint:
    """Read a checkpoint file, or the newest one of a run's folder.

    Raises:
        UserError: there is none, it is not of this format, or a tensor does not fit its configuration.
    """
    file = find_search_checkpoint(path)
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable safetensors file ({error}); use another one") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{file}: not a checkpoint of the search agent; give one made by agents.train_search")
    try:
        config = dacite.from_dict(
            SearchNetworkConfig, json.loads(metadata["network"]), dacite.Config(strict=True)
        )
    except dacite.DaciteError as error:
        raise UserError(f"{file}: network: {error}; use the release that wrote this file") from error
    network = SearchNetwork(config)
    try:
        network.load_state_dict(_below("network/", tensors))
    except RuntimeError as error:
        raise UserError(
            f"{file}: its tensors do not fit its configuration; use another checkpoint"
        ) from error
    return SearchCheckpoint(
        network=network.eval(),
        game=metadata["game"],
        step=int(metadata["step"]),
        training=json.loads(metadata["training"]),
        optimizer=_below("optimizer/", tensors),
        replay={name: tensor.numpy() for name, tensor in _below("replay/", tensors).items()},
    )


def find_search_checkpoint(path: Path) -> Path:
    """The file meant by `path`: itself, or the newest checkpoint of a run.

    Raises:
        UserError: nothing there.
    """
    if path.is_file():
        return path
    found = sorted((path / "checkpoints").glob("step_*.safetensors"))
    if not found:
        raise UserError(f"{path}: no checkpoint there; give a file or folder made by agents.train_search")
    return found[-1]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
