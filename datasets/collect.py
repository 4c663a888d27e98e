"""Collect episodes of an Atari game, played by scripts, by chance or by looking ahead.

    python -m datasets.collect --game Pong --behaviour tracker:0.6,random:0.4 --steps 50000 --out pong.h5

The file is a function of the options but for --workers. Ctrl-C keeps the episodes that are complete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro
from jaxtyping import Float
from scipy.special import stdtrit
from tqdm import tqdm

from datasets.atari import EMULATOR
from datasets.behaviour_mixtures import Mixture, describe_kinds, parse_mixture
from datasets.errors import UserError, run_command
from datasets.executor import Tally, find_executor
from datasets.games import find_game
from datasets.playing import InterruptLatch, PlayedEpisode, PlaySettings, play_in_order

# Every worker process loads this module again, and stores load PyTorch, which no worker needs: it takes
# longer than all the rest and some 200 MB a process. So they are loaded where they are used.
if TYPE_CHECKING:
    from datasets.segments import Episode
    from datasets.store import EpisodeWriter

_MIXTURES = """

--behaviour is NAME[=VALUE][@EPSILON][:WEIGHT],... such as tracker:0.6,random:0.2,tracker@0.3:0.2. Each
episode is played by one of the named behaviours, dealt out by WEIGHT (default 1). EPSILON (default 0) is
the share of decisions that are random instead. VALUE and EPSILON may be a range such as 0.1..0.5, from
which each episode draws its own. The names are:

"""


@dataclass(frozen=True)
class CollectConfig:
    """What to collect and where to put it."""

    game: str
    """Game to play, such as Pong."""
    out: Path
    """HDF5 file to write."""
    steps: int
    """Decisions to collect; the last episode is played to its end, so there may be more."""
    behaviour: str = "random"
    """Who plays: a behaviour or a mixture of them, see above."""
    seed: int = 0
    """Seed of everything; the same seed gives the same file."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that play; the file does not depend on it."""
    ray: str | None = None
    """Have that many workers of a Ray cluster play instead: `auto`, or the cluster's address."""
    max_episode_decisions: int = 27_000
    """Decisions after which an episode is cut short; 27,000 are 108,000 emulator frames."""
    max_noops: int = 30
    """An episode starts after 1 to this many frames without action, drawn at random; 0 for none."""
    sticky: float = 0.0
    """Probability that an emulator frame repeats the last action; Machado et al. (2018) use 0.25."""
    append: bool = False
    """Add to the file if it exists; its episodes count, so the same seed goes on with new ones."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("workers", 1), ("max_episode_decisions", 1), ("max_noops", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; it must be at least 0")
        if not 0.0 <= self.sticky < 1.0:
            raise UserError(f"sticky is {self.sticky}; it must be at least 0 and below 1")


@dataclass(frozen=True)
class _Line:
    """One episode as the closing table needs it."""

    behaviour: str
    length: int
    total_reward: float


def collect(config: CollectConfig) -> None:
    """Play, write the store, and print a table of what was played.

    Raises:
        UserError: unknown game or behaviour, a file that is there already or cannot be extended, or a full
            disk; every existing file is left as it was.
        KeyboardInterrupt: passed on after the complete episodes are kept.
    """
    from datasets.store import EpisodeWriter

    game = find_game(config.game)
    mixture = parse_mixture(config.behaviour, game)
    if config.out.exists() and not config.append:
        raise UserError(f"{config.out} exists already; give another --out, or --append to add to it")
    settings = PlaySettings(
        game=game.name,
        behaviour=config.behaviour,
        seed=config.seed,
        sticky_action_probability=config.sticky,
        max_noops=config.max_noops,
        max_decisions=config.max_episode_decisions,
    )
    lines: list[_Line] = []
    started = time.perf_counter()
    try:
        with EpisodeWriter(config.out, config.append, keep_on_interrupt=True) as writer:
            _write_episodes(writer, settings, mixture, config, lines)
    except KeyboardInterrupt:
        if lines:
            print(f"\nkept in {config.out}:\n{summarise(lines, mixture, time.perf_counter() - started)}")
        raise
    print(f"written to {config.out}:\n{summarise(lines, mixture, time.perf_counter() - started)}")


def _write_episodes(
    writer: EpisodeWriter,
    settings: PlaySettings,
    mixture: Mixture,
    config: CollectConfig,
    lines: list[_Line],
) -> None:
    interrupts = InterruptLatch()
    bar = tqdm(total=config.steps, desc=f"collect {settings.game}", unit=" steps", mininterval=1.0)

    def show(played: Tally) -> None:
        bar.update(min(played.decisions, config.steps) - bar.n)
        if interrupts.is_set:
            raise KeyboardInterrupt

    executor = find_executor(config.workers, config.ray)
    episodes = play_in_order(settings, executor, first=writer.num_episodes, steps=config.steps, show=show)
    with interrupts, bar, closing(episodes):
        for played in episodes:
            writer.add(to_episode(played, settings.game))
            name = mixture.item_of(settings.seed, played.index).text
            lines.append(_Line(name, len(played.actions), float(played.rewards.sum(dtype=np.float64))))


def to_episode(played: PlayedEpisode, game: str) -> Episode:
    """The episode as stores hold it."""
    from datasets.segments import Episode

    ends = np.zeros(len(played.actions), dtype=np.uint8)
    ends[-1] = played.ended
    return Episode(
        frames=played.frames,
        actions=played.actions,
        rewards=played.rewards,
        ends=ends,
        lives=played.lives,
        game=game,
        behaviour=played.behaviour,
        seed=played.seed,
        emulator=EMULATOR,
        preprocessing=played.preprocessing,
    )


def summarise(lines: Sequence[_Line], mixture: Mixture, seconds: float) -> str:
    """A table of episodes, steps and returns, for each behaviour and for all."""
    total = sum(line.length for line in lines)
    rows = [("behaviour", "episodes", "steps", "share of steps", "mean return", "best")]
    names = list(dict.fromkeys(item.text for item in mixture.items))
    for name in [*names, "all"] if len(names) > 1 else names:
        chosen = [line for line in lines if name in (line.behaviour, "all")]
        length = sum(line.length for line in chosen)
        returns = np.array([line.total_reward for line in chosen], dtype=np.float64)
        best = f"{returns.max():g}" if chosen else "-"
        row = (
            name,
            str(len(chosen)),
            str(length),
            f"{length / total:.0%}",
            mean_with_interval(returns),
            best,
        )
        rows.append(row)
    name_width, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    table = "\n".join(
        "  ".join(
            [name.ljust(name_width), *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))]
        )
        for name, *cells in rows
    )
    return f"{table}\n{total} steps in {seconds:.1f} s: {total / seconds:.0f} steps/s"


def mean_with_interval(returns: Float[np.ndarray, " E"]) -> str:
    """Mean of E returns with its 95% interval by Student's t, or without one if there is but one return."""
    if not len(returns):
        return "-"
    if len(returns) == 1:
        return f"{returns[0]:.1f}"
    error = returns.std(ddof=1) / len(returns) ** 0.5 * stdtrit(len(returns) - 1, 0.975)
    return f"{returns.mean():.1f} +- {error:.1f}"


def main() -> None:
    """Read the command line and collect."""
    description = f"{__doc__}{_MIXTURES}{describe_kinds()}"
    collect(tyro.cli(CollectConfig, prog="python -m datasets.collect", description=description))


if __name__ == "__main__":
    run_command(main)
