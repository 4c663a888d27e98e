"""Programs as files: what is written is read, and every fault is told by file and field."""

import json

import pytest

from agents.games.memory.program_file import parse_program, read_program, write_program
from agents.games.memory.tables import MAY_BE_FAST, build_tables
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program


def fields() -> dict:
    """A program of two instructions as parsed JSON."""
    return {
        "format": "mmap-instance-v1",
        "name": "two",
        "hw": {
            "peak_flops": 1e12, "bw_slow": 1e9, "bw_fast": 1e10, "bw_dma": 1e9, "fast_capacity": 8192,
            "alignment": 1024,
        },
        "buffers": [
            {"id": 0, "name": "a", "size": 2048, "kind": "param", "alias_group": -1, "pinned": False},
            {"id": 1, "name": "b", "size": 2048, "kind": "temp", "alias_group": 0, "pinned": True},
            {"id": 2, "name": "c", "size": 2048, "kind": "temp", "alias_group": 0, "pinned": True},
        ],
        "instructions": [
            {"name": "i", "flops": 0, "mult": 1, "region": 0, "reads": [[0, 2048]], "writes": [[1, 2048]]},
            {"name": "j", "flops": 0, "mult": 1, "region": 0, "reads": [[1, 2048]], "writes": [[2, 2048]]},
        ],
    }  # fmt: skip


def extra(step: dict):
    """Append an instruction."""
    return lambda program: program["instructions"].append({"name": "k", "mult": 1, "region": 0} | step)


def read(step: int, buffer: int, num_bytes: int):
    """Let an instruction read one buffer more."""
    return lambda program: program["instructions"][step]["reads"].append([buffer, num_bytes])


FAULTS = {
    "zero bandwidth": (lambda p: p["hw"].update(bw_dma=0), "hw.bw_dma"),
    "no bandwidth": (lambda p: p["hw"].pop("bw_fast"), "hw.bw_fast"),
    "negative size": (lambda p: p["buffers"][1].update(size=-1), r"buffers\[1\].size"),
    "size of text": (lambda p: p["buffers"][1].update(size="big"), r"buffers\[1\]: size"),
    "unknown kind": (lambda p: p["buffers"][0].update(kind="weight"), r"buffers\[0\].kind"),
    "ids with gaps": (lambda p: p["buffers"][2].update(id=5), r"buffers\[2\].id"),
    "negative bytes": (read(0, 1, -4), r"instructions\[0\].reads\[1\]"),
    "no such buffer": (read(1, 9, 4), r"instructions\[1\].reads"),
    "use before definition": (read(0, 2, 4), r"instructions\[0\].reads"),
    "crossing groups": (extra({"reads": [[1, 4]], "writes": []}), r"instructions\[2\].reads.*crosses"),
    "cyclic group": (extra({"reads": [], "writes": [[1, 4]]}), r"instructions\[2\].writes.*cycle"),
    "no executions": (lambda p: p["instructions"][1].update(mult=0), r"instructions\[1\].mult"),
    "negative work": (lambda p: p["instructions"][1].update(flops=-1), r"instructions\[1\].flops"),
    "no instructions": (lambda p: p["instructions"].clear(), "instructions is empty"),
    "output never written": (
        lambda p: p["buffers"].append({"id": 3, "name": "d", "size": 4, "kind": "temp", "live_out": True}),
        r"buffers\[3\].live_out",
    ),
    "launch time": (lambda p: p["hw"].update(launch_s=1e-6), "hw.launch_s"),
    "another format": (lambda p: p.update(format="mmap-instance-v2"), "format"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_program_is_refused_by_field(fault):
    program = fields()
    change, field = FAULTS[fault]
    change(program)
    with pytest.raises(UserError, match=f"two.json: {field}"):
        parse_program(program, "two.json")


def test_the_program_without_faults_is_read():
    assert len(parse_program(fields(), "two.json").buffers) == 3


def test_a_buffer_larger_than_fast_memory_stays_in_slow_memory():
    program = fields()
    program["buffers"][0]["size"] = 8193
    tables = build_tables(parse_program(program, "two.json"), 1.0)
    assert tables.unit[:, MAY_BE_FAST].tolist() == [0, 1]


def test_a_buffer_named_twice_by_an_instruction_is_one_access():
    program = fields()
    program["instructions"][0]["reads"] = [[0, 1024], [0, 512]]
    assert parse_program(program, "two.json").instructions[0].reads[0].num_bytes == 1536


def test_programs_are_written_as_they_are_read(tmp_path):
    program = random_program(3, loop=True)
    write_program(tmp_path / "program.json", program)
    assert read_program(tmp_path / "program.json") == program


@pytest.mark.parametrize(("text", "sentence"), [("{", "not JSON"), ("[]", "format is 'list'")])
def test_what_is_no_program_is_refused(tmp_path, text, sentence):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"bad.json.*{sentence}"):
        read_program(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.json: cannot be read"):
        read_program(tmp_path / "nowhere.json")


def test_the_meta_data_of_a_file_is_kept_for_people(tmp_path):
    write_program(tmp_path / "program.json", random_program(1), {"source": "test"})
    assert json.loads((tmp_path / "program.json").read_text())["meta"] == {"source": "test"}
