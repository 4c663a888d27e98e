"""Mutated memory plans: of a thousand for each program, the validator accepts none that breaks an invariant.

    python -m benchmarks.plan_mutations --programs ../shared/games

Each kind of mutation breaks an invariant by its construction, but for one: a run can be left out without harm
where its accesses gain nothing. Plans of two heuristics are mutated, kind after kind, each at a random place.
The table says how often a kind was applied, how often the validator refused, and which invariants it named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from agents.games.memory.heuristics import myopic, xla_style
from agents.games.memory.plans import Plan, Run, export_plan
from agents.games.memory.program import Program
from agents.games.memory.program_file import read_program
from agents.games.memory.validator import check_plan, find_violations
from agents.games.memory.validator_timing import access_bytes, planning_clock
from benchmarks.game_tables import markdown
from datasets.errors import UserError, run_command

Mutation = Callable[[Program, Plan, np.random.Generator], Plan | None]
"""Breaks a plan somewhere; None where there is no place for it."""


@dataclass(frozen=True)
class Config:
    """What is mutated."""

    programs: Path
    """A program, or a folder of them."""
    mutants: int = 1000
    """Mutated plans of each program."""
    seed: int = 0
    """Of the places."""


def _swap(plan: Plan, index: int, **changes) -> Plan:
    """The plan with one run changed."""
    runs = list(plan.runs)
    runs[index] = replace(runs[index], **changes)
    return replace(plan, runs=tuple(runs))


def _shift(interval: tuple[int, int], by: int) -> tuple[int, int]:
    return interval[0] + by, interval[1] + by


def _pick(plan: Plan, random: np.random.Generator, wanted: Callable[[Run], object]) -> int | None:
    found = [index for index, run in enumerate(plan.runs) if wanted(run)]
    return int(random.choice(found)) if found else None


def misalign(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Put a block at an odd offset."""
    index = _pick(plan, random, lambda run: True)
    return _swap(plan, index, offset=plan.runs[index].offset + 1)


