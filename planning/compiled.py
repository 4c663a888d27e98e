"""Numba, or what stands in for it where it is not installed."""

from __future__ import annotations

from typing import Any

try:
    from numba import get_num_threads, njit, prange, set_num_threads

    HAS_NUMBA = True
except ImportError:  # The NumPy twins serve instead; these names only keep the kernel modules importable.
    HAS_NUMBA = False
    prange: Any = range

    def njit(**_options: Any) -> Any:
        """Leave a function as it is."""
        return lambda function: function

    def get_num_threads() -> int:
        """One thread."""
        return 1

    def set_num_threads(n: Any) -> None:
        """Nothing to set."""


__all__ = ["HAS_NUMBA", "get_num_threads", "njit", "prange", "set_num_threads"]
