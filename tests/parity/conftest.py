"""The recordings of the published program as fixtures, one test case for each file.

Tests that ask for `model_recording` or `tokenizer_recording` run once for every file of that
format in the folder given by `--recordings`; without any they are skipped with the reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.parity.recordings import (
    LARGEST_ERRORS,
    MODEL_FORMAT,
    TOKENIZER_FORMAT,
    Recording,
    load_recording,
    paths_of_format,
)
from world_model.published import model_from_published
from world_model.world_action_model import WorldActionModel

DEFAULT_RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "parity" / "jowa"
FORMATS = {"model_recording": MODEL_FORMAT, "tokenizer_recording": TOKENIZER_FORMAT}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    named = metafunc.config.getoption("--recordings")
    folder = Path(named) if named else DEFAULT_RECORDINGS
    if named and not any(paths_of_format(folder, kind) for kind in FORMATS.values()):
        raise pytest.UsageError(f"--recordings: no recorded file in {folder}")
    for fixture in FORMATS.keys() & set(metafunc.fixturenames):
        paths = paths_of_format(folder, FORMATS[fixture])
        cases: list[Any] = [pytest.param(path, id=path.stem) for path in paths]
        if not cases:
            reason = f"no {FORMATS[fixture]} in {folder}; name its folder with --recordings"
            cases = [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]
        metafunc.parametrize(fixture, cases, indirect=True, scope="module")


@pytest.fixture(scope="module")
def model_recording(request: pytest.FixtureRequest) -> Recording:
    """A recorded world-action model."""
    return load_recording(request.param)


@pytest.fixture(scope="module")
def tokenizer_recording(request: pytest.FixtureRequest) -> Recording:
    """A recorded tokenizer."""
    return load_recording(request.param)


@pytest.fixture(scope="module")
def model(model_recording: Recording) -> WorldActionModel:
    """The recorded weights in our model, in evaluation mode."""
    return model_from_published(model_recording.content["config"], model_recording.content["state_dict"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LARGEST_ERRORS:
        terminalreporter.section("largest absolute errors against the recordings")
    for name, error in sorted(LARGEST_ERRORS.items()):
        terminalreporter.write_line(f"{error:9.2e}  {name}")
