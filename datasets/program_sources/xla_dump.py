"""The buffer table that XLA's memory space assignment dumps, as a program of the memory-mapping game.

A row is a buffer: its size, when it is defined and when it is used. Nothing is in it about how many bytes a
use moves, about arithmetic, loops, inputs and outputs. So this is assumed:

- Each time at which something is defined or used is one instruction. It reads the whole of each buffer that
  is used then, writes the whole of each that is defined then, and computes nothing: time is memory traffic.
  A use at the time of the definition is part of the write.
- A buffer whose name starts with `param` or `constant` is in slow memory from the start.
- Any other buffer that is never used is an output, which slow memory must hold at the end.
- Rows with `is_scoped` true, which always lie in fast memory, are left out, as are buffers below 256 bytes.
- `alt_mem_benefit` is not read: the game prices accesses itself.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.games.memory.hardware import Hardware
from agents.games.memory.program import Access, Buffer, Instruction, Program
from agents.games.memory.program_checks import check_program
from datasets.errors import UserError

SMALLEST = 256
"""Buffers of fewer bytes are left out, as in SPEC section 1."""
COLUMNS = ("buffer_id", "buffer_name", "size", "definition_time", "use_times", "use_names")
"""Columns that are read; others may be there."""


@dataclass(frozen=True)
class DumpedBuffer:
    """A row of the table."""

    name: str
    """Name of the buffer."""
    size: int
    """Bytes."""
    defined: int
    """Time of its definition."""
    uses: tuple[int, ...]
    """Times after that at which it is used, ascending."""
    use_names: tuple[str, ...]
    """Names of those uses; empty texts where they are not told apart."""

    @property
    def kind(self) -> str:
        """What the program has it as, by its name."""
        bare = re.sub(r"^[^a-z]*(\d+\s)?[^a-z]*", "", self.name.lower())
        if bare.startswith("param"):
            return "param"
        return "const" if bare.startswith("constant") else "temp"


def read_dump(path: str | Path, hardware: Hardware) -> Program:
    """Read a table into a program.

    Raises:
        UserError: the file cannot be read or is no such table; the sentence names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as text ({error}); give the CSV that memory space assignment dumps"
        ) from error
    try:
        rows = [row for row in parse_dump(text, str(path)) if row.size >= SMALLEST]
    except csv.Error as error:
        raise UserError(f"{path}: not CSV ({error})") from error
    if not rows:
        raise UserError(f"{path}: has no buffer of {SMALLEST} bytes or more; there is nothing to map")
    program = program_of_dump(rows, path.stem, hardware)
    check_program(program, str(path))
    return program


def parse_dump(text: str, source: str) -> Iterator[DumpedBuffer]:
    """Read the rows, but for scoped ones.

    Args:
        text: the whole file.
        source: how to name it in an error.

    Raises:
        UserError: a column is missing, a number is none, or a buffer is listed twice or used too early.
    """
    table = csv.DictReader(io.StringIO(text), skipinitialspace=True, restval="")
    missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise UserError(
            f"{source}:1: column {missing[0]} is missing; give the CSV that memory space assignment dumps"
        )
    seen: set[str] = set()
    for row in table:
        where = f"{source}:{table.line_num}"
        if row["buffer_id"] in seen:
            raise UserError(f"{where}: buffer_id {row['buffer_id']} is listed twice; keep one of the rows")
        seen.add(row["buffer_id"])
        if (row.get("is_scoped") or "").strip().lower() not in ("true", "1"):
            yield _parse_row(row, where)


def program_of_dump(rows: Sequence[DumpedBuffer], name: str, hardware: Hardware) -> Program:
    """Lay buffers out: an instruction for each time at which one of them is defined or used."""
    reads: dict[int, list[Access]] = {}
    writes: dict[int, list[Access]] = {}
    names: dict[int, str] = {}
    buffers = []
    for index, row in enumerate(rows):
        kind = row.kind
        buffers.append(Buffer(row.name, row.size, kind, live_out=kind == "temp" and not row.uses))
        if kind == "temp":
            writes.setdefault(row.defined, []).append(Access(index, row.size))
            names[row.defined] = row.name
        for time, use in zip(row.uses, row.use_names, strict=True):
            reads.setdefault(time, []).append(Access(index, row.size))
            names.setdefault(time, use or f"time {time}")
    instructions = tuple(
        Instruction(
            names[time], "unknown", 0.0, 1, 0, tuple(reads.get(time, ())), tuple(writes.get(time, ()))
        )
        for time in sorted(reads.keys() | writes.keys())
    )
    return Program(name, hardware, tuple(buffers), instructions)


def _parse_row(row: dict[str, str], where: str) -> DumpedBuffer:
    size = _whole(row["size"], f"{where}: size")
    if size < 0:
        raise UserError(f"{where}: size: {size} bytes; a size cannot be negative")
    defined = _whole(row["definition_time"], f"{where}: definition_time")
    texts = [text for text in row["use_times"].split(";") if text.strip()]
    times = [_whole(text, f"{where}: use_times") for text in texts]
    names = row["use_names"].split(";")
    if len(names) != len(times):  # a name may hold a semicolon itself
        names = [""] * len(times)
    if times and min(times) < defined:
        raise UserError(f"{where}: use_times: {min(times)} is before the definition at {defined}")
    uses = dict(sorted((time, use) for time, use in zip(times, names, strict=True) if time > defined))
    return DumpedBuffer(row["buffer_name"], size, defined, tuple(uses), tuple(uses.values()))


def _whole(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"{where}: {text!r} is not a whole number") from error
