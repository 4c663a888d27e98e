"""Programs of one's own, from scheduled HLO text."""

from pathlib import Path

import pytest

from agents.games.memory.hardware import TPU_V4I_LIKE
from agents.games.memory.heuristics import xla_style
from agents.games.memory.plans import export_plan
from agents.games.memory.program import Instruction, Program
from agents.games.memory.program_file import read_program
from agents.games.memory.validator import find_violations
from datasets.errors import UserError
from datasets.program_sources.hlo_program import read_hlo
from datasets.program_sources.hlo_text import Shape, parse_shape, split_list
from datasets.programs import HloSource, extract

DATA = Path(__file__).parents[1] / "data"
HEAD = "HloModule test, is_scheduled=true\n\n"


def program_of(tmp_path: Path, text: str) -> Program:
    path = tmp_path / "test.hlo"
    path.write_text(text)
    return read_hlo(path, TPU_V4I_LIKE)


def step(program: Program, name: str) -> Instruction:
    return next(entry for entry in program.instructions if entry.name == name)


def names(program: Program, accesses) -> dict[str, int]:
    return {program.buffers[access.buffer].name: access.num_bytes for access in accesses}


def test_shapes_are_read_with_their_bytes():
    assert parse_shape("f32[2,3]{1,0:T(8,128)}") == Shape("f32", (2, 3))
    pair = parse_shape("(s32[], (bf16[4]{0}, pred[<=8]))")
    assert [leaf.num_bytes for leaf in pair.leaves] == [4, 8, 8]
    assert parse_shape("u4[3]").num_bytes == 2
    assert parse_shape("f8e4m3fn[5]").num_bytes == 5
    assert parse_shape("()").leaves == ()
    with pytest.raises(ValueError, match="unknown"):
        parse_shape("what[3]")


def test_lists_are_split_outside_of_brackets_and_quotes():
    assert split_list('f32[2,3] %a, "x,y", {1,2}, (b, c)') == ["f32[2,3] %a", '"x,y"', "{1,2}", "(b, c)"]


def test_a_training_step_has_the_flops_of_its_products():
    program = read_hlo(DATA / "mlp_step.hlo", TPU_V4I_LIKE)
    batch, sizes = 128, [(256, 512), (512, 512), (512, 64)]
    forward = [2 * batch * rows * columns for rows, columns in sizes]
    # Gradients of all weights, and of the inputs of all layers but the first.
    products = sum(forward) + sum(forward) + sum(forward[1:])
    total = sum(entry.flops for entry in program.instructions)
    assert products < total < 1.02 * products
    assert step(program, "dot.2").flops == forward[2]
    outputs = sorted(buffer.size for buffer in program.buffers if buffer.live_out)
    # The loss is too small to be a buffer.
    assert outputs == sorted(4 * count for pair in sizes for count in (pair[0] * pair[1], pair[1]))


def test_bitcasts_share_the_buffer_of_what_they_look_at():
    program = read_hlo(DATA / "attention.hlo", TPU_V4I_LIKE)
    assert "bitcast" not in {buffer.name for buffer in program.buffers}
    assert names(program, step(program, "ynn_fusion.7").reads) == {
        "inputs.1": 4 * 64 * 128 * 4,
        "value.1": 128 * 128 * 4,
    }
    assert [buffer.kind for buffer in program.buffers[:5]] == ["param"] * 5
    scores = 2 * 4 * 4 * 64 * 64 * 32
    assert step(program, "ynn_fusion.4").flops == scores


def test_a_scan_is_one_region_with_pinned_buffers_and_groups():
    program = read_hlo(DATA / "recurrent_scan.hlo", TPU_V4I_LIKE)
    inside = [entry for entry in program.instructions if entry.region == 1]
    assert {entry.mult for entry in inside} == {12}
    assert {entry.mult for entry in program.instructions if entry.region == 0} == {1}
    by_name = {buffer.name: buffer for buffer in program.buffers}
    assert by_name["recurrent.1"].pinned
    assert not by_name["hidden.1"].pinned
    assert by_name["copy.10"].alias_group == by_name["add_tanh_fusion"].alias_group >= 0
    stacked = by_name["bitcast_dynamic-update-slice_fusion"]
    assert by_name["wrapped_broadcast"].alias_group == stacked.alias_group >= 0
    assert stacked.live_out
    # A turn reads and writes one of twelve slices only.
    assert names(program, step(program, "dynamic-slice_bitcast_fusion").reads) == {"inputs.1": 32 * 128 * 4}
    update = step(program, "bitcast_dynamic-update-slice_fusion")
    assert names(program, update.reads) == {"wrapped_broadcast": 0, "add_tanh_fusion": 32 * 256 * 4}
    assert names(program, update.writes) == {stacked.name: 32 * 256 * 4}


