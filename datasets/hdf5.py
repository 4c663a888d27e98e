"""HDF5 files, whatever they hold: their parts by name, and what the library makes of a full disk."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

_SPARE_BYTES = 4 * 1024**2


def group_of(parent: h5py.Group, name: str) -> h5py.Group:
    """The group of this name; KeyError if there is none."""
    group = parent[name]
    if not isinstance(group, h5py.Group):
        raise KeyError(f"{parent.name}/{name} is not a group")
    return group


def dataset_of(parent: h5py.Group, name: str) -> h5py.Dataset:
    """The dataset of this name; KeyError if there is none."""
    dataset = parent[name]
    if not isinstance(dataset, h5py.Dataset):
        raise KeyError(f"{parent.name}/{name} is not a dataset")
    return dataset


@contextmanager
def told_write_errors() -> Iterator[None]:
    """Give what HDF5 raises for a failed write its system error number back.

    HDF5 reports a full disk as an OSError or a RuntimeError that names the number in its text only.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        code = int(number.group(1))
        raise OSError(code, os.strerror(code)) from error


def require_space(path: Path, num_bytes: int) -> None:
    """Refuse to write where `num_bytes` and some room for HDF5's own structures are not free.

    Asked before every episode, because HDF5 itself takes a full disk badly (see `discard_writes`).

    Raises:
        OSError: ENOSPC.
    """
    if shutil.disk_usage(path).free < num_bytes + _SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def discard_writes(file: h5py.File) -> None:
    """Let everything that HDF5 still writes into an abandoned file go nowhere.

    HDF5 can crash the process when it cannot write what it holds back as it closes a file on a full disk.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, file.id.get_vfd_handle())
    os.close(nowhere)
