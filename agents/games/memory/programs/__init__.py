"""Small programs that come with the project, made by `python -m datasets.programs` (see README.md here)."""

from __future__ import annotations

from pathlib import Path

from agents.games.memory.program import Program
from agents.games.memory.program_file import read_program

FOLDER = Path(__file__).parent


def packaged_programs() -> list[Program]:
    """The programs that come with the project, by name of their files."""
    return [read_program(path) for path in sorted(FOLDER.glob("*.json"))]
