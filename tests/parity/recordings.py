"""Finding and reading recorded files, and holding arrays to them."""

from __future__ import annotations

import json
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

COARSER_FROM = 10.0
"""From this size on a float is allowed an error in proportion: returns span 40, and a single step of float32
is 2e-6 there."""

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


def recordings_in(folder: Path, fixture: str) -> list[Any]:
    """The folder's recordings for one fixture, each with a name to show as `id`.

    Models and tokenizers are files `*.pt`, data sets folders `data_*`; the released weights are listed in
    `released_manifest.json`, the games in `games.json`, recorded tree searches in `manifest.json`.
    """
    if fixture in ("model_recording", "tokenizer_recording"):
        kind = MODEL_FORMAT if fixture == "model_recording" else TOKENIZER_FORMAT
        return [pytest.param(path, id=path.stem) for path in _paths_of_format(folder, kind)]
    if fixture == "data_recording":
        paths = sorted(folder.glob("data_*/expected.pt"))
        return [pytest.param(path.parent, id=path.parent.name) for path in paths]
    if fixture == "released_recording":
        listed = _json(folder / "released_manifest.json").get("files", {})
        return [pytest.param(file, id=name) for name, file in listed.items()]
    if fixture == "games_recording":
        games = _json(folder / "games.json")
        return [pytest.param(games, id="games")] if games else []
    return [pytest.param(case, id=case["id"]) for case in _json(folder / "manifest.json").get("cases", [])]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


@lru_cache(maxsize=4)
def _paths_of_format(folder: Path, kind: str) -> tuple[Path, ...]:
    return tuple(path for path in sorted(folder.glob("*.pt")) if _format_of(path) == kind)


def _format_of(path: Path) -> str | None:
    content = torch.load(path, weights_only=True, mmap=True)
    return content.get("format") if isinstance(content, dict) else None


def note_error(name: str, error: float) -> None:
    """Remember the largest error of a quantity."""
    LARGEST_ERRORS[name] = max(error, LARGEST_ERRORS.get(name, 0.0))


def assert_close(name: str, actual: Any, recorded: Any, tolerance: float = LOGIT_TOLERANCE) -> None:
    """Hold floats to a recorded array, and remember the largest error under `name`.

    The tolerance is absolute up to a size of `COARSER_FROM`, and grows with a number's size from there.
    Infinities must be equal, NaN is never close.
    """
    actual, recorded = np.asarray(actual, np.float64), np.asarray(recorded, np.float64)
    assert actual.shape == recorded.shape, f"{name}: shape {actual.shape}, recorded {recorded.shape}"
    finite = np.isfinite(recorded)
    assert (actual[~finite] == recorded[~finite]).all(), f"{name}: infinities differ"
    errors = np.abs(actual[finite] - recorded[finite])
    share = float((errors / np.maximum(1.0, np.abs(recorded[finite]) / COARSER_FROM)).max(initial=0.0))
    error = float(errors.max(initial=0.0))
    assert share <= tolerance, f"{name}: largest absolute error {error:.2e} exceeds {tolerance:.0e}"
    note_error(name, error)
