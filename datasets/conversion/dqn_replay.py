"""DQN-Replay folders as a source: which of their episodes become a store.

Letters: E whole episodes of all checkpoints read, n episodes chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from datasets.conversion.choice import choose_episodes, published_agents, published_choice
from datasets.conversion.dqn_files import LAYOUT, CheckpointPart, Scan, find_checkpoints, scan_checkpoint
from datasets.conversion.plan import Plan
from datasets.conversion.report import Dropped, SourceFile, SourceSummary
from datasets.errors import UserError
from datasets.games import GAMES, find_game

_SCAN_THREADS = 4


@dataclass(frozen=True)
class DqnReplayConfig:
    """DQN-Replay folders into one store a game."""

    root: Path
    """Folder that holds a folder for each game."""
    out: Path
    """Folder to write <Game>.h5 and <Game>.report.json to."""
    games: tuple[str, ...] = ()
    """Games to convert; all in the folder if empty."""
    num_steps: int | None = None
    """Steps to draw of each game, in whole episodes; all of them if not given."""
    agents: tuple[int, ...] = ()
    """Agents to read; all that are there if empty."""
    checkpoints: tuple[int, int] = (1, 50)
    """First and last checkpoint to read."""
    seed: int = 0
    """Seed of the draw."""
    published_semantics: bool = False
    """Draw two agents and then episodes, with replacement, exactly as the published program; the order of the
    games matters, and agents and seed are its own."""
    workers: int = 0
    """Processes at work, each in need of about 0.4 GB and the longest episode; 0 for one a core."""

    def __post_init__(self) -> None:
        if self.num_steps is not None and self.num_steps < 1:
            raise UserError(
                f"num_steps is {self.num_steps}; it must be at least 1, or left out for all steps"
            )
        if self.published_semantics and (self.num_steps is None or self.agents or not self.games):
            raise UserError(
                "published_semantics needs num_steps and the games in the published order, and draws the "
                "agents itself: give --num-steps and --games, and no --agents"
            )
        if self.workers < 0 or self.seed < 0:
            raise UserError(f"workers is {self.workers} and seed is {self.seed}; neither may be below 0")


def plan_dqn_replay(config: DqnReplayConfig, progress: bool = True) -> Iterator[Plan]:
    """Read everything but the frames, and plan one store for each game, one game at a time.

    Raises:
        UserError: an unknown layout or game, a missing file, or an array that is damaged, of another type or
            shape, of another length than the others, or impossible for the game.
    """
    games = _find_games(config)
    drawn = published_agents(len(games)) if config.published_semantics else [config.agents] * len(games)
    for index, (game, agents) in enumerate(zip(games, drawn, strict=True)):
        checkpoints = find_checkpoints(config.root, game, agents, config.checkpoints)
        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            scans = list(
                tqdm(
                    pool.map(scan_checkpoint, checkpoints),
                    total=len(checkpoints),
                    desc=f"{game}: reading episodes",
                    unit="file",
                    disable=None if progress else True,
                )
            )
        yield _plan_game(config, game, index, scans)


def _find_games(config: DqnReplayConfig) -> list[str]:
    """The games to convert, each with a folder of its own."""
    root = config.root
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; expected {LAYOUT}")
    names = {game.name for game in GAMES}
    there = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name in names)
    if not there:
        raise UserError(f"{root} holds no folder named after a game, such as Pong; expected {LAYOUT}")
    games = [find_game(name).name for name in config.games] or there
    for game in games:
        if game not in there:
            raise UserError(f"{root} has no folder {game}; it has {', '.join(there)}; expected {LAYOUT}")
        if games.count(game) > 1:
            raise UserError(f"game {game} is named twice; name each game once")
    return games


def _plan_game(config: DqnReplayConfig, game: str, game_index: int, scans: Sequence[Scan]) -> Plan:
    lengths = np.concatenate([scan.lengths for scan in scans])
    total_steps = sum(scan.num_steps for scan in scans)
    if config.published_semantics and config.num_steps is not None:
        chosen = published_choice(len(lengths), total_steps, config.num_steps, game_index)
    else:
        chosen = choose_episodes(lengths, config.num_steps, (config.seed, find_game(game).task_id))
    scan_of = np.repeat(np.arange(len(scans)), [len(scan.stops) for scan in scans])
    parts: list[CheckpointPart] = []
    place: dict[int, tuple[int, int]] = {}
    files: list[SourceFile] = []
    first = 0
    for index, scan in enumerate(scans):
        kept = np.unique(chosen[scan_of[chosen] == index])
        stops = scan.stops[kept - first]
        starts = stops - lengths[kept]
        if len(kept):
            place |= {episode: (len(parts), spot) for spot, episode in enumerate(kept.tolist())}
            spans = tuple(zip(starts.tolist(), stops.tolist(), strict=True))
            parts.append(CheckpointPart(scan.checkpoint, spans))
        kept_steps = int(lengths[kept].sum())
        files.append(SourceFile(scan.checkpoint.name, scan.num_steps, len(scan.stops), len(kept), kept_steps))
        first += len(scan.stops)
    order = [place[episode] for episode in chosen.tolist()]
    return Plan(game, parts, order, _summarise(config, scans, lengths, chosen, files))


def _summarise(
    config: DqnReplayConfig,
    scans: Sequence[Scan],
    lengths: Int[np.ndarray, "E"],
    chosen: Int[np.ndarray, "n"],
    files: Sequence[SourceFile],
) -> SourceSummary:
    total_steps = sum(scan.num_steps for scan in scans)
    kept = np.unique(chosen)
    tails = [scan.num_steps - int(scan.stops[-1]) for scan in scans]
    dropped = [
        Dropped("unfinished at the end of its checkpoint", sum(tail > 0 for tail in tails), sum(tails)),
        Dropped("not drawn", len(lengths) - len(kept), int(lengths.sum() - lengths[kept].sum())),
    ]
    notes = []
    if len(kept) < len(chosen):
        notes.append(
            f"{len(chosen) - len(kept)} of {len(chosen)} draws came upon an episode drawn before: it is in "
            "the store again"
        )
    if config.num_steps is not None and lengths.sum() < config.num_steps:
        notes.append(f"{config.num_steps} steps were asked for, more than there are in whole episodes")
    agents = ", ".join(map(str, sorted({scan.checkpoint.agent for scan in scans})))
    if config.published_semantics:
        how = f"about {config.num_steps} steps drawn with replacement, as published"
    elif config.num_steps is not None:
        how = f"{config.num_steps} steps drawn without replacement, seed {config.seed}"
    else:
        how = "all of them"
    return SourceSummary(
        source=str(config.root),
        sampling=f"agents {agents}, {how}",
        total_episodes=len(lengths),
        total_steps=total_steps,
        files=tuple(files),
        dropped=tuple(drop for drop in dropped if drop.episodes),
        notes=tuple(notes),
    )
