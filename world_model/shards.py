"""Tensors of several processes, written in the background by torch.distributed.checkpoint as safetensors.

Each process writes one file with its shards, and of tensors that all have, its share. The files say which
piece of which tensor they hold, so any number of processes can put them together again. No file is a pickle.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from datasets.errors import UserError


def make_stager(device: torch.device) -> DefaultStager:
    """What copies tensors of a device; it keeps the memory of its copies, so that only the first is slow."""
    on_gpu = device.type == "cuda"
    return DefaultStager(
        StagingOptions(
            use_pinned_memory=on_gpu,
            use_shared_memory=False,
            use_async_staging=False,
            use_non_blocking_copy=on_gpu,
        )
    )


def write_shards(
    folder: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup, stager: DefaultStager
) -> Future[None]:
    """Copy the tensors, then write them while the caller goes on; every process of the group must call it.

    Args:
        folder: on a disk that all processes see.
        tensors: by name; with shards or without, of equal names in all processes.
        group: on the CPU, and used for nothing else until the future is done.
        stager: makes the copies; those of the last call must be written.

    Returns:
        What is done when all processes have written; it raises in all of them if one has failed.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    found = async_save(dict(tensors), storage_writer=writer, process_group=group, async_stager=stager)
    assert isinstance(found, Future)
    return found


def read_shards(folder: Path) -> dict[str, Tensor]:
    """All tensors, whole, on the CPU.

    Raises:
        UserError: a file is not readable, or a piece of a tensor is missing.
    """
    layout = read_layout(folder)
    tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in layout.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return tensors


def read_layout(folder: Path) -> dict[str, TensorStorageMetadata]:
    """Size and pieces of each tensor.

    Raises:
        UserError: a file is not readable, or a piece of a tensor is missing.
    """
    try:
        found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise UserError(f"{folder}: a shard is not readable ({error}); use another checkpoint") from error
    layout = {name: entry for name, entry in found.items() if isinstance(entry, TensorStorageMetadata)}
    for name, entry in layout.items():
        held = sum(math.prod(chunk.sizes) for chunk in entry.chunks)
        if held != math.prod(entry.size):
            raise UserError(
                f"{folder}: {held} of {math.prod(entry.size)} numbers of tensor {name!r} are there; "
                "use another checkpoint"
            )
    return layout


def check_written(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Hold the files to what was to be written.

    Raises:
        UserError: a tensor is missing, of another size or type, or not whole.
    """
    layout = read_layout(folder)
    for name, tensor in tensors.items():
        entry = layout.get(name)
        if entry is None or entry.size != tensor.shape or entry.properties.dtype != tensor.dtype:
            raise UserError(f"{folder}: tensor {name!r} was not written as it is; check the disk")
