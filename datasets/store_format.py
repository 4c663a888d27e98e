"""The layout of an episode store, and the checks that hold a file to it.

Letters: E episodes, T steps of an episode, N steps of all episodes.

Version 1:

    /                       attributes: format, version, complete
    /index/<field>          [E] one entry an episode: what can be known without visiting the groups
    /episodes/000000/       attributes: game, emulator, preprocessing, behaviour, seed
        observations        uint8   [T, 84, 84] chunks of 8 frames, gzip, checksum
        actions             uint8   [T]         indices of the 18-action vocabulary
        rewards             float32 [T]         as the game gave them
        ends                uint8   [T]         1 on a true terminal step
        lives               uint8   [T]         lives left before each action; absent where not recorded
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from datasets.errors import UserError
from datasets.games import find_game
from datasets.hdf5 import dataset_of, group_of
from datasets.segments import Episode, check_steps

FORMAT = "worldbeam episodes"
VERSION = 1
_FRAMES_PER_CHUNK = 8
_STEPS_PER_CHUNK = 4096
_GZIP_LEVEL = 4
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "observations": ("uint8", (84, 84)),
    "actions": ("uint8", ()),
    "rewards": ("float32", ()),
    "ends": ("uint8", ()),
}
_LIVES = "lives"
_ATTRIBUTES = ("game", "emulator", "preprocessing", "behaviour", "seed")


@dataclass(frozen=True)
class EpisodeInfo:
    """What is known of a stored episode without reading its frames."""

    key: str
    """Name of its group, such as `000041`."""
    game: str
    """The game's name in the published spelling."""
    length: int
    """Steps (T)."""
    total_reward: float
    """Sum of the game's own rewards."""
    ended: bool
    """True if the last step is terminal, False if the episode was cut short."""
    behaviour: str
    """What chose the actions, in words."""
    seed: int
    """Seed of the emulator and the behaviour."""
    digest: str
    """Hash of the game, frames, actions, rewards and ends; not of the lives, which follow from them."""


@dataclass(frozen=True, eq=False)
class StoreSteps:
    """The small arrays of all episodes, one after the other; read-only."""

    offsets: Int[np.ndarray, "O"]
    """Episode `e` is at steps `offsets[e]` to `offsets[e + 1]`; O is E + 1."""
    actions: UInt8[np.ndarray, "N"]
    """Indices of the 18-action vocabulary."""
    rewards: Float32[np.ndarray, "N"]
    """As the game gave them."""
    ends: UInt8[np.ndarray, "N"]
    """1 on a terminal step."""
    lives: UInt8[np.ndarray, "N"]
    """Lives left before each action; 0 where they were not recorded."""
    has_lives: Bool[np.ndarray, "E"]
    """Whether they were, for each episode."""


def open_file(path: Path) -> h5py.File:
    """Open a store for reading, without locks: a file that has its name never changes."""
    if not path.exists():
        raise UserError(f"there is no episode store at {path}; make one with `python -m datasets.collect`")
    if path.is_dir():
        raise UserError(f"{path} is a folder, not an episode store; name the .h5 file")
    return h5py.File(path, "r", locking=False)


