"""What `pytest tests/parity --recordings DIR` makes of a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.parity.conftest import KINDS, SEARCHES
from tests.parity.recordings import MODEL_FORMAT, TOKENIZER_FORMAT, recordings_in

ROOT = Path(__file__).resolve().parents[2]


def add_recording(folder: Path, kind: str) -> None:
    """The least that counts as a recording of a kind."""
    if kind in ("model_recording", "tokenizer_recording"):
        content = {"format": MODEL_FORMAT if kind == "model_recording" else TOKENIZER_FORMAT}
        torch.save(content, folder / f"{kind}.pt")
    elif kind == "data_recording":
        (folder / "data_any").mkdir()
        (folder / "data_any" / "expected.pt").touch()
    elif kind == "released_recording":
        (folder / "released_manifest.json").write_text(json.dumps({"files": {"A": {}}}))
    elif kind == "games_recording":
        (folder / "games.json").write_text(json.dumps({"game_names": ["Pong"]}))
    else:
        (folder / "manifest.json").write_text(json.dumps({"cases": [{"id": "one"}]}))


@pytest.mark.parametrize("kind", [*KINDS, SEARCHES])
def test_each_kind_is_found_and_taken_for_no_other(tmp_path: Path, kind: str):
    torch.save([1, 2], tmp_path / "unrelated.pt")
    add_recording(tmp_path, kind)
    assert {other: len(recordings_in(tmp_path, other)) for other in (*KINDS, SEARCHES)} == {
        other: int(other == kind) for other in (*KINDS, SEARCHES)
    }


def test_a_folder_without_recordings_is_refused_in_a_line(tmp_path: Path):
    command = [sys.executable, "-m", "pytest", "tests/parity/test_games.py", "--recordings", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--recordings: {tmp_path} holds no recording of any kind" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
