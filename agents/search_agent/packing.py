"""Offset packing as the search agent plays it.

Letters: B positions, N buffers (A = N actions), F numbers of a position.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.games.guides import Guide
from agents.games.packing.features import FeatureExtractor
from agents.games.packing.instance import PackingInstance
from agents.games.packing.planning import PackingModel
from agents.games.packing.rules import PackingRules
from agents.search_agent.observation import Observation, observe

RETURN_RANGE = (-2.0, 0.0)
"""A game returns -peak / lower bound."""


class PackingSearchGame:
    """`games.SearchGame` of one instance: place buffers one on another, keep the peak low."""

    return_range = RETURN_RANGE
    value_share = 1.0

    def __init__(self, instance: PackingInstance) -> None:
        self.instance = instance
        self.rules = PackingRules(instance)
        self._extract = FeatureExtractor(self.rules)
        self.name = instance.name
        self.num_actions = instance.num_buffers
        self.unit = float(max(instance.lower_bound, 1))

    def start(self, count: int) -> np.ndarray:
        """Nothing placed yet, `count` times."""
        return np.repeat(self.rules.start()[None], count, axis=0)

    def observe(self, positions: np.ndarray) -> Observation:
        """The packing, its buffers, its sections of time."""
        features = self._extract(positions)
        legal_mask = self.legal_mask(positions)
        return observe(features.overall, features.buffers, features.sections, legal_mask)

    def legal_mask(self, positions: np.ndarray) -> Bool[np.ndarray, "B A"]:
        """Buffers that may be placed."""
        return self.rules.legal_mask(positions)

    def step(
        self, positions: np.ndarray, actions: Int[np.ndarray, " B"]
    ) -> tuple[np.ndarray, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Place a buffer in each packing."""
        after = positions.copy()
        increase = self.rules.step(after, actions)
        done = np.logical_not(self.rules.legal_mask(after).any(axis=1))
        return after, -increase / self.unit, done

    def model(self, guide: Guide | None) -> PackingModel:
        """The exact rules."""
        return PackingModel(self.instance, guide)

    def score(self, total: float) -> float:
        """The peak, in bytes."""
        return -total * self.unit


def random_packings(count: int, seed: int) -> list[PackingInstance]:
    """Instances to learn from whose lowest peak is known: a rectangle of time and memory cut into buffers.

    The rectangle is cut in two again and again, along time or along memory, so that nothing is wasted; the
    lower bound, its height, can be reached. 20 to 200 buffers, small instances as likely as twice as large
    ones. How uneven the pieces are differs from one instance to another: real programs have a few buffers
    that live long beside many that are large and short-lived.
    """
    instances = []
    for number in range(count):
        random = np.random.default_rng((seed, number))
        pieces = _cut(random, round(20 * 10.0 ** random.random()), length=10_000, height=1 << 20)
        order = random.permutation(len(pieces))
        lower, upper, size = (np.array(column, dtype=np.int64)[order] for column in zip(*pieces, strict=True))
        ids = tuple(str(place) for place in range(len(pieces)))
        instances.append(PackingInstance(f"random-{len(pieces)}-{number}", ids, lower, upper, size))
    return instances


def _cut(random: np.random.Generator, count: int, length: int, height: int) -> list[tuple[int, int, int]]:
    """(lower, upper, size) of the pieces; a large one is cut next, mostly across its longer side."""
    pieces = [(0, length, height)]
    evenness, squareness, smallest = random.uniform(0.3, 2), random.uniform(0, 0.4), random.uniform(0.03, 0.3)
    while len(pieces) < count:
        areas = np.array(
            [(upper - lower) / length * size / height for lower, upper, size in pieces], dtype=np.float64
        )
        can_be_cut = np.array([upper - lower > 1 or size > 1 for lower, upper, size in pieces])
        weights = np.where(can_be_cut, areas**evenness, 0)
        lower, upper, size = pieces.pop(int(random.choice(len(pieces), p=weights / weights.sum())))
        longer = np.sign((upper - lower) / length - size / height)
        along_time = random.random() < 0.5 + squareness * longer
        along_time = size == 1 or (along_time and upper - lower > 1)
        share = random.uniform(smallest, 1 - smallest)
        if along_time:
            middle = min(max(lower + round(share * (upper - lower)), lower + 1), upper - 1)
            pieces += [(lower, middle, size), (middle, upper, size)]
        else:
            below = min(max(1, round(share * size)), size - 1)
            pieces += [(lower, upper, below), (lower, upper, size - below)]
    return pieces
