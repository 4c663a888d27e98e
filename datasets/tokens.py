"""The tokens of a store's frames, kept beside it so that the tokenizer reads every frame once.

Letters: N steps of a store, K tokens a frame, B batch.

A cache is one safetensors file, which is a small JSON header and then the tokens, uint16 [N, K], in the
order of the store's steps: it is memory-mapped, and anything that reads safetensors reads it. The name
holds the tokenizer's hash, so each tokenizer has a cache of its own; the header ties the file to the
tokenizer and to the contents of the store. A cache of fewer episodes is extended when the store has
grown, and one that fits neither is built again.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from tqdm import tqdm

from datasets.errors import UserError
from datasets.files import replace_file
from datasets.games import find_game
from datasets.store import EpisodeStore

_FORMAT = "worldbeam tokens"
_VERSION = "1"
_LARGEST_HEADER = 1 << 16

PHYSICAL_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
"""Bytes of this machine's main memory."""


@runtime_checkable
class FrameTokenizer(Protocol):
    """What a cache needs of a tokenizer."""

    @property
    def config(self) -> Any:
        """Holds `tokens_per_frame`, the K of this tokenizer."""
        ...

    def encode(self, frames: UInt8[Tensor, "B 84 84"], task_id: Int[Tensor, "B"]) -> Int[Tensor, "B K"]:
        """Tokens of B frames of the given games."""
        ...

    def content_hash(self) -> str:
        """Hash of everything that the tokens depend on, in hexadecimal."""
        ...


