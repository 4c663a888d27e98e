"""Solving a job shop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.games.jobshop.drawing import draw_schedule
from agents.games.jobshop.heuristics import Rule, play_rule
from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.search import JobShopSearchConfig, solve
from agents.games.jobshop.solution import Schedule, reversed_schedule, schedule_of, write_schedule
from agents.games.jobshop.validator import violations
from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.job_shop import JobShopSearchGame, random_shops
from agents.search_agent.self_play import Episode, PlayConfig
from agents.solving.playing import play_until
from agents.solving.task import Baseline

PLAY = PlayConfig(num_simulations=16)
PLAYING_SHARE = 0.15
"""Share of the time in which the network plays; the rest is search along the schedules at hand."""


@dataclass(frozen=True)
class JobShopTask:
    """`task.Task` of one shop."""

    instance: JobShopInstance
    """The shop."""
    checkpoint: Path
    """Network of the search agent."""
    play: PlayConfig = PLAY
    """How its moves are chosen."""

    objective_name = "makespan"

    @property
    def name(self) -> str:
        """Of the shop."""
        return self.instance.name

    @property
    def bound(self) -> float:
        """The best bound known of the makespan."""
        return float(max(self.instance.lower_bound, self.instance.proven_bound or 0))

    def baselines(self) -> Sequence[Baseline]:
        """Every dispatching rule."""
        return [
            Baseline(rule.name, schedule_of(self.instance, play_rule(self.instance, rule).jobs))
            for rule in Rule
        ]

    def small(self) -> JobShopTask:
        """A random shop."""
        return replace(self, instance=random_shops(1, seed=0)[0])

    def search(self, seed: int, seconds: float, found: Callable[[Schedule], None]) -> None:
        """Play with the network, forwards and backwards in turns; then beams along good schedules."""
        started = time.perf_counter()
        self.play_alone(seed, PLAYING_SHARE * seconds, found)
        config = JobShopSearchConfig(workers=1, seed=seed)
        left = started + seconds - time.perf_counter()
        solve(self.instance, left, config=config, on_improvement=found)

    def play_alone(self, seed: int, seconds: float, found: Callable[[Schedule], None]) -> None:
        """What was learned alone: games of the network, the first part of `search`."""
        deadline = time.perf_counter() + seconds
        network = load_search_checkpoint(self.checkpoint).network
        shops = (self.instance, self.instance.reversed())

        def ended(place: int, episode: Episode) -> None:
            schedule = schedule_of(shops[place], episode.actions)
            found(reversed_schedule(self.instance, schedule) if place else schedule)

        games = [JobShopSearchGame(shop) for shop in shops]
        play_until(deadline, games, network, self.play, seed=seed, found=ended)

    def objective(self, plan: Schedule) -> float:
        """The makespan."""
        return float(plan.makespan)

    def violations(self, plan: Schedule) -> Sequence[str]:
        """By the validator, which shares no code with the rules."""
        return [str(violation) for violation in violations(self.instance, plan.starts, plan.makespan)]

    def write(self, plan: Schedule, path: Path) -> None:
        """As JSON."""
        write_schedule(plan, path)

    def draw(self, plan: Schedule, path: Path) -> Sequence[Path]:
        """A Gantt chart."""
        picture = path.with_suffix(".png")
        draw_schedule(self.instance, plan, picture)
        return [picture]
