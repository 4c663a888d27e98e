"""The validator accepts what the heuristics make and refuses every mutated plan, naming the invariant."""

from dataclasses import replace

import numpy as np
import pytest

from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import myopic, xla_style
from agents.games.memory.plans import Plan, Run, export_plan
from agents.games.memory.program_file import read_program
from agents.games.memory.validator import check_plan, find_violations
from agents.games.memory.validator_timing import planning_clock
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program
from tests.conftest import SHARED


def swap(plan: Plan, index: int, **changes) -> Plan:
    """The plan with one run changed."""
    runs = list(plan.runs)
    runs[index] = replace(runs[index], **changes)
    return replace(plan, runs=tuple(runs))


def shift(interval: tuple[int, int], by: int) -> tuple[int, int]:
    return interval[0] + by, interval[1] + by


def pick(plan: Plan, random: np.random.Generator, wanted) -> int | None:
    found = [index for index, run in enumerate(plan.runs) if wanted(run)]
    return int(random.choice(found)) if found else None


def misalign(program, plan, random):
    index = pick(plan, random, lambda run: True)
    return swap(plan, index, offset=plan.runs[index].offset + 1)


def leave_memory(program, plan, random):
    index = pick(plan, random, lambda run: True)
    return swap(plan, index, offset=program.hardware.fast_capacity)


def overlap(program, plan, random):
    for index in random.permutation(len(plan.runs)):
        for other in plan.runs[:index]:
            run = plan.runs[index]
            if other.block[1] > run.block[0] and run.block[1] > other.block[0]:
                return swap(plan, index, offset=other.offset)
    return None


def cut_block(program, plan, random):
    index = pick(plan, random, lambda run: True)
    block = plan.runs[index].block
    return swap(plan, index, block=(block[0], block[1] - 1))


def start_block_late(program, plan, random):
    index = pick(plan, random, lambda run: True)
    block = plan.runs[index].block
    return swap(plan, index, block=(block[0] + 1, block[1]))


def forget_copy(program, plan, random):
    index = pick(plan, random, lambda run: run.copy_in)
    return None if index is None else swap(plan, index, copy_in=None)


def copy_late(program, plan, random):
    clock = planning_clock(program, plan.clock_lambda)
    index = pick(plan, random, lambda run: run.copy_in)
    if index is None:
        return None
    run = plan.runs[index]
    by = clock[run.accesses[0][0]] - run.copy_in[1] + 1
    return swap(plan, index, copy_in=shift(run.copy_in, by))


def copy_fast(program, plan, random):
    index = pick(plan, random, lambda run: run.copy_in)
    if index is None:
        return None
    start, end = plan.runs[index].copy_in
    return swap(plan, index, copy_in=(start, end - 1))


def copy_before_data(program, plan, random):
    """Copy in before slow memory holds the data."""
    written = {access.buffer for entry in program.instructions for access in entry.writes}
    index = pick(plan, random, lambda run: run.copy_in and run.buffer in written)
    if index is None:
        return None
    run = plan.runs[index]
    copy_in = (-run.copy_in[1] + run.copy_in[0], 0)
    return swap(plan, index, copy_in=copy_in, block=(copy_in[0], run.block[1]))


def copy_twice_at_once(program, plan, random):
    index = pick(plan, random, lambda run: run.copy_in)
    if index is None or len([run for run in plan.runs if run.copy_in]) < 2:
        return None
    others = [run for i, run in enumerate(plan.runs) if run.copy_in and i != index]
    other = others[int(random.integers(len(others)))]
    length = plan.runs[index].copy_in[1] - plan.runs[index].copy_in[0]
    return swap(plan, index, copy_in=(other.copy_in[0], other.copy_in[0] + length))


def forget_write_back(program, plan, random):
    index = pick(plan, random, lambda run: run.write_back)
    return None if index is None else swap(plan, index, write_back=None)


def write_back_early(program, plan, random):
    index = pick(plan, random, lambda run: run.write_back)
    if index is None:
        return None
    run = plan.runs[index]
    return swap(plan, index, write_back=shift(run.write_back, run.block[0] - run.write_back[0]))


def drop_first_access(program, plan, random):
    """Begin a run with a read that nothing brings in."""
    index = pick(plan, random, lambda run: run.copy_in is None and len(run.accesses) > 1)
    return None if index is None else swap(plan, index, accesses=plan.runs[index].accesses[1:])


def claim_access(program, plan, random):
    """Serve an access that does not exist."""
    index = pick(plan, random, lambda run: True)
    return swap(plan, index, accesses=(*plan.runs[index].accesses, (len(program.instructions), "r")))


