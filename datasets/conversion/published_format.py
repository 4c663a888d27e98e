"""The published program's data: where its files are, what they hold, and its CSV files.

Letters: T steps of an episode, E episodes, S segments, L steps of a segment, K tokens a frame (36).

    trajectory/data/<Game>.h5          a group an episode, "0", "1", ...: observations uint8 [T, 84, 84],
                                       actions int32 [T] (indices of the game's own legal actions),
                                       rewards float32 [T], terminals uint8 [T] (1 on the last step alone)
    trajectory/token_data/<Game>.h5    the same with observations int64 [T, K]
    trajectory/meta/<Game>.csv         one row: what there was, and what was drawn of it
    segment/csv/<Game>_right_padding.csv, <Game>_left_padding.csv, and with another stride than 4
    <Game>_tau_1_right_padding.csv     one row a segment; it may reach past its episode on the padded side
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from datasets.errors import UserError
from datasets.files import replace_file
from datasets.games import find_game
from datasets.segments import Padding, Segments

LAYOUT = "<root>/trajectory/data/<Game>.h5 (frames) or <root>/trajectory/token_data/<Game>.h5 (tokens)"
"""Where the trajectories are, for messages."""
SEGMENT_LENGTH = 8
"""Steps of a segment (L)."""
DEFAULT_STRIDE = 4
"""Steps between segments in pretraining; fine-tuning uses 1."""
TASK_ALIASES = {
    "Gravitar": "TimePilot",
    "MsPacman": "Berzerk",
    "Robotank": "Phoenix",
    "YarsRevenge": "ChopperCommand",
}
"""Games whose segments the published program gives to the model under another game's task id."""

_META = ("Total episodes", "Total steps", "Steps per episode", "Downsampled episodes", "Downsampled steps")
_SEGMENT = ("Episode index", "Start index", "End index", "Environment")


@dataclass(frozen=True)
class Meta:
    """The one row of a game's meta CSV."""

    total_episodes: int
    """Whole episodes of the source."""
    total_steps: int
    """Steps of the source, those of unfinished episodes included."""
    episodes: int
    """Episodes drawn."""
    steps: int
    """Steps of the episodes drawn."""


def published_task_id(game: str) -> int:
    """The task id under which the published program trains on a game: not its own for four games.

    The published program acts with the game's own id; we train with it too.
    """
    return find_game(TASK_ALIASES.get(game, game)).task_id


def frames_path(root: Path, game: str) -> Path:
    """The trajectories with frames."""
    return root / "trajectory" / "data" / f"{game}.h5"


def tokens_path(root: Path, game: str) -> Path:
    """The trajectories with tokens."""
    return root / "trajectory" / "token_data" / f"{game}.h5"


def meta_path(root: Path, game: str) -> Path:
    """The meta CSV."""
    return root / "trajectory" / "meta" / f"{game}.csv"


def segments_path(root: Path, game: str, padding: Padding, stride: int) -> Path:
    """The segment CSV of one cutting rule."""
    rule = "" if stride == DEFAULT_STRIDE else f"_tau_{stride}"
    return root / "segment" / "csv" / f"{game}{rule}_{padding}_padding.csv"


def write_meta(path: Path, meta: Meta) -> None:
    """Write a game's meta CSV."""
    row = (
        meta.total_episodes,
        meta.total_steps,
        meta.total_steps / meta.total_episodes,
        meta.episodes,
        float(meta.steps),
    )
    _write_csv(path, _META, [row])


def read_meta(path: Path) -> Meta:
    """Read a game's meta CSV.

    Raises:
        UserError: it cannot be read, or does not hold the one row of numbers.
    """
    rows = _read_csv(path, _META)
    try:
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} rows")
        numbers = dict(zip(_META, map(float, rows[0]), strict=True))
    except ValueError as error:
        raise UserError(
            f"{path}: expected one row of numbers under {', '.join(_META)} ({error}); copy it again"
        ) from error
    return Meta(*(int(numbers[name]) for name in _META if name != "Steps per episode"))


def write_segments(path: Path, segments: Segments, game: str) -> None:
    """Write a segment CSV."""
    rows = zip(segments.episode.tolist(), segments.start.tolist(), strict=True)
    _write_csv(path, _SEGMENT, ((episode, start, start + SEGMENT_LENGTH, game) for episode, start in rows))


def read_segments(path: Path, game: str, lengths: Int[np.ndarray, "E"]) -> Segments:
    """Read a segment CSV and hold it to its episodes.

    Args:
        path: the file.
        game: the game that every row must name.
        lengths: steps T of each episode.

    Raises:
        UserError: it cannot be read, or a row names another game or an episode that is not there, is not L
            steps long, or lies wholly outside its episode or reaches past it on the side that is not padded.
    """
    rows = _read_csv(path, _SEGMENT)
    try:
        numbers = np.array([row[:3] for row in rows], dtype=np.int64).reshape(-1, 3)
    except ValueError as error:
        raise UserError(f"{path}: an index is not a whole number ({error}); copy it again") from error
    episode, start, stop = numbers.T
    known = (episode >= 0) & (episode < len(lengths))
    steps = lengths[np.where(known, episode, 0)]
    inside = (start < steps) & (stop > 0)
    if "_right_padding" in path.name:
        inside &= start >= 0
    elif "_left_padding" in path.name:
        inside &= stop <= steps
    checks = (
        (known, f"names an episode that is not there (there are {len(lengths)})"),
        (stop - start == SEGMENT_LENGTH, f"is not {SEGMENT_LENGTH} steps long"),
        (inside, "points outside its episode"),
        (np.array([row[3] == game for row in rows], dtype=bool), f"is not of {game}"),
    )
    for good, fault in checks:
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise UserError(
                f"{path}, line {row + 2} ({','.join(rows[row])}): the segment {fault}; the file belongs to "
                "other trajectories: copy both again, or delete it, since segments are cut anew"
            )
    return Segments(episode, start)


def _write_csv(path: Path, header: Sequence[str], rows: object) -> None:
    with replace_file(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)  # type: ignore[arg-type]


def _read_csv(path: Path, header: Sequence[str]) -> list[list[str]]:
    """The rows below the header, each as long as the header."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            first, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); copy it again") from error
    if tuple(first) != tuple(header):
        raise UserError(f"{path}: its columns are {first}, not {list(header)}; copy it again")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {number}: holds {len(row)} fields, not {len(header)}; copy it again"
            )
    return rows
