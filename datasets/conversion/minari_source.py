"""Minari data sets as a source. Needs the extra `minari`.

Letters: T steps of an episode, H and W size of the source's frames.

A Minari episode holds T + 1 observations; ours holds the T that an action was taken on, so the last one is
dropped. Minari reads an episode whole and in its own size: 210 x 160 colour frames take 14 times the memory
of ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from datasets.conversion.plan import (
    UNKNOWN_SEED,
    Plan,
    check_length,
    file_identity,
    full_actions,
    in_order,
    neighbours,
)
from datasets.conversion.report import SourceFile, SourceSummary
from datasets.errors import UserError
from datasets.games import NUM_ACTIONS, find_game
from datasets.segments import Episode


@dataclass(frozen=True)
class MinariConfig:
    """A Minari data set into a store."""

    dataset: str
    """Its id, such as atari/pong/expert-v0, or its folder."""
    out: Path
    """Folder to write <Game>.h5 and <Game>.report.json to."""
    game: str | None = None
    """The game; told by the data set itself if not given."""
    workers: int = 0
    """Processes at work, each in need of about 0.4 GB and the longest episode; 0 for one a core."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers is {self.workers}; it must not be below 0")


@dataclass(frozen=True)
class MinariPart:
    """Neighbouring episodes of one data set, as a part of a plan."""

    folder: Path
    """The folder that holds metadata.json."""
    game: str
    """The game, in the published spelling."""
    first: int
    """Number of the first episode."""
    lengths: tuple[int, ...]
    """Steps of each episode."""

    @property
    def identity(self) -> str:
        """Files, game and episodes."""
        files = " ".join(file_identity(path) for path in sorted(self.folder.rglob("*")) if path.is_file())
        return f"minari {files} {self.game} {self.first} {self.lengths}"

    @property
    def num_steps(self) -> int:
        """Steps of its episodes."""
        return sum(self.lengths)

    def episodes(self) -> Iterator[Episode]:
        """Read the episodes; Minari holds one of them at a time, in its own size."""
        dataset = _open(self.folder)
        numbers = range(self.first, self.first + len(self.lengths))
        metadata = dataset.storage.get_episode_metadata(numbers)
        behaviour = str(dataset.storage.metadata.get("algorithm_name") or f"Minari {dataset.id}")
        for number, more, data in zip(numbers, metadata, dataset.iterate_episodes(numbers), strict=True):
            where = f"{self.folder}: episode {number}"
            seed = more.get("seed")
            yield _to_episode(data, self.game, _num_actions(dataset), where, behaviour, seed)


def plan_minari(config: MinariConfig) -> Plan:
    """Plan the store of a Minari data set.

    Raises:
        UserError: Minari is not installed, the data set is not there or not of an Atari game's frames and
            actions, or an episode is damaged.
    """
    folder = _find_folder(config.dataset)
    dataset = _open(folder)
    game = find_game(config.game).name if config.game else _game_of(dataset)
    _num_actions(dataset, game)
    _check_frames(dataset.observation_space, f"{folder}, observations")
    metadata = dataset.storage.get_episode_metadata(range(dataset.total_episodes))
    lengths = [int(more["total_steps"]) for more in metadata]
    if not lengths or min(lengths) < 1:
        raise UserError(f"{folder} holds no episodes, or one of no steps; download it again")
    check_length(max(lengths), str(folder))
    parts = [MinariPart(folder, game, first, group) for first, group in neighbours(np.array(lengths))]
    steps = sum(lengths)
    summary = SourceSummary(
        source=f"Minari data set {dataset.id}",
        sampling="all of them",
        total_episodes=len(lengths),
        total_steps=steps,
        files=(SourceFile(dataset.id, steps, len(lengths), len(lengths), steps),),
        notes=(f"{len(lengths)} final observations, on which no action was taken, are left out",),
    )
    return Plan(game, parts, in_order(len(part.lengths) for part in parts), summary)


def _find_folder(name: str) -> Path:
    """The folder with the data set's metadata.json."""
    minari = import_minari()
    tried = [Path(name), Path(name) / "data"]
    if not Path(name).is_absolute():
        tried.append(minari.storage.datasets_root_dir.get_dataset_path(name) / "data")
    for folder in tried:
        if (folder / "metadata.json").is_file():
            return folder
    raise UserError(
        f"there is no Minari data set {name}; expected metadata.json in {tried[-1]}; name its folder or "
        f"download it with `minari download {name}`"
    )


