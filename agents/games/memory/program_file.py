"""Programs as JSON files of the format `mmap-instance-v1`: reading with every fault named, and writing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.games.memory.hardware import read_hardware
from agents.games.memory.program import KINDS, Access, Buffer, Instruction, Program
from agents.games.memory.program_checks import check_program
from datasets.errors import UserError
from datasets.files import replace_file

FORMAT = "mmap-instance-v1"


def read_program(path: str | Path) -> Program:
    """Read a program and hold it to the rules of its format.

    Raises:
        UserError: the file is missing, not JSON, or breaks a rule; the sentence names file, field and remedy.
    """
    path = Path(path)
    try:
        fields = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a program") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error}); give a file of the format {FORMAT}") from error
    return parse_program(fields, str(path))


def parse_program(fields: Any, source: str) -> Program:
    """Make a program of parsed JSON.

    Args:
        fields: the parsed file.
        source: how to name it in an error.

    Raises:
        UserError: a field is missing, of the wrong type, or breaks a rule of the format.
    """
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        raise UserError(f"{source}: format is {found!r}; expected {FORMAT!r}")
    hardware = read_hardware(fields.get("hw"), f"{source}: hw")
    buffers = tuple(
        _parse_buffer(entry, index, f"{source}: buffers[{index}]")
        for index, entry in enumerate(_list(fields, "buffers", source))
    )
    instructions = tuple(
        _parse_instruction(entry, f"{source}: instructions[{index}]")
        for index, entry in enumerate(_list(fields, "instructions", source))
    )
    program = Program(_text(fields, "name", source), hardware, buffers, instructions)
    check_program(program, source)
    return program


def write_program(path: str | Path, program: Program, meta: dict[str, Any] | None = None) -> None:
    """Write a program; `meta` is kept for people and not read."""
    fields = {
        "format": FORMAT,
        "name": program.name,
        "meta": meta or {},
        "hw": asdict(program.hardware),
        "buffers": [{"id": index, **asdict(buffer)} for index, buffer in enumerate(program.buffers)],
        "instructions": [
            {
                "id": index, "name": entry.name, "op": entry.op, "flops": entry.flops, "mult": entry.mult,
                "region": entry.region,
                "reads": [[access.buffer, access.num_bytes] for access in entry.reads],
                "writes": [[access.buffer, access.num_bytes] for access in entry.writes],
            }
            for index, entry in enumerate(program.instructions)
        ],
    }  # fmt: skip
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(fields, separators=(",", ":")))


def _parse_buffer(entry: Any, index: int, where: str) -> Buffer:
    if _whole(entry, "id", where) != index:
        raise UserError(f"{where}.id: is {entry['id']}; buffers must be listed by id from 0 without gaps")
    kind = _text(entry, "kind", where)
    if kind not in KINDS:
        raise UserError(f"{where}.kind: {kind!r} is none of {', '.join(KINDS)}")
    group = _whole(entry, "alias_group", where) if "alias_group" in entry else -1
    return Buffer(
        name=_text(entry, "name", where),
        size=_whole(entry, "size", where),
        kind=kind,
        live_out=_truth(entry, "live_out", where),
        alias_group=group,
        pinned=_truth(entry, "pinned", where),
    )


def _parse_instruction(entry: Any, where: str) -> Instruction:
    flops = entry.get("flops", 0) if isinstance(entry, dict) else None
    if isinstance(flops, bool) or not isinstance(flops, int | float):
        raise UserError(f"{where}.flops: expected a number, not {flops!r}")
    return Instruction(
        name=_text(entry, "name", where),
        op=str(entry.get("op", "")),
        flops=float(flops),
        mult=_whole(entry, "mult", where) if "mult" in entry else 1,
        region=_whole(entry, "region", where) if "region" in entry else 0,
        reads=_parse_accesses(entry, "reads", where),
        writes=_parse_accesses(entry, "writes", where),
    )


def _parse_accesses(entry: Any, name: str, where: str) -> tuple[Access, ...]:
    """Read `[[buffer, bytes], ...]`; what names a buffer twice becomes one access."""
    total: dict[int, int] = {}
    for index, pair in enumerate(_list(entry, name, where)):
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(number) is int for number in pair):
            raise UserError(f"{where}.{name}[{index}]: expected [buffer, bytes], not {pair!r}")
        if pair[1] < 0:
            raise UserError(f"{where}.{name}[{index}]: {pair[1]} bytes; an access cannot move less than 0")
        total[pair[0]] = total.get(pair[0], 0) + pair[1]
    return tuple(Access(buffer, num_bytes) for buffer, num_bytes in total.items())


def _list(entry: Any, name: str, where: str) -> list:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, list):
        raise UserError(f"{where}: {name} must be a list, is {value!r}")
    return value


def _text(entry: Any, name: str, where: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise UserError(f"{where}: {name} must be text, is {value!r}")
    return value


def _whole(entry: Any, name: str, where: str) -> int:
    value = entry.get(name) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{where}: {name} must be a whole number, is {value!r}")
    return value


def _truth(entry: Any, name: str, where: str) -> bool:
    value = entry.get(name, False)
    if not isinstance(value, bool):
        raise UserError(f"{where}: {name} must be true or false, is {value!r}")
    return value
