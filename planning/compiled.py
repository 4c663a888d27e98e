"""Numba, or what stands in for it where it is not installed.

Where it is missing the NumPy twins do the work, and the stand-ins only keep the kernel modules
importable.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

try:
    import numba
except ImportError:
    numba: Any = None

HAS_NUMBA = numba is not None

CALLED_BY_KERNELS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Numba's options for functions that only kernels call: a wrapper that takes many arguments apart costs as
much to compile as what is in it."""
_ONE_ROUNDING = {"contract", "reassoc", "nsz"}


def kernel(function: Any) -> Any:
    """Compile what Python calls; without reference counts on views, which cost more than the arithmetic."""
    return _stored(function, _nrt=False)


def parallel_kernel(function: Any) -> Any:
    """Compile the same with its `prange` in threads."""
    return _stored(function, parallel=True)


def network_kernel(function: Any) -> Any:
    """Compile arithmetic that may multiply and add in one rounding."""
    return _stored(function, _nrt=False, fastmath=_ONE_ROUNDING)


def part(function: Any) -> Any:
    """Compile what kernels are put together from: inlined, as a call passes an array as seven words."""
    return _inlined(function)


def network_part(function: Any) -> Any:
    """Compile what network kernels are put together from."""
    return _inlined(function, fastmath=_ONE_ROUNDING)


def _inlined(function: Any, **options: Any) -> Any:
    """Compile a function that only kernels call, and let LLVM inline it.

    Numba can inline, too, and then finds the types of whole kernels at once, which takes four times as long.
    """
    if not HAS_NUMBA:
        return function
    options |= CALLED_BY_KERNELS
    return numba.njit(error_model="numpy", forceinline=True, _nrt=False, **options)(function)


def _stored(function: Any, **options: Any) -> Any:
    """Compile a kernel and keep it on disk for as long as no source of any kernel changes.

    Numba itself looks only at the file of the kernel, not at those of its parts.
    """
    if not HAS_NUMBA:
        return function
    dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    forget_if_changed(dispatcher, function, _sources(), "-".join(options))
    return dispatcher


def forget_if_changed(dispatcher: Any, function: Any, sources: str, options: str = "") -> None:
    """Take a kernel off the disk if it was made of other sources.

    Args:
        dispatcher: the kernel, with `cache=True`.
        function: what it compiles.
        sources: a digest of all that it is made of.
        options: tells kernels of the same function apart.
    """
    folder = Path(str(dispatcher.stats.cache_path))
    stamp = folder / f"{function.__module__}.{function.__name__}.{options}.sources"
    if stamp.is_file() and stamp.read_text() == sources:
        return
    for index in folder.glob(f"*.{function.__name__}-*.nbi"):
        index.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(sources)


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of everything that is compiled into kernels."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("kernels/*.py")), *(folder / name for name in _KERNEL_FILES)]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


_KERNEL_FILES = ("compiled.py", "layout.py", "mlp_model.py", "table_model.py")

prange: Any = numba.prange if HAS_NUMBA else range


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let parallel kernels use at most `count` threads, or as many as there are, and no more afterwards."""
    if not HAS_NUMBA:
        yield
        return
    _start_threads()
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


@lru_cache(maxsize=1)
def _start_threads() -> None:
    """Start Numba's threads and leave PyTorch's as many as they were.

    Numba's OpenMP layer, when it starts, sets the number of threads of all that share its OpenMP library.
    A PyTorch imported before shares it; with more threads than free cores, its calls wait for each other.
    """
    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    numba.get_num_threads()
    if torch is not None and torch.get_num_threads() != before:
        torch.set_num_threads(before)


def _prefetch(_context: Any, array: Any, _row: Any, _word: Any) -> Any:
    """Ask for the cache line of `array[row, word]` without waiting for it."""
    from llvmlite import ir
    from numba.core import cgutils, types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = cgutils.get_item_pointer(context, builder, signature.args[0], view, arguments[1:])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        for_writing, closest, data = (ir.Constant(number, value) for value in (1, 3, 1))
        builder.call(function, [builder.bitcast(address, byte), for_writing, closest, data])
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp), generate


if HAS_NUMBA:
    from numba.extending import intrinsic

    prefetch: Any = intrinsic(_prefetch)
else:
    prefetch: Any = _prefetch
