"""Methods of a game under equal time on the same instances; what the three games share.

A method makes a plan of an instance, or none. Each plan is validated before it counts, and results are kept
in a file after each cell (`game_tables`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from agents.solving.race import race
from agents.solving.task import Task
from benchmarks.game_tables import Results

FOLDER = Path(__file__).parent
Work = Literal["compare", "ablation", "episodes", "speed"]


@dataclass(frozen=True)
class GameConfig:
    """What is measured of a game, and how long."""

    task: Work = "compare"
    """Compare all methods; compare variants of the game's own search; play random games, each validated;
    count steps a second."""
    folder: Path = FOLDER.parent.parent / "shared" / "games"
    """Where instances lie: programs as *.json, packings as packing/NAME.CAPACITY.csv."""
    instances: tuple[str, ...] = ()
    """Names of instances; all by default."""
    methods: tuple[str, ...] = ()
    """Names of methods, as in the table; all by default."""
    seconds: float = 60.0
    """Time of each method that searches, on each instance."""
    workers: int = 2
    """Threads or processes of each method that uses several."""
    episodes: int = 10_000
    """Random games."""
    seed: int = 0
    """Of searches and random games."""
    plans: Path | None = None
    """Folder for every plan of memory mapping, in the exchange format."""
    out: Path | None = None
    """Where results are kept, by default a JSON file here; the plot lies beside it."""

    def results(self, game: str) -> Results:
        """The file's rows of this task and time."""
        return Results(self.out or FOLDER / f"{game}.json", f"{self.task} {self.seconds:g} s")

    def plot(self, game: str) -> Path:
        """Where the plot goes."""
        suffix = "" if self.task == "compare" else f"_{self.task}"
        return (self.out or FOLDER / game).parent / f"{game}{suffix}.png"

    @property
    def title(self) -> str:
        """How plans were made."""
        return f"{self.seconds:g} s an instance, {self.workers} threads"


class Instance(Protocol):
    """What is measured on."""

    @property
    def name(self) -> str:
        """Of the instance."""
        ...


def compare(
    config: GameConfig,
    results: Results,
    instances: Sequence[Any],
    methods: Mapping[str, Callable[[Any, GameConfig], Any]],
    cell: Callable[[Any, Any, float], Any],
) -> None:
    """Run what is not in the results yet.

    Args:
        config: passed on to the methods.
        results: filled in.
        instances: to make plans of.
        methods: make a plan of an instance, or None.
        cell: validates a plan and says what is kept of it; its seconds are the third argument.
    """
    for instance in instances:
        row = results.row(instance.name)
        for name, method in methods.items():
            if name not in row:
                started = time.perf_counter()
                plan = method(instance, config)
                row[name] = cell(instance, plan, round(time.perf_counter() - started, 2))
                results.save()
        print(f"{instance.name}: {', '.join(f'{name} {row[name]}' for name in methods)}", flush=True)


class PlaysAlone(Task, Protocol):
    """A task whose network can play without the game's own search."""

    def play_alone(self, seed: int, seconds: float, found: Callable[[Any], None]) -> None:
        """Games of the network and nothing else; each plan is handed over."""
        ...


def agent_alone(task: PlaysAlone, config: GameConfig) -> Any:
    """The best plan of the network's own games, in one process; None if no game ended in time."""
    plans: list[Any] = []
    task.play_alone(config.seed, config.seconds, plans.append)
    return min(plans, key=task.objective, default=None)


def solved(task: Task, config: GameConfig) -> Any:
    """The plan of `agents.solve` without `--at-least`, `workers` searches side by side."""
    found = race(
        task, seconds=config.seconds, starts=config.workers, seed=config.seed, improved=lambda _: None
    )
    return found[-1].plan if found else None