def test_a_loop_of_unknown_length_counts_eight_turns(tmp_path):
    text = (DATA / "recurrent_scan.hlo").read_text().replace('"known_trip_count":{"n":"12"}', '"other":1')
    assert {entry.mult for entry in program_of(tmp_path, text).instructions} == {1, 8}


UPDATE = """ENTRY main {
  cache = f32[64,16]{1,0} parameter(0)
  row = f32[8,16]{1,0} parameter(1)
  at = s32[] constant(0)
  start = f32[64,16]{1,0} copy(cache)
  after = f32[64,16]{1,0} dynamic-update-slice(start, row, at, at)
  ROOT sum = f32[64,16]{1,0} add(after, %s)
}
"""


def test_an_update_is_in_place_where_nothing_reads_the_old_values(tmp_path):
    program = program_of(tmp_path, HEAD + UPDATE % "cache")
    assert names(program, step(program, "after").writes) == {"after": 8 * 16 * 4}
    assert program.buffers[2].alias_group == program.buffers[3].alias_group == 0


def test_an_update_whose_old_values_are_read_later_moves_everything(tmp_path):
    program = program_of(tmp_path, HEAD + UPDATE % "start")
    after = step(program, "after")
    assert names(program, after.reads) == {"start": 4096, "row": 512}
    assert names(program, after.writes) == {"after": 4096}
    assert {buffer.alias_group for buffer in program.buffers} == {-1}


def test_tuples_are_views_of_their_elements(tmp_path):
    text = (
        HEAD
        + """ENTRY %main (x: f32[128]) -> (f32[128], (f32[128], f32[128])) {
  %x = f32[128]{0} parameter(0), metadata={op_name="a,b={c" source_file="f.py"}
  %sin = f32[128]{0} sine(f32[128]{0} %x)
  %cos = f32[128]{0} cosine(f32[128]{0} %x)
  %inner = (f32[128], f32[128]) tuple(%cos, %sin)
  %both = (f32[128], (f32[128], f32[128])) tuple(%sin, /*index=1*/%inner)
  %second = (f32[128], f32[128]) get-tuple-element(%both), index=1
  %first = f32[128]{0} get-tuple-element(%second), index=0
  ROOT %tanh = f32[128]{0} tanh(%first)
}
"""
    )
    program = program_of(tmp_path, text)
    assert [buffer.name for buffer in program.buffers] == ["x", "sin", "cos", "tanh"]
    assert names(program, step(program, "tanh").reads) == {"cos": 512}
    assert [buffer.live_out for buffer in program.buffers] == [False, False, False, True]


def test_a_convolution_counts_its_kernel(tmp_path):
    text = (
        HEAD
        + """ENTRY %main {
  %x = f32[4,32,32,16]{3,2,1,0} parameter(0)
  %w = f32[3,3,16,32]{3,2,1,0} parameter(1)
  ROOT %y = f32[4,16,16,32]{3,2,1,0} convolution(%x, %w), window={size=3x3}, dim_labels=b01f_01io->b01f
}
"""
    )
    assert step(program_of(tmp_path, text), "y").flops == 2 * 4 * 16 * 16 * 32 * 3 * 3 * 16


