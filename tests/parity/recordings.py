"""Reading recorded files and holding arrays to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

MODEL_FORMAT = "jowa-golden-model-v1"
TOKENIZER_FORMAT = "jowa-golden-tokenizer-v1"

LOGIT_TOLERANCE = 2e-5
"""Largest absolute difference of a float; the recordings themselves differ by 6e-6 with a cache."""

LARGEST_ERRORS: dict[str, float] = {}
"""Largest error of each quantity compared so far; listed at the end of the run."""


@dataclass(frozen=True)
class Recording:
    """One recorded file."""

    path: Path
    content: dict[str, Any]
    """Nested dictionaries, lists, numbers and tensors, as described beside the recordings."""

    def section(self, *names: str) -> Any:
        """A nested part of the recording; the test is skipped where the file does not have it."""
        part: Any = self.content
        for name in names:
            if not part or name not in part:
                pytest.skip(f"{self.path.name} has no section {'.'.join(names)}")
            part = part[name]
        return part


@lru_cache(maxsize=1)
def load_recording(path: Path) -> Recording:
    """Read one file; only the last one is kept, since the tests go through the files in order."""
    return Recording(path, torch.load(path, weights_only=True))


@lru_cache(maxsize=4)
def paths_of_format(folder: Path, kind: str) -> tuple[Path, ...]:
    """The folder's recordings of one format, by name."""
    return tuple(
        path
        for path in sorted(folder.glob("*.pt"))
        if torch.load(path, weights_only=True, mmap=True).get("format") == kind
    )


def assert_close(name: str, actual: Any, recorded: Any, tolerance: float = LOGIT_TOLERANCE) -> None:
    """Hold floats to a recorded array, and remember the largest error under `name`.

    Infinities must be equal, NaN is never close.
    """
    actual, recorded = np.asarray(actual, np.float64), np.asarray(recorded, np.float64)
    assert actual.shape == recorded.shape, f"{name}: shape {actual.shape}, recorded {recorded.shape}"
    finite = np.isfinite(recorded)
    assert (actual[~finite] == recorded[~finite]).all(), f"{name}: infinities differ"
    error = float(np.abs(actual[finite] - recorded[finite]).max(initial=0.0))
    assert error <= tolerance, f"{name}: largest absolute error {error:.2e} exceeds {tolerance:.0e}"
    LARGEST_ERRORS[name] = max(error, LARGEST_ERRORS.get(name, 0.0))
