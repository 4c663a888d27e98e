"""A small store out of larger ones, for learning from little."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.segments import Episode
from datasets.store import EpisodeStore, EpisodeWriter


def write_first(stores: Sequence[EpisodeStore], games: Sequence[str], transitions: int, path: Path) -> None:
    """Copy the first transitions of each game into a store of its own.

    Episodes come in the order of the stores; the one with which a game is full is cut short there, and so
    has no end. A game with fewer transitions is copied whole.

    Args:
        stores: what to copy from.
        games: names of the games to copy.
        transitions: most steps of each game, at least 1.
        path: the store to write; one that exists is replaced.

    Raises:
        UserError: a store is damaged, or the disk is full; what was at `path` stays.
    """
    room = dict.fromkeys(games, transitions)
    with EpisodeWriter(path) as writer:
        for store in stores:
            for info in store.episodes:
                length = min(info.length, room.get(info.game, 0))
                if not length:
                    continue
                room[info.game] -= length
                writer.add(
                    Episode(
                        frames=store.frames(info.key, 0, length),
                        actions=store.actions(info.key)[:length],
                        rewards=store.rewards(info.key)[:length],
                        ends=store.ends(info.key)[:length],
                        lives=None if (lives := store.lives(info.key)) is None else lives[:length],
                        game=info.game,
                        behaviour=info.behaviour,
                        seed=info.seed,
                    )
                )
