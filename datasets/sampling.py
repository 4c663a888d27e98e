"""Batches for training: what is drawn at a step depends on the seed and the step alone.

Letters: E episodes, N steps of all stores, B items of a batch, L steps of a segment, K tokens a frame.

Drawing and loading are separate: `indices(step)` says what a step is made of, in global numbers that
every process agrees on, and `load(indices)` reads it. So each of several processes can take its share of
the indices, and worker processes can load any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets.errors import UserError
from datasets.games import find_game, legal_mask_table
from datasets.mixture import Mixture, SamplingConfig, Split, select_games
from datasets.segments import (
    Batch,
    FrameBatch,
    SegmentConfig,
    best_mask,
    count_segments,
    discounted_returns,
    failure_returns,
    failures,
    held_out_mask,
    segment_starts,
)
from datasets.store import EpisodeInfo, EpisodeStore
from datasets.tokens import TokenCache

__all__ = ["FrameBatch", "FrameSampler", "Parts", "SamplingConfig", "SegmentSampler", "batches"]

_BYTES_PER_FRAME = 84 * 84
_SEGMENT_STREAM, _FRAME_STREAM = 0, 1
# The held-out draws must not mirror the training draws.
_SPLIT_STREAMS: dict[Split, int] = {"train": 0, "held_out": 2, "all": 0}

_Item = TypeVar("_Item", bound=Batch | FrameBatch, covariant=True)
_Whole = TypeVar("_Whole", covariant=True)


class SegmentSampler:
    """Draws segments of several games from the token caches of one or more stores.

    Args:
        stores: the episodes.
        caches: the token cache of each store, all by the same tokenizer.
        sampling: how many, of which games, under which seed.
        segments: how episodes become segments.
        split: which episodes to draw from.

    Raises:
        UserError: a cache belongs to another store or tokenizer, a game is not in the stores, or there is
            nothing to draw.
    """

    def __init__(
        self,
        stores: Sequence[EpisodeStore],
        caches: Sequence[TokenCache],
        sampling: SamplingConfig,
        segments: SegmentConfig,
        split: Split = "train",
    ) -> None:
        _check_caches(stores, caches)
        self.segments = segments
        """How episodes become segments."""
        self._caches = list(caches)
        infos = _all_episodes(stores)
        self._lengths = np.array([info.length for info in infos])
        self._offsets = np.cumsum(self._lengths) - self._lengths
        self._store_starts = np.cumsum([0, *(store.num_steps for store in stores)])
        self._task_ids = np.array([find_game(info.game).task_id for info in infos])
        self._legal = legal_mask_table()
        self._actions = np.concatenate([store.steps.actions for store in stores])
        self._ends = np.concatenate([store.steps.ends for store in stores])
        rewards = np.concatenate([store.steps.rewards for store in stores])
        self._rewards = rewards if segments.raw_rewards else np.sign(rewards)
        self._returns = np.concatenate(
            [
                discounted_returns(self._rewards[start : start + length], segments.discount)
                for start, length in zip(self._offsets, self._lengths, strict=True)
            ]
        )
        self._value_returns = self._returns
        if segments.value_of == "failures":
            self._value_returns = _failure_returns(stores, segments.discount)
        sizes = count_segments(self._lengths, segments)
        self.mixture = _mixture(stores, infos, sizes, sampling, split, _SEGMENT_STREAM)

    def __len__(self) -> int:
        """Number of different segments."""
        return len(self.mixture)

    def indices(self, step: int) -> Int[np.ndarray, "B"]:
        """Numbers of the segments of a step."""
        return self.mixture.draw(step)

    def load(self, indices: Int[np.ndarray, "B"]) -> Batch:
        """Read the segments of these numbers."""
        length = self.segments.segment_length
        episode, number = self.mixture.locate(indices)
        steps = self._lengths[episode]
        start = segment_starts(steps, number, self.segments)
        step = start[:, None] + np.arange(length)
        mask = (step >= 0) & (step < steps[:, None])
        row = self._offsets[episode][:, None] + np.clip(step, 0, steps[:, None] - 1)
        task_id = self._task_ids[episode]
        return Batch(
            tokens=torch.from_numpy(self._read_tokens(row) * mask[:, :, None]),
            actions=torch.from_numpy(self._actions[row].astype(np.int64) * mask),
            rewards=torch.from_numpy(self._rewards[row] * mask),
            ends=torch.from_numpy(self._ends[row].astype(np.int64) * mask),
            returns=torch.from_numpy(self._returns[row] * mask),
            value_returns=torch.from_numpy(self._value_returns[row] * mask),
            mask=torch.from_numpy(mask),
            task_id=torch.from_numpy(task_id),
            legal_mask=torch.from_numpy(self._legal[task_id]),
        )

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return self.load(self.indices(step))

    def _read_tokens(self, row: Int[np.ndarray, "B L"]) -> Int[np.ndarray, "B L K"]:
        """Tokens at these steps of all stores, int64."""
        tokens = np.empty((*row.shape, self._caches[0].tokens.shape[1]), dtype=np.int64)
        # A segment lies in one store.
        store = np.searchsorted(self._store_starts, row[:, 0], side="right") - 1
        for index in np.unique(store):
            of_store = store == index
            tokens[of_store] = self._caches[index].tokens[row[of_store] - self._store_starts[index]]
        return tokens


class FrameSampler:
    """Draws single frames of several games from one or more stores.

    Args:
        stores: the episodes.
        sampling: how many, of which games, under which seed.
        split: which episodes to draw from.
        memory_limit: most bytes of frames to hold in memory; of more frames than that, each is read when
            it is drawn.

    Raises:
        UserError: a game is not in the stores, or there is nothing to draw.
    """

    def __init__(
        self,
        stores: Sequence[EpisodeStore],
        sampling: SamplingConfig,
        split: Split = "train",
        memory_limit: int = 2 * 1024**3,
    ) -> None:
        infos = _all_episodes(stores)
        self._places = [(store, info) for store in stores for info in store.episodes]
        self._task_ids = np.array([find_game(info.game).task_id for info in infos])
        sizes = np.array([info.length for info in infos])
        self.mixture = _mixture(stores, infos, sizes, sampling, split, _FRAME_STREAM)
        self._frames = self._read_all() if len(self) * _BYTES_PER_FRAME <= memory_limit else None

    def __len__(self) -> int:
        """Number of different frames."""
        return len(self.mixture)

    def indices(self, step: int) -> Int[np.ndarray, "B"]:
        """Numbers of the frames of a step."""
        return self.mixture.draw(step)

    def load(self, indices: Int[np.ndarray, "B"]) -> FrameBatch:
        """Read the frames of these numbers."""
        episode, step = self.mixture.locate(indices)
        if self._frames is not None:
            frames = self._frames[indices]
        else:
            frames = np.empty((len(indices), 84, 84), dtype=np.uint8)
            for row, (store, info) in enumerate(self._places[index] for index in episode):
                frames[row] = store.frames(info.key, int(step[row]), int(step[row]) + 1)[0]
        return FrameBatch(torch.from_numpy(frames), torch.from_numpy(self._task_ids[episode]))

    def batch(self, step: int) -> FrameBatch:
        """The batch of a step."""
        return self.load(self.indices(step))

    def _read_all(self) -> np.ndarray:
        frames = np.empty((len(self), 84, 84), dtype=np.uint8)
        start = 0
        # The bar shows only where someone looks and would otherwise wonder.
        for episode in tqdm(
            self.mixture.episodes, desc="reading frames", unit="episode", delay=2, disable=None
        ):
            store, info = self._places[episode]
            frames[start : start + info.length] = store.frames(info.key)
            start += info.length
        return frames


class Parts(Generic[_Item]):
    """Parts of the batch of each step: what one of several processes loads, or computes one after the other.

    Args:
        sampler: draws whole batches.
        parts: the rows of each part.
    """

    def __init__(self, sampler: _Loader[_Item], parts: Sequence[range]) -> None:
        self._sampler, self._parts = sampler, tuple(parts)

    def batch(self, step: int) -> tuple[_Item, ...]:
        """The parts of the batch of a step; nothing else of it is read."""
        indices = self._sampler.indices(step)
        return tuple(self._sampler.load(indices[rows.start : rows.stop : rows.step]) for rows in self._parts)


class _Loader(Protocol[_Item]):
    def indices(self, step: int) -> Int[np.ndarray, "B"]: ...

    def load(self, indices: Int[np.ndarray, "B"]) -> _Item: ...


class _Sampler(Protocol[_Whole]):
    def batch(self, step: int) -> _Whole: ...


class _Steps(Dataset, Generic[_Whole]):
    """A sampler as a DataLoader's workers read it: item `s` is the batch of step `s`."""

    def __init__(self, sampler: _Sampler[_Whole]) -> None:
        self._sampler = sampler

    def __getitem__(self, step: int) -> _Whole:
        return self._sampler.batch(step)


