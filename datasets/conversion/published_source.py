"""The published trajectories as a source, with frames or with tokens.

Letters: E episodes.

Our stores hold frames. Of tokens alone a tokenizer makes frames again, which are not the ones that were
tokenised; the tokens themselves go into the token cache of that tokenizer beside the store, so that training
sees exactly them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from datasets.conversion.plan import Plan, in_order, neighbours
from datasets.conversion.published_format import (
    DEFAULT_STRIDE,
    LAYOUT,
    Meta,
    frames_path,
    meta_path,
    read_meta,
    read_segments,
    segments_path,
    tokens_path,
)
from datasets.conversion.published_reading import Decoding, FrameDecoder, TrajectoryPart, check_episodes
from datasets.conversion.report import SourceFile, SourceSummary
from datasets.errors import UserError
from datasets.games import GAMES, find_game
from datasets.segments import Padding, SegmentConfig, cut_episodes

_PADDINGS: tuple[Padding, ...] = ("right", "left")
_STRIDES = (DEFAULT_STRIDE, 1)


@dataclass(frozen=True)
class PublishedConfig:
    """The published trajectories into one store a game."""

    root: Path
    """Folder that holds trajectory/ and, if there are any, segment/."""
    out: Path
    """Folder to write <Game>.h5 and <Game>.report.json to."""
    games: tuple[str, ...] = ()
    """Games to convert; all in the folder if empty."""
    tokenizer: Path | None = None
    """A checkpoint or run whose tokenizer made the tokens: reads token_data instead of data."""
    device: str = "cpu"
    """Where the tokenizer makes frames of tokens, such as cpu or cuda."""
    workers: int = 0
    """Processes at work, each in need of about 0.4 GB and the longest episode; 0 for one a core. Tokens are
    decoded by one process."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers is {self.workers}; it must not be below 0")


def plan_published(config: PublishedConfig, tokenizer: FrameDecoder | None) -> Iterator[Plan]:
    """Read everything but the observations, and plan one store for each game, one game at a time.

    Args:
        config: what to convert.
        tokenizer: loaded from `config.tokenizer`, on `config.device`; None to read frames.

    Raises:
        UserError: an unknown layout or game, a damaged file, an episode without an end, an array of another
            type, shape or length, impossible values, or a CSV file that belongs to other trajectories.
    """
    decoding = Decoding(tokenizer, config.device) if tokenizer is not None else None
    for game in _find_games(config):
        path = trajectories_path(config, game)
        lengths = check_episodes(path, game, decoding)
        meta, notes = _check_tables(config.root, game, lengths)
        parts = [TrajectoryPart(path, game, group, first, decoding) for first, group in neighbours(lengths)]
        if decoding is not None:
            notes.append("the frames were decoded from tokens; the tokens themselves are in the token cache")
        summary = SourceSummary(
            source=str(path),
            sampling="all of them",
            total_episodes=meta.total_episodes,
            total_steps=meta.total_steps,
            files=(SourceFile(path.name, meta.steps, meta.episodes, meta.episodes, meta.steps),),
            notes=tuple(notes),
        )
        yield Plan(game, parts, in_order(len(part.lengths) for part in parts), summary)


def _find_games(config: PublishedConfig) -> list[str]:
    names = {game.name for game in GAMES}
    there = {
        make(config.root, "any").parent: sorted(
            path.stem for path in make(config.root, "any").parent.glob("*.h5") if path.stem in names
        )
        for make in (frames_path, tokens_path)
    }
    if not any(there.values()):
        raise UserError(f"{config.root} holds no published trajectories; expected {LAYOUT}")
    folder = (tokens_path if config.tokenizer else frames_path)(config.root, "any").parent
    games = [find_game(name).name for name in config.games] or there[folder]
    if not games or set(games) - set(there[folder]):
        missing = next((game for game in games if game not in there[folder]), "any game")
        remedy = (
            "leave --tokenizer out to read frames"
            if config.tokenizer
            else "give --tokenizer if there are only tokens"
        )
        raise UserError(f"{folder} has no trajectories of {missing}; expected {LAYOUT}; {remedy}")
    return games


def trajectories_path(config: PublishedConfig, game: str) -> Path:
    """The file that a game is read from."""
    return (tokens_path if config.tokenizer else frames_path)(config.root, game)


def _check_tables(root: Path, game: str, lengths: Int[np.ndarray, "E"]) -> tuple[Meta, list[str]]:
    """Hold the CSV files that are there to the episodes; say which were not, or not as we would cut."""
    notes: list[str] = []
    here = Meta(len(lengths), int(lengths.sum()), len(lengths), int(lengths.sum()))
    meta, path = here, meta_path(root, game)
    if path.exists():
        meta = read_meta(path)
        if (meta.episodes, meta.steps) != (here.episodes, here.steps):
            raise UserError(
                f"{path}: tells of {meta.episodes} episodes and {meta.steps} steps, but the trajectories "
                f"hold {here.episodes} and {here.steps}; copy both again"
            )
    else:
        notes.append(f"there is no {path.name} that tells what the episodes were drawn from")
    for stride in _STRIDES:
        for padding in _PADDINGS:
            rule = SegmentConfig(stride=stride, padding=padding, published_semantics=True)
            path = segments_path(root, game, padding, stride)
            if path.exists():
                found, ours = read_segments(path, game, lengths), cut_episodes(lengths, rule)
                same = len(found) == len(ours) and all(
                    np.array_equal(getattr(found, name), getattr(ours, name)) for name in ("episode", "start")
                )
                verdict = "are those we cut" if same else "differ from those we cut, and are not used:"
                notes.append(
                    f"the {len(found)} segments of {path.name} {verdict} with stride {stride}, padding "
                    f"{padding} and published_semantics"
                )
    return meta, notes
