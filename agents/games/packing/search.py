"""Search for packings: many short depth-first searches, each by another order of the buffers.

Letters: N buffers.

How long a depth-first search takes depends on the order in which it tries the buffers so much that it is
better to give up soon and to begin again with another: of the published challenging instances most
are packed within some thousand nodes by some orders and not within millions by others. Sections that
earlier searches failed in are blamed: buffers that live through them go first in later ones (in the
manner of the weighted constraints of Boussemart et al. 2004, "Boosting Systematic Search by Weighting
Constraints").
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from agents.games.guides import Guide
from agents.games.packing.depth_first import IMPOSSIBLE, NODES, PACKED, STOP, begin, descend
from agents.games.packing.guides import tightness
from agents.games.packing.heuristics import best_of_heuristics
from agents.games.packing.instance import PackingInstance
from agents.games.packing.rules import PackingRules
from agents.games.packing.solution import Packing, packing_of


@dataclass(frozen=True)
class PackingSearchConfig:
    """How a capacity is searched for."""

    workers: int = 2
    """Threads; each runs attempts of its own."""
    seed: int = 0
    """Attempt k of a worker is always the same for the same seed."""
    nodes: int = 2000
    """Nodes of the first attempts, or four for each buffer if that is more."""
    attempts_per_length: int = 32
    """After so many attempts, the following have as many nodes more as the first."""
    noise: tuple[float, ...] = (0.05, 0.2, 0.6)
    """Standard deviations, in turn, of what is added to the orders' keys, which are logarithms, or to a
    guide's, which are divided by their own standard deviation."""
    blame: float = 3.0
    """How much the blame of a buffer's worst section counts in its key."""
    memory: float = 0.95
    """What is left of all blame after each attempt."""


@dataclass(frozen=True)
class FitResult:
    """How a search for a packing within a capacity ended."""

    packing: Packing | None
    """The packing, if one was found."""
    is_impossible: bool
    """Whether it was proved that there is none."""
    attempts: int
    """Depth-first searches that ended."""
    nodes: int
    """Their nodes."""
    seconds: float
    """What it took."""


def fit(
    instance: PackingInstance,
    capacity: int,
    seconds: float,
    guide: Guide | None = None,
    config: PackingSearchConfig | None = None,
) -> FitResult:
    """Search for a packing within a capacity.

    Args:
        instance: the buffers.
        capacity: bytes that there are.
        seconds: wall-clock limit.
        guide: its policy at the start is the order in which buffers of equal offset are tried; by default
            orders by the most bytes alive at one time, by lifetime and by area take turns.
        config: settings.

    Returns:
        The first packing found; none if there is none, or none was found in time.
    """
    config = config or PackingSearchConfig()
    started = time.perf_counter()
    race = _Race(PackingRules(instance), capacity, guide, config, started + seconds)
    if instance.lower_bound > capacity:
        return FitResult(None, True, 0, 0, 0.0)
    with ThreadPoolExecutor(config.workers) as pool:
        try:
            for _ in pool.map(race.run, range(config.workers)):
                pass
        finally:
            race.stop()
    packing = None if race.offsets is None else packing_of(instance, race.offsets, capacity)
    spent = time.perf_counter() - started
    return FitResult(packing, race.is_impossible, race.attempts, race.nodes, spent)


