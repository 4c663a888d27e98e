"""The recordings of the published program as fixtures, one test case for each.

Tests that ask for one of the fixtures below run once for every recording of that kind in the folder given
by `--recordings`, whichever kinds it holds; without any they are skipped with the reason. A folder without
a single recording is refused. (`test_search.py` goes through its recordings itself.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.parity.recordings import LARGEST_ERRORS, Recording, load_recording, recordings_in
from world_model.published import model_from_published
from world_model.world_action_model import WorldActionModel

DEFAULT_RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "parity" / "jowa"
KINDS = {
    "model_recording": "recorded world-action model (*.pt)",
    "tokenizer_recording": "recorded tokenizer (*.pt)",
    "data_recording": "recorded data set (data_*/expected.pt)",
    "released_recording": "list of released weights (released_manifest.json)",
    "games_recording": "list of games (games.json)",
}
SEARCHES = "search_recording"


def recordings_folder(config: pytest.Config) -> Path:
    """The folder that the command line names, or the one that is usually there."""
    named = config.getoption("--recordings")
    return Path(named) if named else DEFAULT_RECORDINGS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder = recordings_folder(metafunc.config)
    for fixture in KINDS.keys() & set(metafunc.fixturenames):
        cases: list[Any] = recordings_in(folder, fixture)
        if not cases:
            reason = f"no {KINDS[fixture]} in {folder}; name its folder with --recordings"
            cases = [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]
        metafunc.parametrize(fixture, cases, indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Refuse a folder without recordings; here it is one line, and not one a test file."""
    folder = recordings_folder(config)
    holds_any = any(recordings_in(folder, fixture) for fixture in (*KINDS, SEARCHES))
    if config.getoption("--recordings") and not holds_any:
        raise pytest.UsageError(f"--recordings: {folder} holds no recording of any kind")


@pytest.fixture(scope="module")
def model_recording(request: pytest.FixtureRequest) -> Recording:
    """A recorded world-action model."""
    return load_recording(request.param)


@pytest.fixture(scope="module")
def tokenizer_recording(request: pytest.FixtureRequest) -> Recording:
    """A recorded tokenizer."""
    return load_recording(request.param)


@pytest.fixture(scope="module")
def data_recording(request: pytest.FixtureRequest) -> Path:
    """The folder of a recorded data set."""
    return request.param


@pytest.fixture(scope="module")
def released_recording(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is known of a released file of weights: its tensors' names, shapes and types."""
    return request.param


@pytest.fixture(scope="module")
def games_recording(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The published program's games."""
    return request.param


@pytest.fixture(scope="module")
def model(model_recording: Recording) -> WorldActionModel:
    """The recorded weights in our model, in evaluation mode."""
    return model_from_published(model_recording.content["config"], model_recording.content["state_dict"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LARGEST_ERRORS:
        terminalreporter.section("largest errors against the recordings")
    for name, error in sorted(LARGEST_ERRORS.items()):
        terminalreporter.write_line(f"{error:9.2e}  {name}")
