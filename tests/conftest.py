"""Shapes are enforced in tests: every annotated function of the packages is checked at run time."""

import os
from pathlib import Path

# Two test workers share two cores: more threads than that only make them wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

# Modules that hold Numba kernels or command lines read by tyro are left as they are: neither
# accepts a wrapped function.
TYPED_MODULES = (
    "agents.acting",
    "agents.metrics",
    "agents.report",
    "agents.scores",
    "agents.video",
    "datasets.conversion",
    "datasets.games",
    "datasets.hdf5",
    "datasets.segments",
    "datasets.store",
    "datasets.store_format",
    "datasets.tokens",
    "planning.beam",
    "planning.checks",
    "planning.frontier",
    "planning.model",
    "planning.noise",
    "world_model",
)
install_import_hook(TYPED_MODULES, "beartype.beartype")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--recordings", default=None, help="folder with recorded outputs to check against")
