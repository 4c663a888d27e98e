"""Small job shops for the tests."""

from __future__ import annotations

import numpy as np

from agents.games.jobshop.instance import JobShopInstance, instance_from_json


def random_shop(seed: int, num_jobs: int = 5, num_machines: int = 4, longest: int = 9) -> JobShopInstance:
    """Jobs of unequal lengths that may visit a machine twice; some operations take no time."""
    rng = np.random.default_rng(seed)
    jobs = []
    for _ in range(num_jobs):
        count = int(rng.integers(1, num_machines + 2))
        pairs = zip(
            rng.integers(num_machines, size=count), rng.integers(longest + 1, size=count), strict=True
        )
        jobs.append([[int(machine), int(duration)] for machine, duration in pairs])
    return instance_from_json(
        {"name": f"random{seed}", "jobs": jobs, "machines": num_machines}, "test", "random"
    )


def square_shop(seed: int, num_jobs: int = 6, num_machines: int = 5) -> JobShopInstance:
    """Every job visits every machine once, as in the published instances."""
    rng = np.random.default_rng(seed)
    jobs = []
    for _ in range(num_jobs):
        durations = rng.integers(1, 100, size=num_machines)
        jobs.append([[int(m), int(d)] for m, d in zip(rng.permutation(num_machines), durations, strict=True)])
    return instance_from_json({"name": f"square{seed}", "jobs": jobs}, "test", "square")
