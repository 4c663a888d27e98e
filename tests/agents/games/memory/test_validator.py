"""The validator accepts what the heuristics make and refuses every mutated plan, naming the invariant."""

from dataclasses import replace

import numpy as np
import pytest

from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import myopic
from agents.games.memory.plans import Plan, Run, export_plan
from agents.games.memory.program_file import read_program, write_program
from agents.games.memory.validator import check_plan, find_violations
from agents.games.memory.validator_timing import planning_clock
from benchmarks import plan_mutations
from benchmarks.plan_mutations import MUTATIONS, mutate_plans
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program
from tests.conftest import SHARED


@pytest.mark.parametrize("seed", range(4))
def test_mutated_plans_are_refused(seed):
    """Of every kind of mutation, by the invariant that it breaks; `mutate_plans` raises otherwise."""
    program = random_program(seed, loop=seed % 2 == 1)
    counts = mutate_plans(program, 200, np.random.default_rng(seed))
    assert sum(count["refused"] for count in counts.values()) > 150
    applied = {name for name, count in counts.items() if count["refused"]}
    assert len(applied) >= len(MUTATIONS) - 3


def test_every_kind_of_mutation_finds_its_place():
    applied = set()
    for seed in range(8):
        counts = mutate_plans(random_program(seed, loop=seed % 2 == 1), 40, np.random.default_rng(seed))
        applied |= {name for name, count in counts.items() if count["refused"]}
    assert applied == {mutate.__name__ for mutate in MUTATIONS}


def test_the_command_shows_what_was_done(tmp_path, monkeypatch, capsys):
    write_program(tmp_path / "one.json", random_program(1, loop=True))
    monkeypatch.setattr("sys.argv", ["mutate", "--programs", str(tmp_path), "--mutants", "40"])
    plan_mutations.main()
    table = capsys.readouterr().out
    assert "random-1: " in table
    assert "| Put a block at an odd offset | " in table


def test_a_mutation_that_is_accepted_is_a_fault(monkeypatch):
    program = random_program(0)
    monkeypatch.setattr(plan_mutations, "MUTATIONS", [lambda program, plan, random: plan])
    with pytest.raises(UserError, match="accepts a plan after <lambda>"):
        mutate_plans(program, 5, np.random.default_rng(0))


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
    assert mutate_plans(program, 200, np.random.default_rng(0))