def _open(folder: Path) -> Any:
    try:
        return import_minari().MinariDataset(folder)
    except (OSError, ValueError, KeyError, AssertionError, TypeError) as error:
        raise UserError(
            f"{folder} cannot be read as a Minari data set ({error or type(error).__name__}); "
            "download it again"
        ) from error


def _game_of(dataset: Any) -> str:
    """The game of a data set: from our own metadata, its environment, or its id."""
    names = [dataset.storage.metadata.get("game"), dataset.env_spec and dataset.env_spec.id]
    for name in [*filter(None, names), *dataset.id.split("/")]:
        try:
            return find_game(name).name
        except UserError:
            continue
    raise UserError(f"the Minari data set {dataset.id} does not tell its game; name it with --game")


def _num_actions(dataset: Any, game: str | None = None) -> int:
    """Actions of the data set's action space; with `game`, checked to be that game's or all 18."""
    number = int(getattr(dataset.action_space, "n", 0))
    if game is not None and number not in (NUM_ACTIONS, len(find_game(game).legal_actions)):
        raise UserError(
            f"the Minari data set {dataset.id}: its action space {dataset.action_space} is neither the "
            f"{len(find_game(game).legal_actions)} actions of {game} nor all {NUM_ACTIONS}; "
            "name another --game"
        )
    return number


def _check_frames(space: Any, where: str) -> None:
    shape = tuple(getattr(space, "shape", None) or ())
    known = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    if not known or space.dtype != np.uint8:
        raise UserError(
            f"{where}: {space} is not frames; expected uint8 [H, W], [H, W, 1] or [H, W, 3], without stacking"
        )


def _to_episode(
    data: Any, game: str, num_actions: int, where: str, behaviour: str, seed: int | None
) -> Episode:
    actions = np.asarray(data.actions)
    if num_actions == NUM_ACTIONS:
        wrong = actions[(actions < 0) | (actions >= NUM_ACTIONS)]
        if len(wrong):
            raise UserError(
                f"{where}, actions: takes action {wrong[0]}, and there are {NUM_ACTIONS}; download it again"
            )
        actions = actions.astype(np.uint8)
    else:
        actions = full_actions(actions, game, f"{where}, actions")
    ends = np.asarray(data.terminations).astype(np.uint8)
    rewards = np.asarray(data.rewards, dtype=np.float32)
    length = len(actions)
    found = (len(rewards), len(ends), len(data.observations) - 1)
    if found != (length, length, length):
        raise UserError(
            f"{where}: holds {length} actions, but {found[0]} rewards, {found[1]} terminations and "
            f"{found[2] + 1} observations; download it again"
        )
    return Episode(
        _to_gray(np.asarray(data.observations)[:-1]),
        actions,
        rewards,
        ends,
        game=game,
        behaviour=behaviour,
        seed=UNKNOWN_SEED if seed is None else int(seed),
        emulator="as in the Minari data set",
        preprocessing="84x84 gray, INTER_AREA from the data set's frames, its steps as they are",
    )


def _to_gray(frames: np.ndarray) -> UInt8[np.ndarray, "T 84 84"]:
    """Frames uint8 [T, H, W], [T, H, W, 1] or [T, H, W, 3] (red, green, blue) in our size."""
    if frames.ndim == 4 and frames.shape[3] == 1:
        frames = frames[..., 0]
    if frames.shape[1:] == (84, 84):
        return frames
    small = np.empty((len(frames), 84, 84), dtype=np.uint8)
    for row, frame in enumerate(frames):
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if frame.ndim == 3 else frame
        small[row] = cv2.resize(gray, (84, 84), interpolation=cv2.INTER_AREA)
    return small


def import_minari() -> Any:
    """The package, with what we use of it."""
    try:
        minari = importlib.import_module("minari")
        for name in ("dataset.minari_dataset", "dataset.minari_storage", "storage.datasets_root_dir"):
            importlib.import_module(f"minari.{name}")
    except ImportError as error:
        raise UserError(
            f"Minari is not installed ({error}); install it with `pip install -e '.[minari]'`"
        ) from error
    return minari
