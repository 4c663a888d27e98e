"""Small episodes whose every frame can be recognised."""

from types import SimpleNamespace

import numpy as np
import torch

from datasets.games import find_game
from datasets.segments import Episode
from datasets.store import EpisodeStore, EpisodeWriter


def make_episode(length, game="Pong", seed=0, ended=True, **changes):
    """An episode of random legal play; pixel [0, 0:3] of a frame spells its step and seed."""
    generator = np.random.default_rng((seed, length))
    frames = np.full((length, 84, 84), 87, dtype=np.uint8)
    frames[:, 40, 40] = generator.integers(0, 256, length)
    frames[:, 0, 0] = np.arange(length) % 256
    frames[:, 0, 1] = np.arange(length) // 256
    frames[:, 0, 2] = seed % 256
    ends = np.zeros(length, dtype=np.uint8)
    ends[-1] = ended
    legal = find_game(game).legal_actions
    arrays = {
        "frames": frames,
        "actions": generator.choice(legal, length).astype(np.uint8),
        "rewards": generator.integers(-3, 4, length).astype(np.float32),
        "ends": ends,
    }
    return Episode(**{**arrays, "game": game, "behaviour": "random", "seed": seed, **changes})


def write_store(path, episodes, **options):
    with EpisodeWriter(path, **options) as writer:
        for episode in episodes:
            writer.add(episode)
    return EpisodeStore(path)


class FakeTokenizer:
    """Tokens are some of the frame's pixels plus the game; counts the frames that it has seen."""

    def __init__(self, name="a", tokens_per_frame=4, offset=0):
        self.config = SimpleNamespace(tokens_per_frame=tokens_per_frame)
        self.name, self.offset, self.frames_seen, self.batch_sizes = name, offset, 0, []

    def encode(self, frames, task_id):
        assert frames.dtype == torch.uint8
        assert frames.shape[1:] == (84, 84)
        self.frames_seen += len(frames)
        self.batch_sizes.append(len(frames))
        return frames[:, 0, : self.config.tokens_per_frame].long() + 1000 * task_id[:, None] + self.offset

    def content_hash(self):
        return self.name * 64

    def expected(self, episodes):
        rows = [
            e.frames[:, 0, : self.config.tokens_per_frame].astype(np.int64) + 1000 * find_game(e.game).task_id
            for e in episodes
        ]
        return np.concatenate(rows)
