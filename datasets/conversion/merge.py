"""Several stores into one, without unpacking a frame."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import h5py

from datasets.files import replace_file
from datasets.hdf5 import discard_writes, group_of, require_space, told_write_errors
from datasets.store import EpisodeInfo, EpisodeStore
from datasets.store_format import FORMAT, VERSION, open_file, told_read_errors, write_index


def merge_stores(parts: Sequence[Path], order: Sequence[tuple[int, int]], path: Path) -> None:
    """Write the store that holds the given episodes of other stores, in the given order.

    The compressed chunks are copied as they are. The store is written beside `path` and renamed in place.

    Args:
        parts: the stores to take episodes from.
        order: for each episode of the new store, the index of a part and the episode's place in it.
        path: the store to write; one that exists is replaced.

    Raises:
        UserError: a part cannot be read, or the disk is full; `path` is left as it was.
    """
    stores = [EpisodeStore(part) for part in parts]
    with ExitStack() as stack:
        partial = stack.enter_context(replace_file(path))
        stack.enter_context(told_write_errors())
        file = stack.enter_context(h5py.File(partial, "w", locking=False))
        try:
            _copy_episodes(stores, order, file, path)
        except BaseException:
            discard_writes(file)
            raise


def _copy_episodes(
    stores: Sequence[EpisodeStore], order: Sequence[tuple[int, int]], file: h5py.File, path: Path
) -> None:
    file.attrs.update({"format": FORMAT, "version": VERSION, "complete": False})
    groups = file.require_group("episodes")
    infos: list[EpisodeInfo] = []
    with ExitStack() as opened:
        sources: dict[int, h5py.File] = {}
        for number, (part, place) in enumerate(order):
            info = stores[part].episodes[place]
            if part not in sources:
                opened.close()
                with told_read_errors(stores[part].path):
                    sources = {part: opened.enter_context(open_file(stores[part].path))}
            key = f"{number:06d}"
            require_space(path.parent, 84 * 84 * info.length)
            sources[part].copy(group_of(sources[part], f"episodes/{info.key}"), groups, name=key)
            infos.append(replace(info, key=key))
    require_space(path.parent, 0)
    write_index(file, infos)
