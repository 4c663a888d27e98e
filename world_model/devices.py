"""Where to compute."""

from __future__ import annotations

import ctypes
import platform

import torch

from datasets.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def find_device(name: str) -> torch.device:
    """The device meant by a name; `auto` is a GPU if there is one.

    Raises:
        UserError: no such device, or it cannot be used here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used here; give cpu, cuda or auto") from error


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, for the next training step to use again.

    glibc gives large blocks back to the system, which clears every page of them when they are asked for
    again: on a CPU, a tenth of a step. Elsewhere nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.libc_ver()[0] == "glibc" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
