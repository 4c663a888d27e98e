"""Plans as files: what is written is read, and every fault is told by file and field."""

import json

import pytest

from agents.games.memory.heuristics import myopic
from agents.games.memory.plans import export_plan, read_plan, write_plan
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program


@pytest.mark.parametrize("loop", [False, True])
def test_plans_are_written_as_they_are_read(tmp_path, loop):
    plan = export_plan(myopic(random_program(1, loop=loop), 0.5))
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


FAULTS = {
    "another format": (lambda p: p.update(format="csv"), "format is 'csv'"),
    "no program": (lambda p: p.pop("program"), "program must be"),
    "no list": (lambda p: p.update(runs={}), "runs must be a list"),
    "offset of text": (lambda p: p["runs"][0].update(offset="0"), r"runs\[0\]: offset"),
    "half a block": (lambda p: p["runs"][0].update(block=[3]), r"runs\[0\]: block"),
    "fractions of a nanosecond": (lambda p: p["runs"][0].update(block=[0.5, 2]), r"runs\[0\]: block"),
    "another kind of access": (
        lambda p: p["runs"][0].update(accesses=[[0, "x"]]),
        r"runs\[0\]: accesses\[0\]",
    ),
    "a group of names": (lambda p: p["groups"].append({"buffers": ["a"]}), r"groups\[\d\]: buffers"),
    "time of text": (lambda p: p.update(simulated_time_us="fast"), "simulated_time_us"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_plan_is_refused_by_field(tmp_path, fault):
    path = tmp_path / "plan.json"
    write_plan(path, export_plan(myopic(random_program(1))))
    fields = json.loads(path.read_text())
    change, sentence = FAULTS[fault]
    change(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=f"plan.json: {sentence}"):
        read_plan(path)


def test_a_missing_plan_is_named(tmp_path):
    with pytest.raises(UserError, match=r"plan.json: cannot be read"):
        read_plan(tmp_path / "plan.json")
