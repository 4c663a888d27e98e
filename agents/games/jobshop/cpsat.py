"""CP-SAT on the job shop: the exact method to compare with (extra `games`)."""

from __future__ import annotations

from dataclasses import dataclass

from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.solution import Schedule
from datasets.errors import UserError


@dataclass(frozen=True)
class CpSatResult:
    """What the solver found in its time."""

    schedule: Schedule | None
    """Its best schedule, if it found one."""
    bound: int
    """Makespan that it proved no schedule to be below."""
    is_optimal: bool
    """Whether it proved the schedule optimal."""


def solve_by_cpsat(instance: JobShopInstance, seconds: float, workers: int = 2, seed: int = 0) -> CpSatResult:
    """Minimise the makespan with interval variables and a no-overlap constraint per machine.

    Args:
        instance: the shop.
        seconds: wall-clock limit.
        workers: threads.
        seed: of the solver.

    Raises:
        UserError: ortools is not installed.
    """
    try:
        from ortools.sat.python import cp_model  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError('ortools is not installed; run pip install -e ".[games]"') from error
    model = cp_model.CpModel()
    horizon = int(instance.duration.sum())
    makespan = model.new_int_var(instance.lower_bound, horizon, "makespan")
    starts, intervals = [], [[] for _ in range(instance.num_machines)]
    for job, count in enumerate(instance.num_operations):
        starts.append([])
        for place in range(count):
            length = int(instance.duration[job, place])
            start = model.new_int_var(0, horizon, "")
            intervals[instance.machine[job, place]].append(
                model.new_fixed_size_interval_var(start, length, "")
            )
            if place:
                model.add(start >= starts[job][-1] + int(instance.duration[job, place - 1]))
            starts[job].append(start)
        model.add(makespan >= starts[job][-1] + int(instance.duration[job, count - 1]))
    for machine in intervals:
        model.add_no_overlap(machine)
    model.minimize(makespan)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = seed
    status = solver.solve(model)
    bound = int(solver.best_objective_bound)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return CpSatResult(None, max(bound, instance.lower_bound), False)
    times = tuple(tuple(int(solver.value(start)) for start in row) for row in starts)
    ends = [row[-1] + int(instance.duration[job, len(row) - 1]) for job, row in enumerate(times)]
    return CpSatResult(Schedule(instance.name, times, max(ends)), bound, status == cp_model.OPTIMAL)
