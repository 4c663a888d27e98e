"""Episodes on disk: one HDF5 file that is either complete or not there.

A file never changes once it has its name: a writer, also one that appends, works on a copy beside it
and renames. So readers need no locks, and a reader keeps the file that it opened. The layout is told in
`store_format.py`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from jaxtyping import Float32, UInt8

from datasets.errors import UserError
from datasets.files import replace_file
from datasets.hdf5 import dataset_of, discard_writes, require_space, told_write_errors
from datasets.segments import Episode
from datasets.store_format import (
    FORMAT,
    VERSION,
    EpisodeInfo,
    check_header,
    open_file,
    read_index,
    read_steps,
    told_read_errors,
    write_episode,
    write_index,
)

__all__ = ["EpisodeInfo", "EpisodeStore", "EpisodeWriter"]


class EpisodeStore:
    """A store opened for reading, verified as a whole but for the frames (those carry checksums).

    The file itself is opened once per process and only when frames are asked for, so a store may be
    pickled, forked and spawned.

    Args:
        path: the HDF5 file.

    Raises:
        UserError: the file is missing, truncated, not one of ours, of another version, incomplete, empty,
            or an episode is not as the format says; the sentence names file, field and remedy.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = os.getpid()
        with told_read_errors(self.path), open_file(self.path) as file:
            check_header(file, self.path)
            self.episodes = read_index(file, self.path)
            self.steps = read_steps(file, self.episodes, self.path)
        self.content_id = self.content_id_of(len(self.episodes))
        """Names the contents: equal exactly if all episodes are equal and in the same order."""
        self._position = {info.key: index for index, info in enumerate(self.episodes)}

    @property
    def games(self) -> tuple[str, ...]:
        """Names of the games held, in alphabetical order."""
        return tuple(sorted({info.game for info in self.episodes}))

    @property
    def num_steps(self) -> int:
        """Steps of all episodes together (N)."""
        return int(self.steps.offsets[-1])

    def content_id_of(self, count: int) -> str:
        """The `content_id` of a store that holds only the first `count` episodes of this one."""
        lines = (f"{e.digest} {e.game} {e.seed} {e.behaviour!r}\n" for e in self.episodes[:count])
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def frames(self, key: str, start: int = 0, stop: int | None = None) -> UInt8[np.ndarray, "n 84 84"]:
        """Frames `start` to `stop` (exclusive; by default all) of one episode.

        Raises:
            UserError: the file was damaged or replaced after it was opened.
        """
        with told_read_errors(self.path):
            return dataset_of(self._reader(), f"episodes/{key}/observations")[start:stop]

    def actions(self, key: str) -> UInt8[np.ndarray, "T"]:
        """Actions of one episode as indices of the 18-action vocabulary."""
        return self.steps.actions[self._slice(key)]

    def rewards(self, key: str) -> Float32[np.ndarray, "T"]:
        """Rewards of one episode as the game gave them."""
        return self.steps.rewards[self._slice(key)]

    def ends(self, key: str) -> UInt8[np.ndarray, "T"]:
        """Ends of one episode; only its last step can be 1."""
        return self.steps.ends[self._slice(key)]

    def lives(self, key: str) -> UInt8[np.ndarray, "T"] | None:
        """Lives left before each action of one episode, or None where they were not recorded."""
        if not self.steps.has_lives[self._position[key]]:
            return None
        return self.steps.lives[self._slice(key)]

    def summary(self) -> str:
        """A table in text: episodes, steps and mean return of each game, and the size of the file."""
        lines = [f"{self.path}: {self.path.stat().st_size / 1e6:.1f} MB"]
        for game in self.games:
            infos = [info for info in self.episodes if info.game == game]
            rewards = np.array([info.total_reward for info in infos])
            lines.append(
                f"  {game}: {len(infos)} episodes ({sum(info.ended for info in infos)} ended), "
                f"{sum(info.length for info in infos)} steps, "
                f"return {rewards.mean():.1f} (from {rewards.min():.1f} to {rewards.max():.1f})"
            )
        return "\n".join(lines)

    def close(self) -> None:
        """Close this process's handle on the file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None}

    def _slice(self, key: str) -> slice:
        index = self._position[key]
        return slice(int(self.steps.offsets[index]), int(self.steps.offsets[index + 1]))

    def _reader(self) -> h5py.File:
        if self._file is not None and self._process != os.getpid():
            # Inherited by a fork: HDF5 would go on reading through the parent's descriptor.
            self._file.close()
            self._file = None
        if self._file is None:
            file = open_file(self.path)
            if read_index(file, self.path) != self.episodes:
                file.close()
                raise UserError(
                    f"{self.path} was replaced after it was opened; start again to read the new one"
                )
            self._file, self._process = file, os.getpid()
        return self._file


class EpisodeWriter:
    """Writes a store beside its final name and renames it in place when the `with` block succeeds.

    If the block raises, the file at `path` stays as it was.

    Args:
        path: the file to write; one that exists is replaced, or extended with `append`.
        append: keep the episodes that the file already holds and add to them.
        keep_on_interrupt: on Ctrl-C keep the episodes that are complete, then let the interrupt through.

    Raises:
        UserError: the store to extend cannot be read, or the disk is full.
    """

    def __init__(self, path: str | Path, append: bool = False, keep_on_interrupt: bool = False) -> None:
        self.path = Path(path)
        self._keep_on_interrupt = keep_on_interrupt
        self._earlier = EpisodeStore(self.path).episodes if append and self.path.exists() else []
        self._added: list[EpisodeInfo] = []
        self._stack = ExitStack()

    @property
    def num_episodes(self) -> int:
        """Episodes that the store will hold, earlier ones included."""
        return len(self._earlier) + len(self._added)

    def __enter__(self) -> EpisodeWriter:
        with ExitStack() as stack:
            partial = stack.enter_context(replace_file(self.path))
            stack.enter_context(told_write_errors())
            if self._earlier:
                shutil.copyfile(self.path, partial)
            self._file = stack.enter_context(h5py.File(partial, "a" if self._earlier else "w", locking=False))
            self._file.attrs.update({"format": FORMAT, "version": VERSION, "complete": False})
            self._file.require_group("episodes")
            self._stack = stack.pop_all()
        return self

    def add(self, episode: Episode) -> None:
        """Write one episode.

        Raises:
            UserError: the episode's arrays do not fit each other or its game; other episodes may follow.
            OSError: the disk is full; it leaves the `with` block as a UserError.
        """
        key = f"{self.num_episodes:06d}"
        with told_write_errors():
            require_space(self.path.parent, episode.frames.nbytes)
            self._file.pop(f"episodes/{key}", None)  # what an interrupt left half written
            info = write_episode(self._file, key, episode, f"{self.path}: episode {key}")
        self._added.append(info)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept = self._keep_on_interrupt and isinstance(error, KeyboardInterrupt) and bool(self._added)
        if error is not None and not kept:
            discard_writes(self._file)
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            try:
                self._finish()
            except BaseException:
                discard_writes(self._file)
                raise

    def _finish(self) -> None:
        if not self.num_episodes:
            raise UserError(f"{self.path} was not written: no episode was added to it")
        self._file.pop(f"episodes/{self.num_episodes:06d}", None)  # half written when interrupted
        require_space(self.path.parent, 0)
        write_index(self._file, self._earlier + self._added)
