"""Where to compute."""

from __future__ import annotations

import torch

from datasets.errors import UserError


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
