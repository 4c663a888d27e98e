"""The trained networks that come with the project."""

from __future__ import annotations

from pathlib import Path

from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.train_config import GameName
from datasets.errors import UserError

FOLDER = Path(__file__).parent / "networks"


def released_checkpoint(game: GameName) -> Path:
    """The file of a game's network.

    Raises:
        UserError: the project was copied without it.
    """
    path = FOLDER / f"{game}.safetensors"
    if not path.exists():
        raise UserError(f"{path} is missing; give a --checkpoint made by agents.train_search")
    return path


def checkpoint_for(game: GameName, given: Path | None) -> Path:
    """The checkpoint to play a game with: the one given, or the one that comes with the project.

    Raises:
        UserError: it is missing or damaged, or its network plays another game.
    """
    path = given or released_checkpoint(game)
    plays = load_search_checkpoint(path).game
    if plays != game:
        raise UserError(f"{path}: its network plays {plays}, not {game}; give another --checkpoint")
    return path
