"""Programs of one's own for the memory-mapping game.

    python -m datasets.programs torch my_model:training_step --out program.json
    python -m datasets.programs torch my_model:training_step --hardware machine.json --out program.json
    python -m datasets.programs hlo step.hlo --out program.json
    python -m datasets.programs xla-dump buffers.csv --out program.json

`training_step()` returns what is to be mapped and its inputs: a callable and a list of tensors. `step.hlo` is
what `jax.jit(f).lower(x).compile().as_text()` returns, `buffers.csv` the table that XLA's memory space
assignment dumps. `agents.solve memory-mapping` maps a program, and takes all these sources itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from agents.games.memory.game import MemoryGame
from agents.games.memory.hardware import HARDWARE, Hardware, read_hardware
from agents.games.memory.program import Program
from agents.games.memory.program_file import read_program, write_program
from datasets.errors import UserError, run_command
from datasets.program_sources.hlo_program import read_hlo
from datasets.program_sources.torch_trace import trace_program
from datasets.program_sources.xla_dump import read_dump


@dataclass(frozen=True)
class TorchSource:
    """A PyTorch function, traced."""

    target: Annotated[str, tyro.conf.Positional]
    """`module:function`; the function returns a callable and a list of input tensors."""
    out: Path
    """The program's file."""
    hardware: str = "tpu-v4i-like"
    """Name of a machine, or a JSON file with its fields."""
    capacity_fraction: float | None = None
    """Size of fast memory as a share of the most bytes alive at once, instead of the machine's own."""


@dataclass(frozen=True)
class HloSource:
    """A program compiled by XLA, as scheduled HLO text."""

    file: Annotated[Path, tyro.conf.Positional]
    """The text; `jax.jit(f).lower(x).compile().as_text()` returns it."""
    out: Path
    """The program's file."""
    hardware: str = "tpu-v4i-like"
    """Name of a machine, or a JSON file with its fields."""
    capacity_fraction: float | None = None
    """Size of fast memory as a share of the most bytes alive at once, instead of the machine's own."""


@dataclass(frozen=True)
class XlaDumpSource:
    """The buffer table that XLA's memory space assignment dumps."""

    file: Annotated[Path, tyro.conf.Positional]
    """The table, as CSV; it has no loops, arithmetic or bytes of uses, so each use moves the whole buffer."""
    out: Path
    """The program's file."""
    hardware: str = "tpu-v4i-like"
    """Name of a machine, or a JSON file with its fields."""
    capacity_fraction: float | None = None
    """Size of fast memory as a share of the most bytes alive at once, instead of the machine's own."""


def extract(config: TorchSource | HloSource | XlaDumpSource) -> Program:
    """Read a source and write its program.

    Raises:
        UserError: the source, the machine or the share cannot be used.
    """
    hardware = find_hardware(config.hardware)
    if isinstance(config, TorchSource):
        program, source = trace_program(config.target, hardware), f"torch make_fx of {config.target}"
    elif isinstance(config, HloSource):
        program, source = read_hlo(config.file, hardware), f"scheduled HLO of {config.file.name}"
    else:
        program, source = read_dump(config.file, hardware), f"XLA's table of buffers {config.file.name}"
    program = with_capacity(program, config.capacity_fraction)
    meta = {"source": source, "peak_live_bytes": peak_bytes(program)}
    write_program(config.out, program, meta)
    return program


def load_program(source: str, hardware: str | None = None, capacity_fraction: float | None = None) -> Program:
    """A program from whatever describes it.

    Args:
        source: a program's file (.json), XLA's table of buffers (.csv), a file of scheduled HLO text (any
            other ending), or a PyTorch function as `module:function`.
        hardware: name of a machine, or a JSON file with its fields; by default the one in the program's file,
            or tpu-v4i-like.
        capacity_fraction: size of fast memory as a share of the most bytes alive at once.

    Raises:
        UserError: the source, the machine or the share cannot be used.
    """
    path = Path(source)
    if path.suffix == ".json":
        program = read_program(path)
        if hardware is not None:
            program = replace(program, hardware=find_hardware(hardware))
    else:
        machine = find_hardware(hardware or "tpu-v4i-like")
        if path.is_file():
            program = read_dump(path, machine) if path.suffix == ".csv" else read_hlo(path, machine)
        elif ":" in source:
            program = trace_program(source, machine)
        else:
            raise UserError(f"{source}: neither a file nor a PyTorch function, as in my_model:training_step")
    return with_capacity(program, capacity_fraction)


def with_capacity(program: Program, fraction: float | None) -> Program:
    """The program with fast memory of a share of the most bytes alive at once; as it is for None.

    Raises:
        UserError: the share is no share.
    """
    if fraction is None:
        return program
    if not 0 < fraction <= 1:
        raise UserError(f"--capacity-fraction {fraction}: give a share above 0, at most 1")
    capacity = max(program.hardware.alignment, int(fraction * peak_bytes(program)))
    return replace(program, hardware=replace(program.hardware, fast_capacity=capacity))


def find_hardware(name: str) -> Hardware:
    """A machine by name or from a JSON file.

    Raises:
        UserError: there is neither, or a field of the file is wrong.
    """
    if name in HARDWARE:
        return HARDWARE[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(f"--hardware {name}: neither a file nor one of {', '.join(HARDWARE)}")
    try:
        return read_hardware(json.loads(path.read_text()), str(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def peak_bytes(program: Program) -> int:
    """Most bytes alive at once; outputs live to the end, inputs from the start."""
    last = {
        access.buffer: step
        for step, entry in enumerate(program.instructions)
        for access in (*entry.reads, *entry.writes)
    }
    live = sum(buffer.size for buffer in program.buffers if buffer.kind != "temp")
    peak, known = live, {i for i, buffer in enumerate(program.buffers) if buffer.kind != "temp"}
    for step, entry in enumerate(program.instructions):
        for access in entry.writes:
            if access.buffer not in known:
                known.add(access.buffer)
                live += program.buffers[access.buffer].size
        peak = max(peak, live)
        for buffer in {access.buffer for access in (*entry.reads, *entry.writes)}:
            if last[buffer] == step and not program.buffers[buffer].live_out:
                live -= program.buffers[buffer].size
    return peak


def main() -> None:
    """Run the command line."""
    commands = {"torch": TorchSource, "hlo": HloSource, "xla-dump": XlaDumpSource}
    config = tyro.extras.subcommand_cli_from_dict(
        commands, prog="python -m datasets.programs", description=__doc__
    )
    program = extract(config)
    game = MemoryGame(program)
    low = 100 * game.all_fast_seconds / game.all_slow_seconds
    print(
        f"{config.out}: {len(program.buffers)} buffers, {len(program.instructions)} instructions, "
        f"{game.all_slow_seconds * 1e6:.1f} us with everything in slow memory, {low:.1f} % of it at best"
    )


if __name__ == "__main__":
    run_command(main)
