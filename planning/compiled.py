"""Numba, or what stands in for it where it is not installed.

Where it is missing the NumPy twins do the work, and the stand-ins only keep the kernel modules
importable.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

try:
    import numba
except ImportError:
    numba: Any = None

HAS_NUMBA = numba is not None


def kernel(function: Any) -> Any:
    """Compile what Python calls; without reference counts on views, which cost more than the arithmetic."""
    return _stored(function, _nrt=False)


def parallel_kernel(function: Any) -> Any:
    """Compile the same with its `prange` in threads."""
    return _stored(function, parallel=True)


def part(function: Any) -> Any:
    """Compile what kernels are put together from: inlined, as a call passes an array as seven words."""
    return numba.njit(inline="always")(function) if HAS_NUMBA else function


def _stored(function: Any, **options: Any) -> Any:
    """Compile a kernel and keep it on disk for as long as no source of any kernel changes.

    Numba itself looks only at the file of the kernel, not at those of its parts.
    """
    if not HAS_NUMBA:
        return function
    dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    folder = Path(dispatcher.stats.cache_path)
    stamp = folder / f"{function.__module__}.{function.__name__}.{'-'.join(options)}.sources"
    if not stamp.is_file() or stamp.read_text() != _sources():
        for index in folder.glob(f"*.{function.__name__}-*.nbi"):
            index.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        stamp.write_text(_sources())
    return dispatcher


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of everything that is compiled into kernels."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("kernels/*.py")), *(folder / name for name in _KERNEL_FILES)]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


_KERNEL_FILES = ("compiled.py", "layout.py", "table_model.py")

prange: Any = numba.prange if HAS_NUMBA else range


def get_num_threads() -> int:
    """Threads that parallel kernels now use in this thread of Python."""
    return numba.get_num_threads() if HAS_NUMBA else 1


def set_num_threads(count: int) -> None:
    """Let parallel kernels use at most `count` threads, or as many as there are."""
    if HAS_NUMBA:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


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
