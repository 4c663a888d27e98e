"""The files of DQN-Replay: found, checked and read.

Letters: N steps of a checkpoint, E whole episodes of it.

Layout: `{root}/{Game}/{agent}/replay_logs/$store$_{array}_ckpt.{number}.gz`, for each agent 1 to 5 and each
checkpoint 1 to 50 four arrays, each the gzip of one `.npy` file: observation uint8 [N, 84, 84], action int32
[N] (indices of the game's own legal actions), reward float32 [N] (clipped to -1 to 1), terminal uint8 [N].
Episodes follow one another; the last one of a checkpoint is usually unfinished. A checkpoint's first episode
may have begun in the checkpoint before; like the published program we take it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from datasets.conversion.choice import NUM_AGENTS
from datasets.conversion.npy_stream import GzippedArray, read_array
from datasets.conversion.plan import UNKNOWN_SEED, check_length, file_identity, full_actions
from datasets.errors import UserError
from datasets.segments import Episode

ARRAYS = {"observation": "uint8", "action": "int32", "reward": "float32", "terminal": "uint8"}
"""The four arrays of a checkpoint and their types."""
LAYOUT = "<root>/<Game>/<agent>/replay_logs/$store$_{observation,action,reward,terminal}_ckpt.<number>.gz"
"""Where the files are, for messages."""

_FILE = re.compile(rf"\$store\$_(?:{'|'.join(ARRAYS)})_ckpt\.(\d+)\.gz")


@dataclass(frozen=True)
class Checkpoint:
    """The four files of one checkpoint."""

    game: str
    """The game, in the published spelling."""
    agent: int
    """1 to 5."""
    number: int
    """1 to 50."""
    folder: Path
    """Where the files are."""

    def path(self, array: str) -> Path:
        """The file of one of the four arrays."""
        return self.folder / f"$store$_{array}_ckpt.{self.number}.gz"

    @property
    def name(self) -> str:
        """Agent and checkpoint, for people."""
        return f"{self.game}/{self.agent}/checkpoint {self.number}"

    @property
    def identity(self) -> str:
        """Tells one version of the four files from another."""
        return " ".join([self.game, *(file_identity(self.path(array)) for array in ARRAYS)])


@dataclass(frozen=True, eq=False)
class Scan:
    """What a checkpoint holds, known without its frames."""

    checkpoint: Checkpoint
    """Its files."""
    num_steps: int
    """N."""
    stops: Int[np.ndarray, "E"]
    """One past the last step of each whole episode; each starts where the one before stops."""

    @property
    def lengths(self) -> Int[np.ndarray, "E"]:
        """Steps of each whole episode."""
        return np.diff(self.stops, prepend=0)


@dataclass(frozen=True)
class CheckpointPart:
    """Some whole episodes of one checkpoint, as a part of a plan."""

    checkpoint: Checkpoint
    """The files."""
    spans: tuple[tuple[int, int], ...]
    """First step and one past the last step of each episode, in ascending order."""

    @property
    def identity(self) -> str:
        """Files and episodes."""
        return f"DQN-Replay {self.checkpoint.identity} {self.spans}"

    @property
    def num_steps(self) -> int:
        """Steps of its episodes."""
        return sum(stop - start for start, stop in self.spans)

    def episodes(self) -> Iterator[Episode]:
        """Read the episodes; the frames are streamed, and the whole file's checksum is verified."""
        files = self.checkpoint
        actions = full_actions(
            read_array(files.path("action"), "int32"), files.game, f"{files.path('action')}, action"
        )
        rewards = read_array(files.path("reward"), "float32")
        with GzippedArray(files.path("observation"), "uint8", (84, 84)) as frames:
            position = 0
            for start, stop in self.spans:
                frames.skip(start - position)
                ends = np.zeros(stop - start, dtype=np.uint8)
                ends[-1] = 1
                yield Episode(
                    frames.read(stop - start),
                    actions[start:stop],
                    rewards[start:stop],
                    ends,
                    game=files.game,
                    behaviour=f"DQN-Replay agent {files.agent}, checkpoint {files.number}",
                    seed=UNKNOWN_SEED,
                    emulator="Arcade Learning Environment, rewards clipped to -1 to 1 by DQN-Replay",
                    preprocessing="84x84 gray, INTER_AREA, maximum of the last 2 of 4 frames, "
                    "sticky actions 0.25",
                )
                position = stop
            frames.finish()


