"""What one store is to be made of.

Letters: T steps of an episode, E episodes of a source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from datasets.conversion.report import SourceSummary
from datasets.errors import UserError
from datasets.games import find_game
from datasets.segments import Episode

UNKNOWN_SEED = -1
"""The seed of an episode whose source does not tell it."""
LONGEST_EPISODE = 108_000
"""Steps of the longest episode taken: an episode is held in memory whole, and this one fills 0.76 GB."""

_PART_VERSION = 1
_STEPS_PER_PART = 1 << 16


@runtime_checkable
class Part(Protocol):
    """Episodes that are read and written together by one process; it must be picklable."""

    @property
    def identity(self) -> str:
        """Text that changes with everything that the episodes depend on, the source files included."""
        ...

    @property
    def num_steps(self) -> int:
        """Steps of all its episodes."""
        ...

    def episodes(self) -> Iterator[Episode]:
        """Read the episodes, one at a time.

        Raises:
            UserError: the source is damaged.
        """
        ...


@dataclass(frozen=True)
class Plan:
    """Which episodes make up the store of one game."""

    game: str
    """The game, in the published spelling."""
    parts: Sequence[Part]
    """Where the episodes come from."""
    order: Sequence[tuple[int, int]]
    """For each episode of the store: its part, and its place in that part. An episode may come twice."""
    summary: SourceSummary
    """What was read, kept and dropped."""

    @property
    def plan_id(self) -> str:
        """Names the sources and choices."""
        order = np.array(self.order, dtype=np.int64).tobytes()
        return hashlib.sha256("".join(map(part_id, self.parts)).encode() + order).hexdigest()


def neighbours(lengths: Int[np.ndarray, "E"]) -> list[tuple[int, tuple[int, ...]]]:
    """Cut the episodes of a large file into parts of about 65,536 steps.

    Returns:
        For each part the number of its first episode, and the lengths of its episodes.
    """
    number = (np.cumsum(lengths) - lengths) // _STEPS_PER_PART
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    groups = np.split(lengths, starts[1:])
    return [(int(first), tuple(group.tolist())) for first, group in zip(starts, groups, strict=True)]


def in_order(sizes: Iterable[int]) -> list[tuple[int, int]]:
    """The order of a plan that takes every episode of every part once; `sizes` are their episodes."""
    return [(part, place) for part, size in enumerate(sizes) for place in range(size)]


def part_id(part: Part) -> str:
    """Name of a part's contents, in hexadecimal."""
    return hashlib.sha256(f"{_PART_VERSION} {part.identity}".encode()).hexdigest()


def file_identity(path: Path) -> str:
    """Tells one version of a source file from another, without reading it."""
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def full_actions(actions: Int[np.ndarray, "T"], game: str, where: str) -> UInt8[np.ndarray, "T"]:
    """Actions as indices of the 18-action vocabulary, from indices of the game's own legal actions.

    Raises:
        UserError: an action that the game does not have.
    """
    legal = np.array(find_game(game).legal_actions, dtype=np.uint8)
    wrong = np.flatnonzero((actions < 0) | (actions >= len(legal)))
    if len(wrong):
        raise UserError(
            f"{where}: step {wrong[0]} takes action {actions[wrong[0]]}, but {game} has the {len(legal)} "
            f"actions 0 to {len(legal) - 1}; check that the file is of this game, or download it again"
        )
    return legal[actions]


def limited_actions(actions: UInt8[np.ndarray, "T"], game: str) -> Int[np.ndarray, "T"]:
    """Actions as int32 indices of the game's own legal actions, from those of the 18-action vocabulary."""
    table = np.full(256, -1, dtype=np.int32)
    legal = list(find_game(game).legal_actions)
    table[legal] = np.arange(len(legal))
    return table[actions]


def check_length(length: int, where: str) -> None:
    """Refuse an episode too long to be held in memory.

    Raises:
        UserError: naming the place and the length.
    """
    if length > LONGEST_EPISODE:
        raise UserError(
            f"{where}: an episode of {length} steps is longer than any that the emulator plays "
            f"({LONGEST_EPISODE}); its ends are probably lost, download the file again"
        )
