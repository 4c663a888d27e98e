"""Our stores as Minari data sets. Needs the extra `minari`.

A Minari episode holds one observation more than actions. Our stores do not hold the frame after the last
action, so the last frame stands there again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from datasets.conversion.minari_source import import_minari
from datasets.conversion.plan import UNKNOWN_SEED
from datasets.errors import UserError
from datasets.files import replace_directory
from datasets.games import NUM_ACTIONS, find_game
from datasets.hdf5 import require_space
from datasets.store import EpisodeStore


@dataclass(frozen=True)
class ExportMinariConfig:
    """A store into a Minari data set."""

    store: Path
    """The store to export."""
    dataset: str
    """Id of the data set to write, such as worldbeam/pong/collected-v0."""
    game: str | None = None
    """The game to export; needed if the store holds several."""
    root: Path | None = None
    """Minari's folder of data sets; its own if not given."""


def export_minari(config: ExportMinariConfig) -> Path:
    """Write one game of a store as a Minari data set, without loss; return its folder.

    Frames are the observations, actions are of the 18-action vocabulary, and an episode that was cut short is
    truncated on its last step.

    Raises:
        UserError: Minari is not installed, the id is not one of Minari's, a data set of this id is there
            already, the store holds several games and none is named, or the disk is full.
    """
    minari = import_minari()
    store = EpisodeStore(config.store)
    game = _game_to_export(store, config.game)
    try:
        minari.dataset.minari_dataset.parse_dataset_id(config.dataset)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{config.dataset!r} is not the id of a Minari data set; name it like worldbeam/pong/collected-v0"
        ) from error
    root = config.root or minari.storage.datasets_root_dir.get_dataset_path()
    folder = root / config.dataset
    if folder.exists():
        raise UserError(f"{folder} is there already; delete it or give the data set another version")
    with replace_directory(folder) as partial:
        storage = minari.dataset.minari_storage.MinariStorage.new(
            partial / "data",
            observation_space=spaces.Box(0, 255, (84, 84), np.uint8),
            action_space=spaces.Discrete(NUM_ACTIONS),
            jpeg_encoding=False,  # Minari's default is JPEG, which would change the frames
        )
        storage.update_metadata(
            {
                "dataset_id": config.dataset,
                "minari_version": minari.__version__,
                "game": game,
                "description": f"{game}: 84x84 gray frames of the {NUM_ACTIONS}-action vocabulary",
            }
        )
        for info in store.episodes:
            if info.game == game:
                require_space(root, 84 * 84 * (info.length + 1))  # Minari compresses nothing
                storage.update_episodes([_to_buffer(minari, store, info.key, info.seed)])
    return folder


def _game_to_export(store: EpisodeStore, game: str | None) -> str:
    held = ", ".join(store.games)
    if game is None:
        first, *others = store.games
        if others:
            raise UserError(f"{store.path} holds {held}; name one of them with --game")
        return first
    name = find_game(game).name
    if name not in store.games:
        raise UserError(f"{store.path} holds no {name}; it holds {held}")
    return name


def _to_buffer(minari: Any, store: EpisodeStore, key: str, seed: int) -> Any:
    frames, ends = store.frames(key), store.ends(key).astype(bool)
    truncations = np.zeros_like(ends)
    truncations[-1] = not ends[-1]
    return minari.data_collector.EpisodeBuffer(
        seed=None if seed == UNKNOWN_SEED else seed,
        observations=np.concatenate([frames, frames[-1:]]),
        actions=store.actions(key).astype(np.int64),
        rewards=store.rewards(key),
        terminations=ends,
        truncations=truncations,
        infos={},
    )
