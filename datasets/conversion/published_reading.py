"""The published trajectory files: checked, and read as episodes or as tokens.

Letters: T steps of an episode, E episodes, K tokens a frame (36), B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import h5py
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from datasets.conversion.plan import UNKNOWN_SEED, check_length, file_identity, full_actions
from datasets.errors import UserError
from datasets.games import find_game
from datasets.hdf5 import dataset_of, group_of
from datasets.segments import Episode, check_steps
from datasets.tokens import FrameTokenizer

_SMALL = {"actions": "int32", "rewards": "float32", "terminals": "uint8"}
_DECODED_AT_ONCE = 256


@runtime_checkable
class FrameDecoder(FrameTokenizer, Protocol):
    """What is needed of a tokenizer to make frames of tokens."""

    def decode(self, tokens: Int[Tensor, "B K"], task_id: Int[Tensor, "B"]) -> UInt8[Tensor, "B 84 84"]:
        """Frames of B rows of tokens."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How tokens become frames."""

    tokenizer: FrameDecoder
    """The tokenizer that made the tokens, on `device`."""
    device: str
    """Where it works."""


@dataclass(frozen=True)
class TrajectoryPart:
    """Neighbouring episodes of one trajectory file, as a part of a plan."""

    path: Path
    """The file."""
    game: str
    """Its game, in the published spelling."""
    lengths: tuple[int, ...]
    """Steps of each episode."""
    first: int
    """Number of the first episode."""
    decoding: Decoding | None
    """How tokens become frames; None where the file holds frames."""

    @property
    def identity(self) -> str:
        """File, episodes and tokenizer."""
        tokenizer = self.decoding.tokenizer.content_hash() if self.decoding else "frames"
        return f"published {file_identity(self.path)} {self.game} {self.first} {self.lengths} {tokenizer}"

    @property
    def num_steps(self) -> int:
        """Steps of its episodes."""
        return sum(self.lengths)

    def episodes(self) -> Iterator[Episode]:
        """Read the episodes."""
        with open_trajectories(self.path) as file:
            for number in range(self.first, self.first + len(self.lengths)):
                yield self._read(group_of(file, str(number)), number)

    def _read(self, group: h5py.Group, number: int) -> Episode:
        where = f"{self.path}: episode {number}"
        observations = dataset_of(group, "observations")
        if self.decoding is None:
            frames, preprocessing = observations[()], "84x84 gray, as published"
        else:
            frames = _decode(observations[()], self.game, self.decoding, where)
            preprocessing = "84x84 gray, decoded from published tokens"
        return Episode(
            frames,
            full_actions(dataset_of(group, "actions")[()], self.game, f"{where}, actions"),
            dataset_of(group, "rewards")[()],
            dataset_of(group, "terminals")[()],
            game=self.game,
            behaviour=f"published trajectory {number}",
            seed=UNKNOWN_SEED,
            emulator="Arcade Learning Environment",
            preprocessing=preprocessing,
        )


class RecordedTokens:
    """Stands in for a tokenizer that has already tokenised every frame of a file, in order.

    With it `build_token_cache` writes the file's own tokens under the tokenizer's hash.
    """

    def __init__(self, path: Path, tokenizer: FrameTokenizer) -> None:
        self.config: Any = tokenizer.config
        self._hash = tokenizer.content_hash()
        self._rows = self._read_rows(path)
        self._left = np.zeros((0, self.config.tokens_per_frame), dtype=np.int64)

    def content_hash(self) -> str:
        """The tokenizer's own."""
        return self._hash

    def encode(self, frames: UInt8[Tensor, "B 84 84"], task_id: Int[Tensor, "B"]) -> Int[Tensor, "B K"]:
        """The next B rows of the file, whatever the frames are."""
        rows = [self._left]
        while sum(map(len, rows)) < len(frames):
            rows.append(next(self._rows))
        joined = np.concatenate(rows)
        self._left = joined[len(frames) :]
        return torch.from_numpy(joined[: len(frames)])

    @staticmethod
    def _read_rows(path: Path) -> Iterator[np.ndarray]:
        with open_trajectories(path) as file:
            for number in range(len(file)):
                yield dataset_of(file, f"{number}/observations")[()]


@contextmanager
def open_trajectories(path: Path) -> Iterator[h5py.File]:
    """Open a trajectory file, and tell of damage in it as a `UserError`."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is truncated, damaged or not a file of published trajectories "
            f"({next(iter(str(error).splitlines()), 'no detail')}); copy it again"
        ) from error


def check_episodes(path: Path, game: str, decoding: Decoding | None) -> Int[np.ndarray, "E"]:
    """Check all but the observations' contents; return the length of each episode."""
    tokens = decoding.tokenizer.config.tokens_per_frame if decoding else 0
    dtype, shape = ("int64", (tokens,)) if decoding else ("uint8", (84, 84))
    with open_trajectories(path) as file:
        numbers = [str(number) for number in range(len(file))]
        if not numbers or set(file) != set(numbers):
            raise UserError(
                f"{path}: its groups are not the episodes 0 to {len(numbers) - 1}, one group each; "
                "copy it again"
            )
        return np.array([_check_episode(group_of(file, n), game, dtype, shape, path) for n in numbers])


def _check_episode(group: h5py.Group, game: str, dtype: str, shape: tuple[int, ...], path: Path) -> int:
    where = f"{path}: episode {(group.name or '')[1:]}"
    length = dataset_of(group, "actions").size or 0
    for name, kind in {**_SMALL, "observations": dtype}.items():
        full_shape = (length, *shape) if name == "observations" else (length,)
        found = dataset_of(group, name)
        if found.dtype != kind or found.shape != full_shape:
            raise UserError(
                f"{where}, {name}: is {found.dtype} {list(found.shape)}, not {kind} {list(full_shape)} as "
                "its actions ask for; copy it again"
            )
    check_length(length, where)
    actions = full_actions(dataset_of(group, "actions")[()], game, f"{where}, actions")
    rewards, ends = dataset_of(group, "rewards")[()], dataset_of(group, "terminals")[()]
    check_steps(actions, rewards, ends, game, where)
    if not ends[-1]:
        raise UserError(f"{where}, terminals: the episode has no end on its last step; copy the file again")
    return length


def _decode(tokens: Int[np.ndarray, "T K"], game: str, decoding: Decoding, where: str) -> np.ndarray:
    """Frames uint8 [T, 84, 84] of tokens."""
    vocabulary = decoding.tokenizer.config.vocab_size
    wrong = tokens[(tokens < 0) | (tokens >= vocabulary)]
    if len(wrong):
        raise UserError(
            f"{where}, observations: token {wrong[0]} is outside the tokenizer's vocabulary of "
            f"{vocabulary}; give the tokenizer that made them"
        )
    task_id = find_game(game).task_id
    frames = []
    with torch.inference_mode():
        for start in range(0, len(tokens), _DECODED_AT_ONCE):
            rows = torch.from_numpy(tokens[start : start + _DECODED_AT_ONCE]).to(decoding.device)
            tasks = torch.full((len(rows),), task_id, device=rows.device)
            frames.append(decoding.tokenizer.decode(rows, tasks).cpu().numpy())
    return np.concatenate(frames)
