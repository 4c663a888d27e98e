"""The examples of the games' page run as they stand, in less time."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import SHARED

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "games.md"


@pytest.mark.parametrize(
    ("section", "source", "copy", "made"),
    [
        ("Job shop", "jobshop/ft10.json", "ft10.json", ("plan.json", "gantt.png")),
        ("Packing", "packing/D.1048576.csv", "A.1048576.csv", ("plan.json", "packing.png")),
        ("Memory mapping", "mlp3_train.json", "program.json", ("plan.json", "plan.png")),
    ],
)
def test_the_example_of_a_game_runs(tmp_path, monkeypatch, section, source, copy, made):
    if not (SHARED / "games" / source).is_file():
        pytest.skip(f"../shared/games/{source} is not here")
    shutil.copy(SHARED / "games" / source, tmp_path / copy)
    monkeypatch.chdir(tmp_path)
    text = DOCUMENT.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(re.sub(r"seconds=\d+", "seconds=2", example), str(DOCUMENT), "exec"), {})
    assert all((tmp_path / name).stat().st_size > 0 for name in made)