def batches(
    sampler: _Sampler[_Whole], start_step: int, stop_step: int, num_workers: int = 0, pin_memory: bool = False
) -> Iterator[_Whole]:
    """The batches of steps `start_step` to `stop_step` (exclusive), the same for any number of workers.

    Args:
        sampler: a `SegmentSampler`, a `FrameSampler`, or `Parts` of one.
        start_step: first step.
        stop_step: one past the last step.
        num_workers: processes that load ahead; 0 loads each batch in this one when it is asked for.
        pin_memory: return page-locked tensors, for a GPU.
    """
    yield from DataLoader(
        _Steps(sampler),
        batch_size=None,
        sampler=range(start_step, stop_step),
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=_unchanged,
        # Its own generator: by default a DataLoader takes a number from the global one.
        generator=torch.Generator(),
    )


def _unchanged(batch: Any) -> Any:
    return batch


def _all_episodes(stores: Sequence[EpisodeStore]) -> list[EpisodeInfo]:
    if not stores:
        raise UserError("no episode store is given; name one or more .h5 files")
    return [info for store in stores for info in store.episodes]


def _failure_returns(stores: Sequence[EpisodeStore], discount: float) -> Float32[np.ndarray, "N"]:
    """The return of failing of every step of all stores."""
    returns = []
    for store in stores:
        for info in store.episodes:
            lives = store.lives(info.key)
            if lives is None:
                raise UserError(
                    f"{store.path}: episode {info.key} does not say how many lives were left, which "
                    "value_of failures learns from; collect it again, or let the value head learn returns"
                )
            returns.append(failure_returns(failures(store.rewards(info.key), lives, info.ended), discount))
    return np.concatenate(returns)