class TokenCache:
    """A cache opened for reading; the tokens stay on disk. May be pickled, forked and spawned.

    Args:
        path: the cache file.

    Attributes:
        tokens: uint16 [N, K], read-only; a memory map of the file.
        tokenizer_hash: `content_hash` of the tokenizer that made it.
        content_id: `EpisodeStore.content_id` of the store that it was made from.
        num_episodes: episodes of that store.

    Raises:
        UserError: the file is missing, truncated or not a token cache; build it again.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        remedy = "delete it, and it is built again when training starts"
        try:
            offset, header = _read_header(self.path)
            metadata, entry = header["__metadata__"], header["tokens"]
            steps, tokens_per_frame = (int(size) for size in entry["shape"])
            ours = (metadata["format"], metadata["version"], entry["dtype"]) == (_FORMAT, _VERSION, "U16")
            self.tokenizer_hash: str = metadata["tokenizer"]
            self.content_id: str = metadata["content_id"]
            self.num_episodes = int(metadata["episodes"])
        except FileNotFoundError as error:
            raise UserError(
                f"there is no token cache at {self.path}; it is built when training starts"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path} is not a token cache or is damaged; {remedy}") from error
        if not ours:
            raise UserError(f"{self.path} is a token cache of another format or version; {remedy}")
        expected = offset + 2 * steps * tokens_per_frame
        if self.path.stat().st_size != expected or expected == offset:
            raise UserError(
                f"{self.path} is truncated ({self.path.stat().st_size} of {expected} bytes); {remedy}"
            )
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if expected > PHYSICAL_MEMORY / 2:
            # Reading on behind each segment would push out of memory what is drawn next.
            mapped.madvise(mmap.MADV_RANDOM)
        self.tokens = np.frombuffer(mapped, dtype="<u2", offset=offset).reshape(steps, tokens_per_frame)

    def __reduce__(self) -> tuple[Callable[[Path, str], TokenCache], tuple[Path, str]]:
        # A memory map pickles as a copy of all it holds; a path is opened again.
        return _reopen, (self.path, self.content_id)


def _reopen(path: Path, content_id: str) -> TokenCache:
    cache = TokenCache(path)
    if cache.content_id != content_id:
        raise UserError(f"{path} was replaced after it was opened; start again to read the new one")
    return cache


def token_cache_path(store_path: Path, tokenizer_hash: str) -> Path:
    """Where the cache of a store and a tokenizer is kept: `pong.tokens-0123456789ab.safetensors`."""
    return store_path.with_name(f"{store_path.stem}.tokens-{tokenizer_hash[:12]}.safetensors")


def build_token_cache(
    store: EpisodeStore,
    tokenizer: FrameTokenizer,
    *,
    batch_size: int = 512,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> TokenCache:
    """Open the cache of this store and tokenizer, after making what is missing of it.

    A cache that fits is opened as it is. If the store has grown since, the tokens of the earlier episodes
    are copied and only the new ones are encoded. Otherwise (no cache, a damaged one, another store under
    the same name) all frames are encoded. The frames are streamed, and the file is renamed in place when
    it is whole.

    Args:
        store: the episodes.
        tokenizer: what makes the tokens; it must be on `device` already.
        batch_size: frames encoded at once.
        device: where the tokenizer works.
        progress: show a progress bar.

    Raises:
        UserError: the disk is full, the store is damaged, or a token does not fit 16 bits.
    """
    tokenizer_hash = tokenizer.content_hash()
    path = token_cache_path(store.path, tokenizer_hash)
    known = _usable_cache(path, store, tokenizer_hash)
    num_known = 0 if known is None else known.num_episodes
    if known is not None and num_known == len(store.episodes):
        return known
    tokens_per_frame = tokenizer.config.tokens_per_frame
    first_step = int(store.steps.offsets[num_known])
    with replace_file(path) as temporary, temporary.open("wb") as file:
        shape = (store.num_steps, tokens_per_frame)
        file.write(token_cache_header(store.content_id, tokenizer_hash, len(store.episodes), shape))
        if known is not None:
            file.write(known.tokens.data)
        bar = tqdm(
            total=store.num_steps,
            initial=first_step,
            desc=f"tokens of {store.path.name}",
            unit="frame",
            disable=None if progress else True,
        )
        with bar:
            for frames, task_id in _frame_batches(store, num_known, batch_size):
                tokens = _encode(tokenizer, frames, task_id, device, path)
                file.write(np.ascontiguousarray(tokens).data)
                bar.update(len(frames))
    return TokenCache(path)


def _usable_cache(path: Path, store: EpisodeStore, tokenizer_hash: str) -> TokenCache | None:
    """The cache at `path` if it holds the first episodes of this store, whole or in part."""
    try:
        cache = TokenCache(path)
    except UserError:
        return None  # missing or damaged: a cache is made of other files, so it is simply made again
    count = cache.num_episodes
    fits = (
        cache.tokenizer_hash == tokenizer_hash
        and count <= len(store.episodes)
        and cache.content_id == store.content_id_of(count)
        and len(cache.tokens) == store.steps.offsets[count]
    )
    return cache if fits else None


def _encode(
    tokenizer: FrameTokenizer, frames: np.ndarray, task_id: np.ndarray, device: str | torch.device, path: Path
) -> np.ndarray:
    """Tokens of B frames as little-endian uint16 [B, K]."""
    with torch.inference_mode():
        encoded = tokenizer.encode(torch.from_numpy(frames).to(device), torch.from_numpy(task_id).to(device))
    tokens = encoded.cpu().numpy()
    if tokens.min() < 0 or tokens.max() > np.iinfo(np.uint16).max:
        raise UserError(
            f"{path} was not written: token {tokens.max()} does not fit 16 bits; "
            "use a tokenizer with a vocabulary of at most 65536"
        )
    return tokens.astype("<u2")


def _frame_batches(
    store: EpisodeStore, first_episode: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames uint8 [B, 84, 84] and task ids int64 [B] of all steps from `first_episode` on, in order."""
    frames: list[np.ndarray] = []
    task_ids: list[np.ndarray] = []
    room = batch_size
    for info in store.episodes[first_episode:]:
        task_id = find_game(info.game).task_id
        start = 0
        while start < info.length:
            stop = min(start + room, info.length)
            frames.append(store.frames(info.key, start, stop))
            task_ids.append(np.full(stop - start, task_id))
            room -= stop - start
            start = stop
            if room == 0:
                yield np.concatenate(frames), np.concatenate(task_ids)
                frames, task_ids, room = [], [], batch_size
    if frames:
        yield np.concatenate(frames), np.concatenate(task_ids)


def token_cache_header(
    content_id: str, tokenizer_hash: str, num_episodes: int, shape: tuple[int, int]
) -> bytes:
    """What stands before the tokens of a cache.

    Args:
        content_id: of the store.
        tokenizer_hash: of the tokenizer that made the tokens.
        num_episodes: of the store.
        shape: steps N, and tokens K a frame.
    """
    header = {
        "__metadata__": {
            "format": _FORMAT,
            "version": _VERSION,
            "tokenizer": tokenizer_hash,
            "content_id": content_id,
            "episodes": str(num_episodes),
        },
        "tokens": {"dtype": "U16", "shape": shape, "data_offsets": [0, 2 * shape[0] * shape[1]]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the tokens start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def _read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tokens start in the file, and its header; ValueError if there is none."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LARGEST_HEADER:
            raise ValueError("no header")
        return 8 + size, json.loads(file.read(size))