def leave_memory(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Put a block beyond the end of fast memory."""
    index = _pick(plan, random, lambda run: True)
    return _swap(plan, index, offset=program.hardware.fast_capacity)


def overlap(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Put a block on another that is there at the same time."""
    for index in random.permutation(len(plan.runs)):
        for other in plan.runs[:index]:
            run = plan.runs[index]
            if other.block[1] > run.block[0] and run.block[1] > other.block[0]:
                return _swap(plan, index, offset=other.offset)
    return None


def cut_block(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """End a block before its last access is over."""
    index = _pick(plan, random, lambda run: True)
    block = plan.runs[index].block
    return _swap(plan, index, block=(block[0], block[1] - 1))


def start_block_late(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Begin a block after its first access or copy."""
    index = _pick(plan, random, lambda run: True)
    block = plan.runs[index].block
    return _swap(plan, index, block=(block[0] + 1, block[1]))


def forget_copy(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Leave out the copy that brings data in."""
    index = _pick(plan, random, lambda run: run.copy_in)
    return None if index is None else _swap(plan, index, copy_in=None)


def copy_late(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """End a copy after the first access that needs it."""
    clock = planning_clock(program, plan.clock_lambda)
    index = _pick(plan, random, lambda run: run.copy_in)
    if index is None:
        return None
    run = plan.runs[index]
    by = clock[run.accesses[0][0]] - run.copy_in[1] + 1
    return _swap(plan, index, copy_in=_shift(run.copy_in, by))


def copy_fast(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Give a copy less time than its bytes take."""
    index = _pick(plan, random, lambda run: run.copy_in)
    if index is None:
        return None
    start, end = plan.runs[index].copy_in
    return _swap(plan, index, copy_in=(start, end - 1))


def copy_before_data(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Copy in before slow memory holds the data."""
    written = {access.buffer for entry in program.instructions for access in entry.writes}
    index = _pick(plan, random, lambda run: run.copy_in and run.buffer in written)
    if index is None:
        return None
    run = plan.runs[index]
    copy_in = (-run.copy_in[1] + run.copy_in[0], 0)
    return _swap(plan, index, copy_in=copy_in, block=(copy_in[0], run.block[1]))


def copy_twice_at_once(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Copy two buffers at the same time."""
    index = _pick(plan, random, lambda run: run.copy_in)
    if index is None or len([run for run in plan.runs if run.copy_in]) < 2:
        return None
    others = [run for i, run in enumerate(plan.runs) if run.copy_in and i != index]
    other = others[int(random.integers(len(others)))]
    length = plan.runs[index].copy_in[1] - plan.runs[index].copy_in[0]
    return _swap(plan, index, copy_in=(other.copy_in[0], other.copy_in[0] + length))


def forget_write_back(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Leave out a write-back."""
    index = _pick(plan, random, lambda run: run.write_back)
    return None if index is None else _swap(plan, index, write_back=None)


def write_back_early(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Write back before the data is there."""
    index = _pick(plan, random, lambda run: run.write_back)
    if index is None:
        return None
    run = plan.runs[index]
    return _swap(plan, index, write_back=_shift(run.write_back, run.block[0] - run.write_back[0]))


def drop_first_access(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Begin a run with a read that nothing brings in."""
    index = _pick(plan, random, lambda run: run.copy_in is None and len(run.accesses) > 1)
    return None if index is None else _swap(plan, index, accesses=plan.runs[index].accesses[1:])


def claim_access(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Serve an access that does not exist."""
    index = _pick(plan, random, lambda run: True)
    return _swap(plan, index, accesses=(*plan.runs[index].accesses, (len(program.instructions), "r")))


def serve_twice(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Serve each access twice."""
    index = _pick(plan, random, lambda run: True)
    return _swap(plan, index, accesses=plan.runs[index].accesses * 2)


def another_buffer(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Give a block to another buffer, unless the same instructions use that one in the same way."""
    index = _pick(plan, random, lambda run: True)
    run = plan.runs[index]
    other = (run.buffer + 1 + int(random.integers(3))) % len(program.buffers)
    bytes_of = access_bytes(program)
    if all(bytes_of.get((*use, other)) == bytes_of[*use, run.buffer] for use in run.accesses):
        return None
    return _swap(plan, index, buffer=other)


def lose_run(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Leave out a run: what it saved is still claimed."""
    index = _pick(plan, random, lambda run: True)
    return replace(plan, runs=plan.runs[:index] + plan.runs[index + 1 :])


def flatter(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Report less time than the plan takes."""
    return replace(plan, simulated_time_us=plan.simulated_time_us * 0.99)


def another_program(program: Program, plan: Plan, random: np.random.Generator) -> Plan | None:
    """Say that the plan is for another program."""
    return replace(plan, program=plan.program + "-2")


MUTATIONS: list[Mutation] = [
    misalign, leave_memory, overlap, cut_block, start_block_late, forget_copy, copy_late, copy_fast,
    copy_before_data, copy_twice_at_once, forget_write_back, write_back_early, drop_first_access,
    claim_access, serve_twice, another_buffer, lose_run, flatter, another_program,
]  # fmt: skip

EXPECTED: dict[Mutation, set[str]] = {
    misalign: {"V1"}, leave_memory: {"V1"}, overlap: {"V1"}, cut_block: {"V2", "V5"}, copy_late: {"V3"},
    start_block_late: {"V2", "V3"}, forget_copy: {"V3"}, copy_fast: {"V3"}, copy_before_data: {"V3"},
    copy_twice_at_once: {"V6"}, forget_write_back: {"V3", "V4", "V5"}, write_back_early: {"V5"},
    drop_first_access: {"V3"}, claim_access: {"V0"}, serve_twice: {"V0"}, flatter: {"V8"},
    another_program: {"V0"},
}  # fmt: skip
"""Invariants of which a mutation breaks one or more, and the validator must name one; any for the others."""
HARMLESS_AT_TIMES = {lose_run}
"""Mutations that may leave a plan valid."""


def main() -> None:
    """Mutate and print the table.

    Raises:
        UserError: a plan that breaks an invariant is accepted, or the wrong invariant is named.
    """
    config = tyro.cli(Config, description=__doc__)
    paths = sorted(config.programs.glob("*.json")) if config.programs.is_dir() else [config.programs]
    if not paths:
        raise UserError(f"{config.programs}: no programs (*.json) in this folder; give another one")
    totals: dict[str, Counter[str]] = {mutate.__name__: Counter() for mutate in MUTATIONS}
    for program in sorted(map(read_program, paths), key=lambda one: len(one.buffers)):
        counts = mutate_plans(program, config.mutants, np.random.default_rng(config.seed))
        for name, count in counts.items():
            totals[name].update(count)
        mutants = sum(count["mutants"] for count in counts.values())
        refused = sum(count["refused"] for count in counts.values())
        print(f"{program.name}: {mutants} mutated plans, {refused} refused", flush=True)
    rows = []
    for mutate in MUTATIONS:
        count = totals[mutate.__name__]
        named = ", ".join(f"{key} {count[key]}" for key in sorted(count) if key.startswith("V"))
        what = (mutate.__doc__ or mutate.__name__).splitlines()[0].rstrip(".")
        rows.append([what, f"{count['mutants']}", f"{count['refused']}", named])
    print(markdown(["mutation", "plans", "refused", "invariants named"], rows))


def mutate_plans(program: Program, mutants: int, random: np.random.Generator) -> dict[str, Counter[str]]:
    """Mutated plans of a program, so many or a few more: by kind, how many, how many refused, and why.

    Raises:
        UserError: a plan that breaks an invariant is accepted, or the wrong invariant is named.
    """
    plans = [export_plan(solution) for solution in (myopic(program, 0.5), xla_style(program, 1.0, 1e9))]
    for plan in plans:
        check_plan(program, plan, f"{program.name}, before any mutation")
    plans = [plan for plan in plans if plan.runs]
    counts: dict[str, Counter[str]] = {mutate.__name__: Counter() for mutate in MUTATIONS}
    made, before = 0, -1
    while plans and made < mutants:
        if made == before:
            raise UserError(f"{program.name}: no mutation has a place in its plans")
        before = made
        for mutate in MUTATIONS:
            changed = mutate(program, plans[int(random.integers(len(plans)))], random)
            if changed is not None:
                made += 1
                counts[mutate.__name__] += _judged(program, changed, mutate)
    return counts


def _judged(program: Program, changed: Plan, mutate: Mutation) -> Counter[str]:
    named = {violation.invariant for violation in find_violations(program, changed)}
    if not named and mutate not in HARMLESS_AT_TIMES:
        raise UserError(f"{program.name}: the validator accepts a plan after {mutate.__name__}")
    if named and not named & EXPECTED.get(mutate, named):
        raise UserError(f"{program.name}: after {mutate.__name__} the validator names {sorted(named)}")
    return Counter({"mutants": 1, "refused": int(bool(named)), **dict.fromkeys(named, 1)})


if __name__ == "__main__":
    run_command(main)
