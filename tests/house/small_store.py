"""A store of short made-up episodes: noise on a game's screen, for tests that need no emulator."""

from pathlib import Path

import numpy as np

from datasets.games import find_game
from datasets.segments import Episode
from datasets.store import EpisodeWriter


def write_small_store(path: Path, games: tuple[str, ...] = ("Pong", "Breakout"), lengths=(30, 17, 9)) -> Path:
    """Write one episode of each length for each game; the last step of each is terminal."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(path) as writer:
        for name in games:
            game = find_game(name)
            for seed, length in enumerate(lengths):
                ends = np.zeros(length, np.uint8)
                ends[-1] = 1
                writer.add(
                    Episode(
                        frames=rng.integers(0, 256, (length, 84, 84), dtype=np.uint8),
                        actions=rng.choice(game.legal_actions, length).astype(np.uint8),
                        rewards=rng.integers(-1, 2, length).astype(np.float32),
                        ends=ends,
                        game=name,
                        behaviour="noise",
                        seed=seed,
                    )
                )
    return path