def _mixture(
    stores: Sequence[EpisodeStore],
    infos: Sequence[EpisodeInfo],
    sizes: Int[np.ndarray, "E"],
    sampling: SamplingConfig,
    split: Split,
    stream: int,
) -> Mixture:
    """The items of the chosen games and split, refused if there are none."""
    games = [info.game for info in infos]
    where = ", ".join(str(store.path) for store in stores)
    weights = select_games(sampling.games, games, where)
    if split != "all":
        held_out = held_out_mask([info.digest for info in infos], games, sampling.held_out_fraction)
        sizes = np.where(held_out == (split == "held_out"), sizes, 0)
    scores = np.array([info.total_reward for info in infos])
    sizes = np.where(best_mask(scores, sizes, games, sampling.best_share), sizes, 0)
    mixture = Mixture(sizes, games, weights, sampling, stream + _SPLIT_STREAMS[split])
    if not len(mixture):
        reason = (
            "no episode is held out; raise held_out_fraction or collect two episodes or more of each game"
            if split == "held_out"
            else "every segment would be padding only; collect longer episodes or use another cutting rule"
        )
        raise UserError(f"{where}: nothing to draw of {', '.join(weights)}: {reason}")
    return mixture


def _check_caches(stores: Sequence[EpisodeStore], caches: Sequence[TokenCache]) -> None:
    if len(stores) != len(caches):
        raise ValueError(f"{len(stores)} stores but {len(caches)} token caches")
    for store, cache in zip(stores, caches, strict=True):
        if cache.content_id != store.content_id:
            raise UserError(f"{cache.path} is not of the present contents of {store.path}; build it again")
        if cache.tokenizer_hash != caches[0].tokenizer_hash:
            raise UserError(
                f"{cache.path} and {caches[0].path} are by different tokenizers; build both with the same one"
            )
