"""Our stores in the published layout.

Letters: T steps of an episode, K tokens a frame, E episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from datasets.conversion.plan import limited_actions
from datasets.conversion.published_format import (
    DEFAULT_STRIDE,
    Meta,
    frames_path,
    meta_path,
    segments_path,
    tokens_path,
    write_meta,
    write_segments,
)
from datasets.conversion.report import read_report, report_path
from datasets.errors import UserError
from datasets.files import replace_file
from datasets.hdf5 import discard_writes, group_of, require_space, told_write_errors
from datasets.segments import Padding, SegmentConfig, cut_episodes
from datasets.store import EpisodeInfo, EpisodeStore
from datasets.store_format import open_file, told_read_errors
from datasets.tokens import TokenCache

_PADDINGS: tuple[Padding, ...] = ("right", "left")


@dataclass(frozen=True)
class ExportPublishedConfig:
    """A store into the published layout: trajectories, and the meta and segment CSV files."""

    store: Path
    """The store to export; each of its games becomes one trajectory file."""
    out: Path
    """Folder to write trajectory/ and segment/ to."""
    tokens: Path | None = None
    """A token cache of the store: exports its tokens instead of the frames."""
    stride: int = DEFAULT_STRIDE
    """Steps between segments; the published program uses 4 in pretraining and 1 in fine-tuning."""


@dataclass(frozen=True)
class ExportedGame:
    """What was exported of one game."""

    game: str
    """The game, in the published spelling."""
    path: Path
    """Its trajectory file."""
    episodes: int
    """Episodes exported."""
    steps: int
    """Their steps."""
    unfinished_episodes: int
    """Episodes left out because they have no end, which the published format cannot tell."""
    unfinished_steps: int
    """Their steps."""

    def text(self) -> str:
        """The outcome for a terminal."""
        line = f"{self.game}: {self.episodes} episodes, {self.steps} steps in {self.path}"
        if self.unfinished_episodes:
            line += (
                f"\n  dropped: {self.unfinished_episodes} episodes, {self.unfinished_steps} steps: "
                "they have no end, and the published format holds whole episodes only"
            )
        return line


def export_published(config: ExportPublishedConfig) -> list[ExportedGame]:
    """Write a store's games in the published layout, as `published_format` tells it.

    Raises:
        UserError: the store or the token cache cannot be read or do not belong together, no episode of a game
            has an end, or the disk is full. Each file is whole or not there.
    """
    store = EpisodeStore(config.store)
    cache = TokenCache(config.tokens) if config.tokens is not None else None
    if cache is not None and cache.content_id != store.content_id:
        raise UserError(f"{cache.path} holds the tokens of another store than {store.path}; build it again")
    rule = SegmentConfig(stride=config.stride)  # refuses an impossible stride before anything is written
    for game in store.games:
        if not any(info.ended for info in store.episodes if info.game == game):
            raise UserError(
                f"{store.path}: no episode of {game} has an end, and the published format holds whole "
                "episodes only; collect longer episodes"
            )
    return [_export_game(store, cache, game, config.out, rule.stride) for game in store.games]


def _export_game(
    store: EpisodeStore, cache: TokenCache | None, game: str, out: Path, stride: int
) -> ExportedGame:
    infos = [info for info in store.episodes if info.game == game]
    whole = [info for info in infos if info.ended]
    path = (frames_path if cache is None else tokens_path)(out, game)
    _write_trajectories(store, cache, whole, path)
    lengths = np.array([info.length for info in whole])
    steps = int(lengths.sum())
    total_episodes, total_steps = _source_totals(store, infos)
    write_meta(meta_path(out, game), Meta(total_episodes, total_steps, len(whole), steps))
    for padding in _PADDINGS:
        rule = SegmentConfig(stride=stride, padding=padding, published_semantics=True)
        write_segments(segments_path(out, game, padding, stride), cut_episodes(lengths, rule), game)
    all_steps = sum(info.length for info in infos)
    return ExportedGame(game, path, len(whole), steps, len(infos) - len(whole), all_steps - steps)


def _source_totals(store: EpisodeStore, infos: list[EpisodeInfo]) -> tuple[int, int]:
    """Episodes and steps that the store's episodes were drawn from; their own where nothing is known."""
    report = read_report(report_path(store.path))
    if report is not None and report.content_id == store.content_id:
        return report.summary.total_episodes, report.summary.total_steps
    return sum(info.ended for info in infos), sum(info.length for info in infos)


def _write_trajectories(
    store: EpisodeStore, cache: TokenCache | None, infos: list[EpisodeInfo], path: Path
) -> None:
    offset = dict(zip((info.key for info in store.episodes), store.steps.offsets.tolist(), strict=False))
    with (
        replace_file(path) as partial,
        told_write_errors(),
        h5py.File(partial, "w", locking=False) as file,
        open_file(store.path) as source,
    ):
        try:
            for number, info in enumerate(infos):
                require_space(path.parent, 84 * 84 * info.length)
                group = file.create_group(str(number))
                if cache is None:
                    # The compressed chunks are copied as they are.
                    with told_read_errors(store.path):
                        episode = group_of(source, f"episodes/{info.key}")
                    episode.copy("observations", group)
                else:
                    rows = cache.tokens[offset[info.key] : offset[info.key] + info.length]
                    group.create_dataset("observations", data=rows.astype(np.int64), compression="gzip")
                group.create_dataset("actions", data=limited_actions(store.actions(info.key), info.game))
                group.create_dataset("rewards", data=store.rewards(info.key))
                group.create_dataset("terminals", data=store.ends(info.key))
            require_space(path.parent, 0)
            file.flush()
        except BaseException:
            discard_writes(file)
            raise
