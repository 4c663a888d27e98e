"""Numba kernels of this game, kept on disk for as long as no source of any of them changes.

Numba itself looks only at the file of a kernel, not at those of the functions that it calls.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba

from planning.compiled import CALLED_BY_KERNELS, forget_if_changed


def part(function: Any) -> Any:
    """Compile what kernels are put together from, once for all values that its arguments have."""
    dispatcher: Any = numba.njit(error_model="numpy", **CALLED_BY_KERNELS)(function)
    for_types = dispatcher.get_call_template

    def for_types_alone(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        # Numba compiles a function anew, with all that it calls, for each constant that it is called with.
        types = tuple(numba.types.unliteral(argument) for argument in args)
        return for_types(types, {name: numba.types.unliteral(argument) for name, argument in kws.items()})

    dispatcher.get_call_template = for_types_alone
    return dispatcher


def kernel(function: Any) -> Any:
    """Compile what Python calls, and keep it on disk."""
    dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    forget_if_changed(dispatcher, function, _sources())
    return dispatcher


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of every file of this folder that holds functions for kernels, or their constants."""
    texts = [file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))]
    return sha256(b"".join(text for text in texts if b"memory.compiled" in text)).hexdigest()
