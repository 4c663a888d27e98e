"""Reading and writing the published program's weight files, which are pickles, without running any."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from datasets.errors import UserError

_GLOBAL = re.compile(r"GLOBAL (\S+)")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file that `torch.save` made of named tensors.

    Code in the file is never run: only tensors and plain containers are unpickled.

    Raises:
        UserError: there is no such file, it asks for code to be run, is truncated or damaged, or holds
            something else than named tensors.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file; name a file of weights made by the published program"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = _GLOBAL.search(str(error))
        asked = f"asks for {wanted.group(1)} to be called" if wanted else "is not a pickle of plain tensors"
        raise UserError(
            f"{path}: {asked}, which was not done; name a state dict of tensors from a source you trust"
        ) from error
    except Exception as error:  # a damaged pickle fails wherever its bytes lead
        detail = next(iter(str(error).splitlines()), "")[:100]
        raise UserError(
            f"{path}: truncated, damaged or no file of weights ({type(error).__name__}: {detail}); "
            "copy it again"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not named tensors; name a state dict")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise UserError(
                f"{path}: entry {name!r} is a {type(tensor).__name__}, not a dense tensor; name a state dict"
            )
    return dict(content)


def write_state_dict(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as the published program does; `path` is one given by `replace_file`.

    Raises:
        OSError: the disk is full.
    """
    # Through a handle of our own: the library's own writer tells a full disk as a bare RuntimeError.
    with path.open("wb") as file:
        torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
