"""Programs of one's own, from PyTorch functions."""

import json
from pathlib import Path

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from agents.games.memory.hardware import TPU_V4I_LIKE
from agents.games.memory.heuristics import xla_style
from agents.games.memory.plans import export_plan
from agents.games.memory.program import Program
from agents.games.memory.program_file import read_program
from agents.games.memory.validator import find_violations
from datasets.errors import UserError
from datasets.program_sources.hlo_program import read_hlo
from datasets.program_sources.torch_trace import program_of_graph, trace_program
from datasets.programs import TorchSource, extract, find_hardware, load_program, peak_bytes

MODULE = """
import torch

def layer():
    def step(x, w):
        hidden = torch.tanh(x @ w)
        return hidden, hidden.t() @ hidden
    return step, [torch.randn(32, 64), torch.randn(64, 16)]

def any_number():
    return (lambda *weights: weights[0] @ weights[1]), [torch.randn(32, 32), torch.randn(32, 32)]

def no_tuple():
    return 3

def no_tensors():
    return (lambda x: x), [1]

def broken():
    return (lambda x: x @ x), [torch.randn(2, 3)]
"""


def program_of(function, *inputs: torch.Tensor) -> Program:
    return program_of_graph(make_fx(function, tracing_mode="fake")(*inputs), "test", TPU_V4I_LIKE)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's in the working directory."""
    name = f"user_module_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_layer_becomes_what_it_computes(module):
    program = trace_program(f"{module}:layer", TPU_V4I_LIKE)
    sizes = [(buffer.size, buffer.kind, buffer.live_out) for buffer in program.buffers]
    inputs = [(32 * 64 * 4, "param", False), (64 * 16 * 4, "param", False)]
    # The transposed view has no buffer of its own.
    assert sizes == [*inputs, (2048, "temp", False), (2048, "temp", True), (16 * 16 * 4, "temp", True)]
    assert [buffer.name for buffer in program.buffers[:2]] == ["x", "w"]
    product, activation, gram = program.instructions
    assert product.flops == 2 * 32 * 64 * 16
    assert [(access.buffer, access.num_bytes) for access in product.reads] == [(0, 8192), (1, 4096)]
    assert activation.flops == 32 * 16
    assert [access.buffer for access in gram.reads] == [3]


def test_writing_in_place_reads_and_writes_the_same_buffer():
    program = program_of(lambda x, y: x.mul_(y), torch.ones(128), torch.ones(128))
    (entry,) = program.instructions
    assert sorted(access.buffer for access in entry.reads) == [0, 1]
    assert [access.buffer for access in entry.writes] == [0]


def test_small_tensors_are_left_out():
    program = program_of(lambda x, y: x * y, torch.ones(128), torch.ones(1))
    assert [buffer.size for buffer in program.buffers] == [512, 512]


def test_the_most_bytes_alive_are_those_of_inputs_and_results():
    program = program_of(lambda x: torch.tanh(torch.sin(x)), torch.ones(256))
    # When tanh runs, what sin read is over.
    assert peak_bytes(program) == 2 * 1024


def test_an_extracted_program_is_mapped_with_a_valid_plan(module, tmp_path):
    config = TorchSource(f"{module}:layer", tmp_path / "program.json", capacity_fraction=0.5)
    written = extract(config)
    program = read_program(config.out)
    assert program == written
    assert program.hardware.fast_capacity == int(0.5 * peak_bytes(program))
    assert find_violations(program, export_plan(xla_style(program))) == []


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("nothing", "has no attribute"),
        ("no_tuple", "must return .callable, inputs., returns int"),
        ("no_tensors", "must be a list of tensors"),
        ("broken", "cannot be traced"),
    ],
)
def test_what_cannot_be_traced_is_refused(module, function, sentence):
    with pytest.raises(UserError, match=f"{module}:{function}: .*{sentence}"):
        trace_program(f"{module}:{function}", TPU_V4I_LIKE)


def test_a_target_without_a_function_is_refused():
    with pytest.raises(UserError, match="expected module:function"):
        trace_program("my_model", TPU_V4I_LIKE)


def test_machines_are_found_by_name_and_by_file(tmp_path):
    assert find_hardware("tpu-v4i-like") == TPU_V4I_LIKE
    fields = {"peak_flops": 1e12, "bw_slow": 1e9, "bw_fast": 1e10, "bw_dma": 1e9, "fast_capacity": 4096}
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(fields | {"alignment": 512}))
    assert find_hardware(str(path)).alignment == 512
    path.write_text(json.dumps(fields | {"alignment": 0}))
    with pytest.raises(UserError, match=r"machine.json.alignment: must be positive"):
        find_hardware(str(path))
    with pytest.raises(UserError, match="neither a file nor one of tpu-v4i-like"):
        find_hardware("tpu-v9")


def test_a_share_of_nothing_is_refused(module, tmp_path):
    with pytest.raises(UserError, match="capacity-fraction"):
        extract(TorchSource(f"{module}:layer", tmp_path / "p.json", capacity_fraction=0.0))


def test_inputs_are_called_as_the_function_calls_them(module):
    program = trace_program(f"{module}:any_number", TPU_V4I_LIKE)
    assert [buffer.name for buffer in program.buffers[:2]] == ["weights_0", "weights_1"]


def test_a_program_is_loaded_from_whatever_describes_it(module, tmp_path):
    traced = load_program(f"{module}:layer")
    assert traced == trace_program(f"{module}:layer", TPU_V4I_LIKE)
    half = load_program(f"{module}:layer", capacity_fraction=0.5)
    assert half.hardware.fast_capacity == peak_bytes(traced) // 2

    config = TorchSource(f"{module}:layer", tmp_path / "layer.json")
    extract(config)
    assert load_program(str(config.out)).buffers == traced.buffers
    machine = json.loads(config.out.read_text())["hw"] | {"bw_dma": 1e9}
    (tmp_path / "machine.json").write_text(json.dumps(machine))
    assert load_program(str(config.out), str(tmp_path / "machine.json")).hardware.bw_dma == 1e9
    assert load_program(f"{module}:layer", str(tmp_path / "machine.json")).hardware.bw_dma == 1e9

    hlo = Path(__file__).parents[1] / "data" / "mlp_step.hlo"
    assert load_program(str(hlo)) == read_hlo(hlo, TPU_V4I_LIKE)


@pytest.mark.parametrize(
    ("source", "fraction", "sentence"),
    [
        ("nowhere", None, "nowhere: neither a file nor a PyTorch function"),
        ("nowhere.json", None, "nowhere.json: cannot be read"),
        ("nowhere:step", None, "No module named 'nowhere'"),
        ("{module}:layer", 1.5, "--capacity-fraction 1.5"),
    ],
)
def test_what_describes_no_program_is_named(module, source, fraction, sentence):
    with pytest.raises(UserError, match=sentence):
        load_program(source.format(module=module), capacity_fraction=fraction)
