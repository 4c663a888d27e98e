"""The job shop as the search agent plays it.

Letters: B positions, J jobs (A = J actions), F numbers of a position.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.games.guides import Guide
from agents.games.jobshop.features import FeatureExtractor
from agents.games.jobshop.instance import JobShopInstance, instance_from_json
from agents.games.jobshop.planning import JobShopModel
from agents.games.jobshop.rules import JobShopRules
from agents.search_agent.observation import Observation, observe

RETURN_RANGE = (-2.5, 0.0)
"""A game returns -makespan / lower bound; even random play seldom takes 2.5 times the bound."""


class JobShopSearchGame:
    """`games.SearchGame` of one shop: dispatch operations, keep the makespan low."""

    return_range = RETURN_RANGE
    value_share = 1.0

    def __init__(self, instance: JobShopInstance) -> None:
        self.instance = instance
        self.rules = JobShopRules(instance)
        self._extract = FeatureExtractor(self.rules)
        self.name = instance.name
        self.num_actions = instance.num_jobs
        self.unit = float(max(instance.lower_bound, 1))

    def start(self, count: int) -> np.ndarray:
        """Nothing dispatched yet, `count` times."""
        return np.repeat(self.rules.start()[None], count, axis=0)

    def observe(self, positions: np.ndarray) -> Observation:
        """The shop, its jobs, its machines."""
        features = self._extract(positions)
        legal_mask = self.legal_mask(positions)
        return observe(features.overall, features.jobs, features.machines, legal_mask)

    def legal_mask(self, positions: np.ndarray) -> Bool[np.ndarray, "B A"]:
        """Jobs that may be dispatched."""
        return self.rules.legal_mask(positions)

    def step(
        self, positions: np.ndarray, actions: Int[np.ndarray, " B"]
    ) -> tuple[np.ndarray, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Dispatch a job in each shop."""
        after = positions.copy()
        increase = self.rules.step(after, actions)
        return after, -increase / self.unit, self.rules.done(after)

    def model(self, guide: Guide | None) -> JobShopModel:
        """The exact rules."""
        return JobShopModel(self.instance, guide)

    def score(self, total: float) -> float:
        """The makespan."""
        return -total * self.unit


def random_shops(count: int, seed: int) -> list[JobShopInstance]:
    """Shops to learn from, drawn as Taillard 1993 draws benchmark shops.

    Every job visits every machine once, in a random order, for 1 to 99 units of time. 6 to 20 jobs, 4 to 12
    machines, no fewer jobs than machines.
    """
    shops = []
    for number in range(count):
        random = np.random.default_rng((seed, number))
        machines = int(random.integers(4, 13))
        jobs = int(random.integers(max(6, machines), 21))
        order = np.argsort(random.random((jobs, machines)), axis=1)
        duration = random.integers(1, 100, size=(jobs, machines))
        rows = np.stack([order, duration], axis=-1).tolist()
        name = f"random-{jobs}x{machines}-{number}"
        shops.append(instance_from_json({"jobs": rows}, name, name))
    return shops