def test_calls_are_laid_out_in_place_and_conditionals_count_their_longest_branch(tmp_path):
    text = (
        HEAD
        + """%short (a: f32[128]) -> f32[128] {
  %a = f32[128]{0} parameter(0)
  ROOT %negate = f32[128]{0} negate(%a)
}

%long (b: f32[128]) -> f32[128] {
  %b = f32[128]{0} parameter(0)
  %twice = f32[128]{0} add(%b, %b)
  ROOT %thrice = f32[128]{0} add(%twice, %b)
}

ENTRY %main {
  %x = f32[128]{0} parameter(0)
  %which = s32[] parameter(1)
  %called = f32[128]{0} call(%x), to_apply=%short
  ROOT %one = f32[128]{0} conditional(%which, %called, %x), branch_computations={%short, %long}
}
"""
    )
    program = program_of(tmp_path, text)
    assert [entry.name for entry in program.instructions] == ["negate", "one"]
    assert step(program, "one").flops == 256
    assert names(program, step(program, "one").reads) == {"negate": 512, "x": 512}


@pytest.mark.parametrize("name", ["mlp_step", "recurrent_scan", "attention"])
def test_an_extracted_program_is_mapped_with_a_valid_plan(name, tmp_path):
    config = HloSource(DATA / f"{name}.hlo", tmp_path / "program.json", capacity_fraction=0.4)
    written = extract(config)
    program = read_program(config.out)
    assert program == written
    assert program.name == name
    assert find_violations(program, export_plan(xla_style(program))) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"test\.hlo:1: expected 'HloModule"),
        ("a,b\n1,2\n", r"test\.hlo:1: expected 'HloModule"),
        ("HloModule test\n", r"test\.hlo:1: the module is not scheduled"),
        (HEAD, r"test\.hlo:2: there is no ENTRY"),
        (HEAD + "ENTRY %main {\n  ROOT %x = f32[64] parameter(0)\n", r"test\.hlo:4: .* has no end"),
        (HEAD + "ENTRY %main {\n  %x = f32[64] parameter(0)\n}\n", r"test\.hlo:3: .* exactly one ROOT"),
        (HEAD + "ENTRY %main {\n  hello\n}\n", r"test\.hlo:4: not an HLO instruction"),
        (HEAD + "ENTRY %main {\n  ROOT %x = what[64] sine(%x)\n}\n", r"test\.hlo:4: .* type what"),
        (
            HEAD + "ENTRY %main {\n  ROOT %x = f32[64] sine(%y)\n}\n",
            r"test\.hlo:4: x: operand y is not defined",
        ),
        (
            HEAD
            + "ENTRY %main {\n  %x = f32[64] parameter(0)\n  ROOT %y = f32[64] fusion(%x), calls=%gone\n}\n",
            r"test\.hlo:5: y: fusion names no computation by calls=",
        ),
        (
            HEAD
            + "ENTRY %main {\n  %x = f32[64] parameter(0)\n  ROOT %y = f32[64] all-reduce-start(%x)\n}\n",
            r"test\.hlo:5: y: all-reduce-start is not supported",
        ),
        (
            HEAD
            + "ENTRY %main {\n  %x = f32[64] parameter(0)\n  ROOT %y = f32[64] call(%x), to_apply=%main\n}\n",
            r"test\.hlo:5: y: call names no computation by to_apply= above it",
        ),
        (
            HEAD + "ENTRY %main {\n  %x = f32[64] parameter(0)\n  ROOT %y = f32[64] slice()\n}\n",
            r"test\.hlo:5: y: operands or attributes do not fit",
        ),
    ],
)
def test_text_that_is_no_scheduled_hlo_is_refused_with_its_line(tmp_path, text, sentence):
    with pytest.raises(UserError, match=sentence):
        program_of(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.hlo: cannot be read"):
        read_hlo(tmp_path / "none.hlo", TPU_V4I_LIKE)


def test_damaged_text_is_read_or_refused_with_a_line(tmp_path):
    """No damage to a text ends in anything but a program or a sentence."""
    lines = (DATA / "recurrent_scan.hlo").read_text().splitlines()
    complaints = []
    for number in range(2, len(lines)):
        for damaged in (lines[number][: len(lines[number]) // 2], lines[number].replace("[", "[9,", 1), ""):
            try:
                program_of(tmp_path, "\n".join([*lines[:number], damaged, *lines[number + 1 :]]))
            except UserError as error:
                complaints.append(str(error))
    assert len(complaints) > len(lines)
    assert all(complaint.startswith(f"{tmp_path / 'test.hlo'}:") for complaint in complaints)
