"""Named tensors as the published program stores them: their prefixes, and what keeps them from fitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from datasets.errors import UserError

PREFIXES = ("_orig_mod.module.", "_orig_mod.", "module.", "")
"""What may stand before every name, by how the module was compiled and distributed; longest first."""


def without_prefix(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors without the prefix that most of their names share; names without it stay as they are.

    Raises:
        UserError: two names differ in the prefix only.
    """
    half = len(tensors) / 2
    prefix = next(prefix for prefix in PREFIXES if sum(name.startswith(prefix) for name in tensors) >= half)
    bare = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if len(bare) < len(tensors):
        twice = next(name for name in bare if name in tensors and prefix + name in tensors)
        raise UserError(f"{source}: tensor {twice!r} is there twice, once behind {prefix!r}; save it once")
    return bare


def find_faults(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being those expected: a phrase for each that is missing, odd or unknown."""
    faults = [f"tensor {name!r} is missing" for name in expected if name not in given]
    for name, tensor in given.items():
        if name not in expected:
            faults.append(f"tensor {name!r} has no place in it")
        elif tensor.shape != expected[name].shape:
            wanted = tuple(expected[name].shape)
            faults.append(f"tensor {name!r} has shape {tuple(tensor.shape)}, expected {wanted}")
        elif tensor.dtype != expected[name].dtype:
            faults.append(f"tensor {name!r} is of {tensor.dtype}, expected {expected[name].dtype}")
    return faults


def refuse(source: str, faults: Sequence[str], remedy: str) -> None:
    """Raise the first of the faults, if there are any.

    Raises:
        UserError: naming the source, the tensor, how many others there are, and the remedy.
    """
    if faults:
        others = f" (and {len(faults) - 1} more differ)" if len(faults) > 1 else ""
        raise UserError(f"{source}: {faults[0]}{others}; {remedy}")


def shape_of(tensors: Mapping[str, Tensor], name: str, dimensions: int, source: str) -> tuple[int, ...]:
    """The shape of one tensor from which sizes are read.

    Raises:
        UserError: it is missing, or has another number of dimensions.
    """
    if name not in tensors:
        raise UserError(f"{source}: tensor {name!r} is missing; copy the file again")
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise UserError(
            f"{source}: tensor {name!r} has shape {shape}, expected {dimensions} dimensions; "
            "copy the file again"
        )
    return shape