def serve_twice(program, plan, random):
    index = pick(plan, random, lambda run: True)
    return swap(plan, index, accesses=plan.runs[index].accesses * 2)


def another_buffer(program, plan, random):
    index = pick(plan, random, lambda run: True)
    other = (plan.runs[index].buffer + 1 + int(random.integers(3))) % len(program.buffers)
    return swap(plan, index, buffer=other)


def lose_run(program, plan, random):
    """Leave out a run: what it saved is still claimed."""
    index = pick(plan, random, lambda run: True)
    return replace(plan, runs=plan.runs[:index] + plan.runs[index + 1 :])


def flatter(program, plan, random):
    return replace(plan, simulated_time_us=plan.simulated_time_us * 0.99)


def another_program(program, plan, random):
    return replace(plan, program=plan.program + "-2")


MUTATIONS = [
    misalign, leave_memory, overlap, cut_block, start_block_late, forget_copy, copy_late, copy_fast,
    copy_before_data, copy_twice_at_once, forget_write_back, write_back_early, drop_first_access,
    claim_access, serve_twice, another_buffer, lose_run, flatter, another_program,
]  # fmt: skip

EXPECTED = {
    misalign: {"V1"}, leave_memory: {"V1"}, overlap: {"V1"}, cut_block: {"V2", "V5"}, copy_late: {"V3"},
    start_block_late: {"V2", "V3"}, forget_copy: {"V3"}, copy_fast: {"V3"}, copy_before_data: {"V3"},
    copy_twice_at_once: {"V6"}, forget_write_back: {"V3", "V4", "V5"}, write_back_early: {"V5"},
    drop_first_access: {"V3"}, claim_access: {"V0"}, serve_twice: {"V0"}, flatter: {"V8"},
    another_program: {"V0"},
}  # fmt: skip


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_mutated_plan_is_refused(mutate):
    applied = 0
    for seed in range(10):
        program = random_program(seed, loop=seed % 2 == 1)
        for solution in (myopic(program, 0.5), xla_style(program, 1.0, 1e9)):
            plan = export_plan(solution)
            assert find_violations(program, plan) == []
            changed = mutate(program, plan, np.random.default_rng(seed)) if plan.runs else None
            if changed is None:
                continue
            found = {violation.invariant for violation in find_violations(program, changed)}
            # A run whose accesses gain nothing may be left out: the plan without it is as good.
            if found or mutate is not lose_run:
                assert found, (mutate.__name__, seed)
                applied += 1
            assert found & EXPECTED.get(mutate, found) or not found
    assert applied >= 3


def test_a_plan_without_fast_memory_is_valid():
    program = random_program(0)
    game = MemoryGame(program)
    time = game.all_slow_seconds * 1e6
    assert find_violations(program, Plan(program.name, 1.0, (), (), time, time)) == []


def test_the_first_violation_is_told_with_file_field_and_invariant():
    program = random_program(0)
    plan = replace(export_plan(myopic(program)), program="another")
    with pytest.raises(UserError, match=r"plan.json: program: is 'another'.*V0"):
        check_plan(program, plan, "plan.json")


def test_times_worked_out_by_hand():
    """One copy that is late: the read waits for it, and the simulation says how long."""
    program = random_program(0)
    reader = program.instructions[3]
    buffer = next(access.buffer for access in reader.reads if program.buffers[access.buffer].kind == "param")
    clock = planning_clock(program, 1.0)
    length = program.buffers[buffer].size
    assert clock[3] >= length, "the copy has time at 1 byte a nanosecond"
    run = Run(buffer, 0, (clock[3] - length, clock[4]), ((3, "r"),), (clock[3] - length, clock[3]), None)
    plan = Plan(program.name, 1.0, (run,), (), 0.0, 0.0)
    found = [violation.sentence for violation in find_violations(program, plan)]
    assert [sentence.split(",")[0] for sentence in found] == ["is 0.0", "is 0.0"]


@pytest.mark.skipif(not (SHARED / "games").is_dir(), reason="the instances are not beside the checkout")
@pytest.mark.parametrize("name", ["mlp3_train", "lstm_scan_train"])
def test_many_mutations_of_a_real_plan_are_refused(name):
    program = read_program(SHARED / "games" / f"{name}.json")
    plan = export_plan(xla_style(program))
    random = np.random.default_rng(0)
    for round_ in range(10):
        for mutate in MUTATIONS:
            changed = mutate(program, plan, random)
            if changed is not None and mutate is not lose_run:
                assert find_violations(program, changed), (mutate.__name__, round_)
