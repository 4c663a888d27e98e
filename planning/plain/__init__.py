"""The twins of `planning.kernels` in plain NumPy: the oracle of the tests, and what runs without Numba."""

from planning.plain.choose import Edges, unpack
from planning.plain.search import advance, best_rows, improved_policy

__all__ = ["Edges", "advance", "best_rows", "improved_policy", "unpack"]
