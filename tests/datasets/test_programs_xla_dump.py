"""Programs of one's own, from XLA's table of buffers."""

import csv
from pathlib import Path

import pytest

from agents.games.memory.hardware import TPU_V4I_LIKE
from agents.games.memory.heuristics import xla_style
from agents.games.memory.plans import export_plan
from agents.games.memory.program import Program
from agents.games.memory.program_file import read_program
from agents.games.memory.validator import find_violations
from datasets.errors import UserError
from datasets.program_sources.hlo_program import read_hlo
from datasets.program_sources.xla_dump import DumpedBuffer, read_dump
from datasets.programs import XlaDumpSource, extract, peak_bytes

HEAD = "buffer_id,buffer_name,alt_mem_benefit,size,definition_time,use_times,use_names"
ROWS = """
0,"param_0",1.5,4096,0,"3;5","%fusion.1;%dot"
1,"fusion.1",2.5,8192,3,"5;5","%dot;%dot"
2,"dot",0.5,2048,5,"",""
3,"tiny",0.5,8,1,"3","%fusion.1"
"""


def program_of(tmp_path: Path, text: str) -> Program:
    path = tmp_path / "buffers.csv"
    path.write_text(text)
    return read_dump(path, TPU_V4I_LIKE)


def accesses(program: Program) -> list[tuple[str, list[tuple[int, int]], list[tuple[int, int]]]]:
    return [
        (
            entry.name,
            [(access.buffer, access.num_bytes) for access in entry.reads],
            [(access.buffer, access.num_bytes) for access in entry.writes],
        )
        for entry in program.instructions
    ]


def test_definitions_write_and_uses_read_whole_buffers(tmp_path):
    program = program_of(tmp_path, HEAD + ROWS)
    assert accesses(program) == [
        ("fusion.1", [(0, 4096)], [(1, 8192)]),
        ("dot", [(0, 4096), (1, 8192)], [(2, 2048)]),
    ]
    assert [(buffer.kind, buffer.live_out) for buffer in program.buffers] == [
        ("param", False), ("temp", False), ("temp", True),
    ]  # fmt: skip
    assert {entry.flops for entry in program.instructions} == {0.0}


def test_scoped_rows_are_left_out_and_older_tables_have_none(tmp_path):
    rows = ROWS.strip().splitlines()
    scoped = "\n".join(
        [HEAD + ",is_scoped", *(f"{row},false" for row in rows), '9,scratch,0,4096,3,"5","x",true']
    )
    assert program_of(tmp_path, scoped) == program_of(tmp_path, HEAD + ROWS)


def test_uses_without_a_name_each_are_named_by_their_time(tmp_path):
    program = program_of(tmp_path, HEAD + '\n0,constant.3,0,512,0,"2;7","one, operand 0"\n')
    assert [entry.name for entry in program.instructions] == ["time 2", "time 7"]


def test_a_use_at_the_definition_is_part_of_the_write(tmp_path):
    program = program_of(tmp_path, HEAD + '\n0,sine,0,512,4,"4;6","sine;cosine"\n')
    assert accesses(program) == [("sine", [], [(0, 512)]), ("cosine", [(0, 512)], [])]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("param_0.1", "param"),
        ("%Parameter.3", "param"),
        ("<12 param.1{0} @0>", "param"),
        ("%constant.7", "const"),
        ("<3 fusion.2 @0>", "temp"),
    ],
)
def test_kinds_are_told_by_the_name(name, kind):
    assert DumpedBuffer(name, 512, 0, (), ()).kind == kind


def test_a_table_written_from_a_program_gives_its_lifetimes_back(tmp_path):
    """The same buffers as in HLO without loops, so the same bytes alive."""
    origin = read_hlo(Path(__file__).parents[1] / "data" / "mlp_step.hlo", TPU_V4I_LIKE)
    path = tmp_path / "buffers.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(HEAD.split(","))
        for index, buffer in enumerate(origin.buffers):
            users = [
                (step, entry.name)
                for step, entry in enumerate(origin.instructions)
                if index in {access.buffer for access in entry.reads}
            ]
            written = [
                step
                for step, entry in enumerate(origin.instructions)
                if index in {access.buffer for access in entry.writes}
            ]
            name = f"param.{index}" if buffer.kind == "param" else buffer.name
            times, names = (";".join(str(user[place]) for user in users) for place in (0, 1))
            table.writerow([index, name, 0.0, buffer.size, written[0] if written else -1, times, names])
    config = XlaDumpSource(path, tmp_path / "program.json", capacity_fraction=0.3)
    program = read_program(config.out) if extract(config) else None
    assert program is not None
    assert peak_bytes(program) == peak_bytes(origin)
    assert [entry.name for entry in program.instructions] == [entry.name for entry in origin.instructions]
    assert [buffer.live_out for buffer in program.buffers] == [buffer.live_out for buffer in origin.buffers]
    assert find_violations(program, export_plan(xla_style(program))) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"buffers\.csv:1: column buffer_id is missing"),
        ("HloModule x\n", r"buffers\.csv:1: column buffer_id is missing"),
        (HEAD.replace(",size", "") + "\n", r"buffers\.csv:1: column size is missing"),
        (HEAD + "\n", r"buffers\.csv: has no buffer of 256 bytes or more"),
        (HEAD + "\n0,a,0,512,1,2,b\n0,c,0,512,1,2,b\n", r"buffers\.csv:3: buffer_id 0 is listed twice"),
        (HEAD + "\n0,a,0,many,1,2,b\n", r"buffers\.csv:2: size: 'many' is not a whole number"),
        (HEAD + "\n0,a,0,-5,1,2,b\n", r"buffers\.csv:2: size: -5 bytes"),
        (HEAD + "\n0,a,0,512\n", r"buffers\.csv:2: definition_time: '' is not a whole number"),
        (HEAD + "\n0,a,0,512,1,2;x,b;c\n", r"buffers\.csv:2: use_times: 'x' is not a whole number"),
        (HEAD + "\n0,a,0,512,5,3,b\n", r"buffers\.csv:2: use_times: 3 is before the definition at 5"),
        (HEAD + '\n0,"' + "a" * 200_000 + '",0,512,5,,\n', r"buffers\.csv: not CSV"),
        (HEAD + "\n0,param,0,512,5,,\n", r"buffers\.csv: instructions is empty"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path, text, sentence):
    with pytest.raises(UserError, match=sentence):
        program_of(tmp_path, text)
