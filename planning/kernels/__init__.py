"""The tree search compiled by Numba. `planning.plain` holds the twin of each kernel in plain NumPy."""

from planning.kernels.search import advance, advance_in_threads, best_rows, improved_policy, unpack_into

__all__ = ["advance", "advance_in_threads", "best_rows", "improved_policy", "unpack_into"]
