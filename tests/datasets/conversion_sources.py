"""Small folders in the formats of other programs, and the changes that break them."""

import gzip
from pathlib import Path

import h5py
import numpy as np

from datasets.games import find_game

DTYPES = {"observation": "uint8", "action": "int32", "reward": "float32", "terminal": "uint8"}


def dqn_path(root, game="Pong", agent=1, number=1, array="observation"):
    return Path(root) / game / str(agent) / "replay_logs" / f"$store$_{array}_ckpt.{number}.gz"


def save_gzipped(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") as file:
        np.save(file, array, **options)


def load_gzipped(path):
    with gzip.open(path, "rb") as file:
        return np.load(file, allow_pickle=False)


def write_checkpoint(root, ends, num_steps, game="Pong", agent=1, number=1):
    """A checkpoint whose episodes end on the given steps; returns its four arrays."""
    generator = np.random.default_rng((find_game(game).task_id, agent, number))
    terminal = np.zeros(num_steps, dtype=np.uint8)
    terminal[list(ends)] = 1
    arrays = {
        "observation": generator.integers(0, 256, (num_steps, 84, 84), dtype=np.uint8),
        "action": generator.integers(0, len(find_game(game).legal_actions), num_steps).astype(np.int32),
        "reward": generator.integers(-1, 2, num_steps).astype(np.float32),
        "terminal": terminal,
    }
    for name, array in arrays.items():
        save_gzipped(dqn_path(root, game, agent, number, name), array)
    return arrays


def write_trajectories(root, lengths, game="Pong", tokens=None):
    """Published trajectories with frames, or with tokens below `tokens`; returns the path."""
    generator = np.random.default_rng(len(lengths))
    folder = "data" if tokens is None else "token_data"
    path = Path(root) / "trajectory" / folder / f"{game}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, length in enumerate(lengths):
            group = file.create_group(str(number))
            if tokens is None:
                observations = generator.integers(0, 256, (length, 84, 84), dtype=np.uint8)
            else:
                observations = generator.integers(0, tokens, (length, 36))
            terminals = np.zeros(length, dtype=np.uint8)
            terminals[-1] = 1
            legal = len(find_game(game).legal_actions)
            group["observations"] = observations
            group["actions"] = generator.integers(0, legal, length).astype(np.int32)
            group["rewards"] = generator.normal(size=length).astype(np.float32)
            group["terminals"] = terminals
    return path
