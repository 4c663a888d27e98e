"""Kernels on disk, and the package without Numba."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from planning import compiled, gumbel_muzero, muzero
from planning.export import GrownTrees, unpack
from planning.layout import NO_ROW, STATE
from planning.plain.choose import unpack as unpack_plainly
from planning.table_model import random_table

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import numpy as np
from planning import TreeOptions, compiled, gumbel_muzero, muzero
from planning.table_model import random_table
assert not compiled.HAS_NUMBA
model = random_table(np.random.default_rng(0), 30, 4, end_rate=0.1, illegal_rate=0.2)
for search in (muzero, gumbel_muzero):
    result = search(model, np.arange(6), num_simulations=20, options=TreeOptions(num_threads=2))
    print(result.visit_counts.tolist())
"""


def test_searches_run_without_numba():
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMBA], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    model = random_table(np.random.default_rng(0), 30, 4, end_rate=0.1, illegal_rate=0.2)
    expected = [
        str(search(model, np.arange(6), num_simulations=20).visit_counts.tolist())
        for search in (muzero, gumbel_muzero)
    ]
    assert run.stdout.splitlines() == expected


def test_a_stored_kernel_is_dropped_when_a_source_of_its_parts_changes(tmp_path, monkeypatch):
    def twice(number):
        return 2 * number

    monkeypatch.setattr(compiled.numba.config, "CACHE_DIR", str(tmp_path))
    for sources, kept in (("one", False), ("one", True), ("other", False)):
        monkeypatch.setattr(compiled, "_sources", lambda sources=sources: sources)
        kernel = compiled.kernel(twice)
        assert kernel(3) == 6
        assert bool(sum(kernel.stats.cache_hits.values())) == kept


THREADS = """
import numba
import numpy as np
import torch
from planning import TreeOptions, gumbel_muzero, mcts, muzero
from planning.table_model import random_table

torch.set_num_threads(3)
model = random_table(np.random.default_rng(0), 30, 4)
muzero(model, np.arange(6), num_simulations=20)
gumbel_muzero(model, np.arange(6), num_simulations=20)
mcts(model, np.arange(6), num_simulations=20, horizon=4)
try:
    print(numba.threading_layer())
except ValueError:
    print("no threads")
print(torch.get_num_threads())
muzero(model, np.arange(6), num_simulations=20, options=TreeOptions(num_threads=2))
print(torch.get_num_threads(), numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS)
"""


def test_a_search_leaves_other_libraries_their_threads():
    """One without threads does not start Numba's, one with threads does not change PyTorch's."""
    run = subprocess.run(
        [sys.executable, "-c", THREADS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["no threads", "3", "3 True"]


def test_edges_are_unpacked_as_their_plain_twin_does():
    model = random_table(np.random.default_rng(0), 20, 5, end_rate=0.1, illegal_rate=0.3)
    searched = muzero(model, np.arange(6), num_simulations=40).searched
    assert isinstance(searched, GrownTrees)
    buffers = searched.buffers
    rows = np.flatnonzero(buffers.ints[:, STATE] != NO_ROW)
    trees = rows // (len(buffers.ints) // 6)
    plain = unpack_plainly(buffers.floats, buffers.ints, rows, trees, buffers.work)
    for ours, theirs in zip(unpack(buffers, rows, trees), plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)
