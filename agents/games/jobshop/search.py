"""Search for schedules: beam searches that follow the schedule at hand, one after another.

Letters: J jobs, K operations of the longest job.

The first beams are closed by rollouts of dispatching rules, or guided by a planning model's values. From
then on rollouts take operations in the order in which a schedule at hand starts them, with noise: each
search tries, at every decision of that schedule, what else could be done there and goes on as before. What
it finds becomes the schedule at hand if it is not much worse. Searches take turns between the shop and the
reversed shop, where early decisions are the late ones of the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from agents.games.guides import Guide
from agents.games.jobshop.beam import beam_play
from agents.games.jobshop.heuristics import Play, Rule, best_of_rules, remaining_work
from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.planning import JobShopModel
from agents.games.jobshop.rules import JobShopRules
from agents.games.jobshop.solution import Schedule, reversed_schedule, schedule_of
from planning import beam_search, best_path


@dataclass(frozen=True)
class JobShopSearchConfig:
    """How schedules are searched for."""

    workers: int = 2
    """Threads; each goes its own way."""
    seed: int = 0
    """Search k of a worker draws the same numbers for the same seed."""
    first_width: int = 10
    """Beam width of the first searches, which follow rules or a guide."""
    width: int = 1
    """Beam width of the searches that follow a schedule."""
    noise: float = 0.25
    """Standard deviation of the noise on start times, in mean durations of an operation."""
    tolerance: float = 0.003
    """How much longer than the schedule at hand a new one may be: on average by this share, exponentially
    distributed. 0 lets only equal and shorter ones follow."""


@dataclass(frozen=True)
class JobShopSearchResult:
    """What a search found."""

    schedule: Schedule
    """The shortest schedule."""
    searches: int
    """Beam searches that ended."""
    progress: tuple[tuple[float, int], ...]
    """Seconds and makespan of each improvement."""


def solve(
    instance: JobShopInstance,
    seconds: float,
    guide: Guide | None = None,
    config: JobShopSearchConfig | None = None,
    on_improvement: Callable[[Schedule], None] | None = None,
) -> JobShopSearchResult:
    """Make the makespan as small as time allows; never worse than the best of all dispatching rules.

    Args:
        instance: the shop.
        seconds: wall-clock limit; the search ends before if it meets the lower bound.
        guide: of the planning model in which a first beam search looks for a schedule to follow; by default
            the first searches are closed by rollouts of dispatching rules.
        config: settings.
        on_improvement: told of each schedule that is shorter than all before, from a worker's thread.
    """
    config = config or JobShopSearchConfig()
    search = _Search(instance, config, on_improvement)
    search.offer(schedule_of(instance, best_of_rules(instance).jobs))
    timer = threading.Timer(seconds, search.stop)
    timer.daemon = True
    timer.start()
    try:
        if guide is not None:
            search.offer(schedule_of(instance, _guided_play(instance, guide, config.first_width)))
        with ThreadPoolExecutor(config.workers) as pool:
            try:
                list(pool.map(search.run, range(config.workers)))
            finally:
                search.stop()
    finally:
        timer.cancel()
    return JobShopSearchResult(search.best, search.searches, tuple(search.progress))


def _guided_play(instance: JobShopInstance, guide: Guide, width: int) -> np.ndarray:
    """Jobs of the best path of a beam search in the planning model."""
    model = JobShopModel(instance, guide, look_ahead=True)
    start = model.rules.start()[None]
    result = beam_search(model, start, beam_width=width, horizon=instance.total_operations)
    return best_path(result, 0)[0]


class _Search:
    """Workers that walk from schedule to schedule, and the best that any has found."""

    best: Schedule

    def __init__(
        self,
        instance: JobShopInstance,
        config: JobShopSearchConfig,
        on_improvement: Callable[[Schedule], None] | None,
    ) -> None:
        self._config, self._on_improvement = config, on_improvement
        self._shops = (JobShopRules(instance), JobShopRules(instance.reversed()))
        self._mean = float(instance.duration.sum() / instance.total_operations)
        self._started = time.perf_counter()
        self._lock = threading.Lock()
        self._stop = np.zeros(1, dtype=np.int64)
        self.progress: list[tuple[float, int]] = []
        self.searches = 0

    def stop(self) -> None:
        """End all searches."""
        self._stop[0] = 1

    def offer(self, schedule: Schedule) -> None:
        """Keep a schedule if it is the shortest."""
        with self._lock:
            if self.progress and schedule.makespan >= self.best.makespan:
                return
            self.best = schedule
            self.progress.append((time.perf_counter() - self._started, schedule.makespan))
            if self._on_improvement is not None:
                self._on_improvement(schedule)
        if schedule.makespan <= self._shops[0].instance.lower_bound:
            self.stop()

    def run(self, worker: int) -> None:
        """Walk until stopped."""
        at_hand = self._first(worker)
        number = 0
        while self._stop[0] == 0:
            rng = np.random.default_rng((self._config.seed, worker, number))
            backwards = (number + worker) % 2
            priorities = _starts(at_hand, self._shops, backwards)
            noise = self._config.noise * self._mean * rng.standard_normal(priorities.shape)
            found = self._search(backwards, priorities + noise, self._config.width, number)
            slack = self._config.tolerance * self.best.makespan * rng.exponential()
            if found is not None and found.makespan <= at_hand.makespan + slack:
                at_hand = found
            number += 1

    def _first(self, worker: int) -> Schedule:
        """The best of searches by rules, each worker in a direction of its own, and of what is known."""
        backwards = worker % 2
        for rule in (Rule.MWKR, Rule.MOPNR):
            rules = self._shops[backwards]
            self._search(backwards, _rule_priorities(rules, rule), self._config.first_width, worker)
        return self.best

    def _search(self, backwards: int, priorities: np.ndarray, width: int, seed: int) -> Schedule | None:
        """One beam search in the shop or the reversed shop; a schedule of the shop."""
        rules = self._shops[backwards]
        play = beam_play(rules, np.ascontiguousarray(priorities, dtype=np.float32), width, seed, self._stop)
        if play is None:
            return None
        self.searches += 1
        schedule = self._schedule(rules, play, backwards)
        self.offer(schedule)
        return schedule

    def _schedule(self, rules: JobShopRules, play: Play, backwards: int) -> Schedule:
        schedule = schedule_of(rules.instance, play.jobs)
        return reversed_schedule(self._shops[0].instance, schedule) if backwards else schedule


def _starts(schedule: Schedule, shops: tuple[JobShopRules, JobShopRules], backwards: int) -> np.ndarray:
    """When each operation starts, or in the reversed shop would start, float64 [J, K]."""
    starts = np.zeros(shops[0].machine.shape)
    for job, times in enumerate(schedule.starts):
        own = np.array(times, dtype=np.float64)
        if backwards:
            own = (schedule.makespan - own - shops[0].duration[job, : len(own)])[::-1]
        starts[job, : len(own)] = own
    return starts


def _rule_priorities(rules: JobShopRules, rule: Rule) -> np.ndarray:
    """A rule's key of every operation, float64 [J, K]; the lowest goes first."""
    if rule is Rule.MWKR:
        return -remaining_work(rules.instance)[:, :-1].astype(np.float64)
    place = np.arange(rules.machine.shape[1])
    return (place - rules.num_operations[:, None]).astype(np.float64)
