"""CP-SAT on offset packing: the exact method to compare with (extra `games`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.games.packing.heuristics import best_of_heuristics
from agents.games.packing.instance import PackingInstance
from agents.games.packing.solution import Packing, packing_of
from datasets.errors import UserError


@dataclass(frozen=True)
class CpSatResult:
    """What the solver found in its time."""

    packing: Packing | None
    """Its best packing, if it found one."""
    is_proved: bool
    """Whether it proved the packing optimal, or with a capacity and no packing that none fits."""


def solve_by_cpsat(
    instance: PackingInstance, seconds: float, capacity: int | None = None, workers: int = 2, seed: int = 0
) -> CpSatResult:
    """Fit a capacity, or minimise the peak, with rectangles that do not overlap.

    Args:
        instance: the buffers.
        seconds: wall-clock limit.
        capacity: bytes that there are; without one the peak is minimised, from that of the heuristics down.
        workers: threads.
        seed: of the solver.

    Raises:
        UserError: ortools is not installed.
    """
    try:
        from ortools.sat.python import cp_model  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError('ortools is not installed; run pip install -e ".[games]"') from error
    # Offsets are sums of sizes in some optimum, so their common divisor is a unit.
    unit = max(int(np.gcd.reduce(instance.size)), 1)
    limit = best_of_heuristics(instance).peak if capacity is None else capacity
    if limit < int(instance.size.max()):
        return CpSatResult(None, True)
    model = cp_model.CpModel()
    offsets, lives, places = [], [], []
    for lower, upper, size in zip(instance.lower, instance.upper, instance.size // unit, strict=True):
        offsets.append(model.new_int_var(0, limit // unit - int(size), ""))
        lives.append(model.new_fixed_size_interval_var(int(lower), int(upper - lower), ""))
        places.append(model.new_fixed_size_interval_var(offsets[-1], int(size), ""))
    model.add_no_overlap_2d(lives, places)
    if capacity is None:
        peak = model.new_int_var(instance.lower_bound // unit, limit // unit, "peak")
        for offset, size in zip(offsets, instance.size // unit, strict=True):
            model.add(offset + int(size) <= peak)
        model.minimize(peak)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = seed
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return CpSatResult(None, status == cp_model.INFEASIBLE)
    found = [int(solver.value(offset)) * unit for offset in offsets]
    return CpSatResult(packing_of(instance, found, capacity), status == cp_model.OPTIMAL)