@contextmanager
def told_read_errors(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises for an unreadable file into a `UserError`."""
    try:
        yield
    except PermissionError as error:
        raise UserError(f"{path} may not be read by this user; change its permissions") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        detail = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{path} is truncated, damaged or not an episode store ({detail}); "
            "restore a copy or collect it again"
        ) from error


def check_header(file: h5py.File, path: Path) -> None:
    """Check format, version and completeness.

    Raises:
        UserError: the file is none of ours, of another version or was never finished.
    """
    if file.attrs.get("format") != FORMAT:
        raise UserError(
            f"{path} is an HDF5 file but not an episode store (its attribute `format` is not {FORMAT!r}); "
            "name a file written by `python -m datasets.collect`"
        )
    version = file.attrs.get("version")
    if version != VERSION:
        raise UserError(
            f"{path} has format version {version}, this program reads {VERSION}; collect it again"
        )
    if not file.attrs.get("complete", False):
        raise UserError(f"{path} was never finished (its attribute `complete` is not set); collect it again")


def read_index(file: h5py.File, path: Path) -> list[EpisodeInfo]:
    """Read what the index says of every episode.

    Raises:
        UserError: the index is empty or its columns do not fit each other.
    """
    columns = {
        field.name: np.asarray(dataset_of(file, f"index/{field.name}")) for field in fields(EpisodeInfo)
    }
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1:
        raise UserError(f"{path}, index: its columns differ in length; restore a copy or collect it again")
    if lengths == {0}:
        raise UserError(f"{path} holds no episodes; collect some with `python -m datasets.collect`")
    if (columns["length"] < 1).any():
        raise UserError(f"{path}, index: an episode of no steps; restore a copy or collect it again")
    plain = {name: [_plain(value) for value in column.tolist()] for name, column in columns.items()}
    rows = zip(*plain.values(), strict=True)
    return [EpisodeInfo(**dict(zip(plain, row, strict=True))) for row in rows]


def read_steps(file: h5py.File, episodes: list[EpisodeInfo], path: Path) -> StoreSteps:
    """Read everything but the frames, and hold every episode to the index and its game.

    Raises:
        UserError: an episode is missing, or an array of it has another type, shape or impossible values.
    """
    groups = group_of(file, "episodes")
    if len(groups) != len(episodes):
        raise UserError(
            f"{path} holds {len(groups)} episodes but its index says {len(episodes)}; "
            "restore a copy or collect it again"
        )
    offsets = np.concatenate([[0], np.cumsum([info.length for info in episodes])])
    steps = {
        name: np.empty(offsets[-1], dtype=dtype) for name, (dtype, shape) in _ARRAYS.items() if not shape
    }
    lives, has_lives = np.zeros(offsets[-1], dtype=np.uint8), []
    for info, start in zip(episodes, offsets[:-1].tolist(), strict=True):
        where = f"{path}: episode {info.key}"
        span = slice(start, start + info.length)
        for name, (dtype, shape) in _ARRAYS.items():
            dataset = _checked(groups, info, name, dtype, shape, where)
            if not shape:
                dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, steps[name][span])
        check_steps(steps["actions"][span], steps["rewards"][span], steps["ends"][span], info.game, where)
        has_lives.append(f"{info.key}/{_LIVES}".encode() in groups.id)
        if has_lives[-1]:
            dataset = _checked(groups, info, _LIVES, "uint8", (), where)
            dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, lives[span])
        if bool(steps["ends"][span][-1]) != info.ended:
            raise UserError(f"{where}, ends: the index says otherwise; restore a copy or collect it again")
    for array in (offsets, lives, *steps.values()):
        array.flags.writeable = False
    return StoreSteps(offsets, **steps, lives=lives, has_lives=np.array(has_lives))


def _checked(
    groups: h5py.Group, info: EpisodeInfo, name: str, dtype: str, shape: tuple[int, ...], where: str
) -> h5py.h5d.DatasetID:
    """One array of an episode, of the right type and shape."""
    # The low-level interface: opening thousands of episodes takes less than half the time.
    dataset = h5py.h5d.open(groups.id, f"{info.key}/{name}".encode())
    check_array(dataset, dtype, (info.length, *shape), f"{where}, {name}")
    return dataset


def check_array(
    array: np.ndarray | h5py.h5d.DatasetID, dtype: str, shape: tuple[int, ...], where: str
) -> None:
    """Check the type and shape of one array of an episode.

    Raises:
        UserError: naming `where`, what is there and what should be.
    """
    if array.dtype != dtype or array.shape != shape:
        raise UserError(
            f"{where}: is {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}; "
            "collect or convert this episode again"
        )


def write_episode(file: h5py.File, key: str, episode: Episode, where: str) -> EpisodeInfo:
    """Check one episode, write its group and return what the index is to say of it.

    Raises:
        UserError: the episode's arrays do not fit each other or its game; nothing was written.
    """
    if not -(2**63) <= episode.seed < 2**63:
        raise UserError(f"{where}, seed: {episode.seed} does not fit 64 bits with a sign; use a smaller seed")
    game = find_game(episode.game).name
    arrays = {
        "observations": episode.frames,
        "actions": episode.actions,
        "rewards": episode.rewards,
        "ends": episode.ends,
    }
    length = len(episode.actions)
    for name, (dtype, shape) in _ARRAYS.items():
        check_array(arrays[name], dtype, (length, *shape), f"{where}, {name}")
    check_steps(episode.actions, episode.rewards, episode.ends, game, where)
    if episode.lives is not None:
        check_array(episode.lives, "uint8", (length,), f"{where}, {_LIVES}")
    digest = hashlib.sha256(game.encode())
    group = file.create_group(f"episodes/{key}")
    group.attrs.update({name: getattr(episode, name) for name in _ATTRIBUTES} | {"game": game})
    for name in _ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        digest.update(array.data)
        _write_array(group, name, array)
    if episode.lives is not None:
        _write_array(group, _LIVES, np.ascontiguousarray(episode.lives))
    total_reward = float(episode.rewards.sum(dtype=np.float64))
    ended = bool(episode.ends[-1])
    return EpisodeInfo(
        key, game, length, total_reward, ended, episode.behaviour, episode.seed, digest.hexdigest()
    )


def _write_array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    dataset = group.create_dataset(
        name,
        data=array,
        chunks=(min(len(array), _FRAMES_PER_CHUNK if array.ndim > 1 else _STEPS_PER_CHUNK), *array.shape[1:]),
        compression="gzip",
        compression_opts=_GZIP_LEVEL,
        fletcher32=True,
    )
    dataset.flush()  # a chunk that cannot be written as the data set is closed raises nothing


def write_index(file: h5py.File, episodes: list[EpisodeInfo]) -> None:
    """Write the index and mark the store complete."""
    file.pop("index", None)
    rows = zip(*(astuple(info) for info in episodes), strict=True)
    for field, column in zip(fields(EpisodeInfo), rows, strict=True):
        encoded = [value.encode() if isinstance(value, str) else value for value in column]
        # Texts are kept as bytes of one width, which NumPy and HDF5 both read in one piece.
        file.create_dataset(
            f"index/{field.name}", data=np.array(encoded), compression="gzip", fletcher32=True
        )
    file.attrs["complete"] = True
    file.flush()


def _plain(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