def minimise(
    instance: PackingInstance,
    seconds: float,
    guide: Guide | None = None,
    config: PackingSearchConfig | None = None,
) -> Packing:
    """Make the peak as small as time allows; never worse than the list heuristics.

    The lower bound is tried first, then capacities half way between what was last not found and the best.

    Args:
        instance: the buffers.
        seconds: wall-clock limit.
        guide: as for `fit`.
        config: settings.
    """
    deadline = time.perf_counter() + seconds
    best, floor = best_of_heuristics(instance), instance.lower_bound
    target, share = floor, 0.25
    while best.peak > floor and (left := deadline - time.perf_counter()) > 0:
        result = fit(instance, target, max(left * share, min(left, 0.1)), guide, config)
        if result.packing is not None:
            best = packing_of(instance, result.packing.offsets)
        else:
            floor = target + 1 if result.is_impossible else target
            share = min(share, 0.15)
        # Above the last failure, but below the best: what was not found in a short time may be tried again.
        target = max((floor + best.peak) // 2, instance.lower_bound)
        if target >= best.peak - 1 and best.peak - floor <= 1:
            break
    return best


class _Race:
    """Attempts in threads, until one packs, one proves that none can, or time is up."""

    def __init__(
        self,
        rules: PackingRules,
        capacity: int,
        guide: Guide | None,
        config: PackingSearchConfig,
        deadline: float,
    ) -> None:
        self._rules, self._capacity, self._config, self._deadline = rules, capacity, config, deadline
        self._keys = _guided_keys(rules, guide) if guide else _plain_keys(rules.instance)
        self._running: dict[int, np.ndarray] = {}
        self._over = False
        self.offsets: list[int] | None = None
        self.is_impossible = False
        self.attempts = self.nodes = 0

    def stop(self) -> None:
        """End all attempts."""
        self._over = True
        for counters in list(self._running.values()):
            counters[STOP] = 1

    def run(self, worker: int) -> None:
        """Make attempts worker, worker + workers, ..., until the race is over."""
        blame = np.zeros(self._rules.num_sections)
        for attempt in self._attempts(worker):
            # A packing of N buffers takes N nodes at least, and an attempt shall not fail for want of those.
            first = max(self._config.nodes, 4 * self._rules.length)
            length = first * (1 + attempt // self._config.attempts_per_length)
            problem, scratch = begin(self._rules, self._capacity, self._order(attempt, blame), length)
            self._running[worker] = scratch.counters
            if self._over:
                return
            count = len(problem.size)
            status = descend(problem, scratch, 0, self._rules.num_sections, 0, count, 0, -1, 0)
            self.attempts += 1
            self.nodes += int(scratch.counters[NODES])
            blame = self._config.memory * blame + scratch.blame / max(int(scratch.blame.sum()), 1)
            if status == PACKED and not self._over:
                self.offsets = scratch.position.tolist()
            if status in (PACKED, IMPOSSIBLE):
                self.is_impossible = self.offsets is None and status == IMPOSSIBLE
                self.stop()

    def _attempts(self, worker: int) -> Iterator[int]:
        attempt = worker
        while not self._over and time.perf_counter() < self._deadline:
            yield attempt
            attempt += self._config.workers

    def _order(self, attempt: int, blame: np.ndarray) -> np.ndarray:
        """The order of an attempt: the plain orders first, then with noise and blame.

        Args:
            attempt: its number.
            blame: of each section, float64 [S].
        """
        keys = self._keys[attempt % len(self._keys)]
        rounds = attempt // len(self._keys)
        if rounds == 0:
            return np.lexsort([-key for key in reversed(keys)])
        rng = np.random.default_rng((self._config.seed, attempt))
        noise = self._config.noise[rounds % len(self._config.noise)]
        blamed = np.log1p(3 * blame / max(float(blame.mean()), 1e-9))
        worst = [
            blamed[first:last].max() for first, last in zip(self._rules.first, self._rules.last, strict=True)
        ]
        drawn = noise * rng.standard_normal(len(keys[0]))
        return np.argsort(-(keys[0] + drawn + self._config.blame * np.array(worst)))


def _plain_keys(instance: PackingInstance) -> list[tuple[np.ndarray, ...]]:
    """Logarithms of tightness, lifetime and area; each foremost once, the others where that is equal."""
    length = (instance.upper - instance.lower).astype(np.float64)
    size = np.maximum(instance.size, 1).astype(np.float64)
    tight, long, large = (np.log(np.maximum(key, 1)) for key in (tightness(instance), length, length * size))
    return [(tight, long, large), (long, tight, large), (large, tight, long)]


def _guided_keys(rules: PackingRules, guide: Guide) -> list[tuple[np.ndarray, ...]]:
    """A guide's policy at the start, in units of its standard deviation."""
    logits = guide.prior_logits(rules.start()[None])[0]
    return [(logits / max(float(logits.std()), 1e-9),)]