def find_checkpoints(
    root: Path, game: str, agents: Sequence[int], numbers: tuple[int, int]
) -> list[Checkpoint]:
    """The checkpoints of a game, by agent and number.

    Args:
        root: folder that holds a folder for each game.
        game: the game, in the published spelling.
        agents: the agents to read; all that are there if empty.
        numbers: first and last checkpoint to read.

    Raises:
        UserError: an agent is not there, there are no checkpoints, or one of the four files is missing.
    """
    entries = (entry for entry in (root / game).iterdir() if entry.is_dir() and entry.name.isdecimal())
    there = {int(entry.name): entry for entry in entries}
    missing = sorted(set(agents) - set(there))
    if missing:
        raise UserError(
            f"{root / game} has no folder for agent {missing[0]} of {NUM_AGENTS}; it has "
            f"{', '.join(map(str, sorted(there))) or 'none'}; download it or choose other agents"
        )
    found: list[Checkpoint] = []
    for agent in sorted(agents or there):
        folder = there[agent] / "replay_logs"
        names = (_FILE.fullmatch(entry.name) for entry in folder.glob("*.gz"))
        present = sorted({int(name[1]) for name in names if name})
        found += [
            Checkpoint(game, agent, number, folder)
            for number in present
            if numbers[0] <= number <= numbers[1]
        ]
    if not found:
        raise UserError(
            f"{root / game} holds no checkpoint from {numbers[0]} to {numbers[1]}; expected {LAYOUT}"
        )
    for checkpoint in found:
        for array in ARRAYS:
            if not checkpoint.path(array).exists():
                raise UserError(
                    f"{checkpoint.path(array)} is missing, while other arrays of the same checkpoint are "
                    "there; download it"
                )
    return found


def scan_checkpoint(checkpoint: Checkpoint) -> Scan:
    """Check everything but the frames of a checkpoint, and find its whole episodes.

    Raises:
        UserError: naming the file, the field and the remedy.
    """
    small = {name: read_array(checkpoint.path(name), dtype) for name, dtype in list(ARRAYS.items())[1:]}
    with GzippedArray(checkpoint.path("observation"), "uint8", (84, 84)) as frames:
        num_steps = len(frames)
    for name, array in small.items():
        if len(array) != num_steps:
            raise UserError(
                f"{checkpoint.path(name)}, {name}: holds {len(array)} steps, but the observations of "
                f"the same checkpoint hold {num_steps}; download both again"
            )
    reward, terminal = small["reward"], small["terminal"]
    full_actions(small["action"], checkpoint.game, f"{checkpoint.path('action')}, action")
    if not np.isfinite(reward).all():
        step = int(np.flatnonzero(~np.isfinite(reward))[0])
        raise UserError(
            f"{checkpoint.path('reward')}, reward: step {step} is {reward[step]}, not a finite number; "
            "download it again"
        )
    if (terminal > 1).any():
        step = int(np.flatnonzero(terminal > 1)[0])
        raise UserError(
            f"{checkpoint.path('terminal')}, terminal: step {step} is {terminal[step]}, neither 0 nor 1; "
            "download it again"
        )
    stops = np.flatnonzero(terminal) + 1
    if not len(stops):
        raise UserError(
            f"{checkpoint.path('terminal')}, terminal: none of the {num_steps} steps ends an episode, so no "
            "episode is whole; download it again or leave this checkpoint out"
        )
    scan = Scan(checkpoint, num_steps, stops)
    check_length(int(scan.lengths.max()), f"{checkpoint.path('terminal')}, terminal")
    return scan
