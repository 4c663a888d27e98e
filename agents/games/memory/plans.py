"""Plans in the exchange format `mmap-plan-v1` (SPEC section 11): what any program can check.

Offsets are bytes; times are integer nanoseconds of the planning clock that `clock_lambda` names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.games.memory.book import BLOCKS, NONE
from agents.games.memory.heuristics import Solution
from agents.games.memory.tables import BUFFER, IS_GROUP, IS_WRITE, STEP, units_of
from datasets.errors import UserError
from datasets.files import replace_file

FORMAT = "mmap-plan-v1"
Interval = tuple[int, int]


@dataclass(frozen=True)
class Run:
    """A stay of one buffer in fast memory."""

    buffer: int
    """Index of the buffer."""
    offset: int
    """Bytes from the start of fast memory."""
    block: Interval
    """When the room is taken."""
    accesses: tuple[tuple[int, str], ...]
    """Instruction and `r` or `w` of each access served from it."""
    copy_in: Interval | None
    """The copy that filled it; None if the first access wrote it."""
    write_back: Interval | None
    """The copy to slow memory, if there is one."""


@dataclass(frozen=True)
class Held:
    """A pinned buffer or an alias group that is in fast memory from its first use to its last."""

    buffers: tuple[int, ...]
    """All buffers of the group."""
    offset: int
    """Bytes from the start of fast memory."""
    block: Interval
    """When the room is taken."""
    copy_in: Interval | None
    """The copy that filled it; None if the first use wrote it."""


@dataclass(frozen=True)
class Plan:
    """What a program does with fast memory; accesses that are not named are served from slow memory."""

    program: str
    """Name of the program."""
    clock_lambda: float
    """Planning clock of all times, in [0, 1]."""
    runs: tuple[Run, ...]
    """Stays of single buffers."""
    groups: tuple[Held, ...]
    """Stays of groups."""
    simulated_time_us: float
    """The score in microseconds."""
    all_slow_time_us: float
    """Time of the program with everything in slow memory, in microseconds."""


def export_plan(solution: Solution) -> Plan:
    """Write out a finished plan, runs by the time that their room is taken."""
    game, book = solution.game, solution.book
    words, tables = book.words, game.tables
    units = units_of(game.program)
    served: dict[int, list[tuple[int, str]]] = {}
    owner: dict[int, int] = {}
    for access, row in enumerate(tables.access):
        block = int(words[book.access_block + access])
        if block != NONE:
            served.setdefault(block, []).append((int(row[STEP]), "w" if row[IS_WRITE] else "r"))
            owner[block] = int(row[BUFFER])
    runs, groups = [], []
    for block in range(words[BLOCKS]):
        unit = words[book.block_unit + block]
        offset = int(words[book.block_offset + block]) * game.program.hardware.alignment
        room = (int(words[book.block_start + block]), int(words[book.block_end + block]))
        copy_in = _copy(solution, words[book.block_copy + block])
        if tables.unit[unit, IS_GROUP]:
            groups.append(Held(units[unit], offset, room, copy_in))
        else:
            back = _copy(solution, words[book.block_back + block])
            runs.append(Run(owner[block], offset, room, tuple(served[block]), copy_in, back))
    return Plan(
        program=game.program.name,
        clock_lambda=game.clock_lambda,
        runs=tuple(sorted(runs, key=lambda run: (run.block, run.buffer))),
        groups=tuple(sorted(groups, key=lambda group: (group.block, group.buffers))),
        simulated_time_us=solution.seconds * 1e6,
        all_slow_time_us=game.all_slow_seconds * 1e6,
    )


def _copy(solution: Solution, copy: int) -> Interval | None:
    book = solution.book
    if copy == NONE:
        return None
    return int(book.words[book.copy_start + copy]), int(book.words[book.copy_end + copy])


def write_plan(path: str | Path, plan: Plan) -> None:
    """Write a plan as JSON, whole or not at all."""
    fields = {
        "format": FORMAT,
        "program": plan.program,
        "clock_lambda": plan.clock_lambda,
        "runs": [
            {
                "buffer": run.buffer, "offset": run.offset, "block": run.block, "accesses": run.accesses,
                "copy_in": run.copy_in, "write_back": run.write_back,
            }
            for run in plan.runs
        ],
        "groups": [
            {"buffers": held.buffers, "offset": held.offset, "block": held.block, "copy_in": held.copy_in}
            for held in plan.groups
        ],
        "simulated_time_us": plan.simulated_time_us,
        "all_slow_time_us": plan.all_slow_time_us,
    }  # fmt: skip
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(fields, separators=(",", ":")))


def read_plan(path: str | Path) -> Plan:
    """Read a plan.

    Raises:
        UserError: the file is missing, not JSON, or not of the format; file and field are named. Whether
            the plan is a good one for its program is the validator's business.
    """
    path = Path(path)
    try:
        fields = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a plan") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error}); give a file of the format {FORMAT}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        raise UserError(f"{path}: format is {found!r}; expected {FORMAT!r}")
    return parse_plan(fields, str(path))


def parse_plan(fields: dict[str, Any], source: str) -> Plan:
    """Make a plan of parsed JSON; `source` names it in an error."""
    program = fields.get("program")
    if not isinstance(program, str):
        raise UserError(f"{source}: program must be the name of a program, is {program!r}")
    runs = [
        Run(
            buffer=_whole(entry, "buffer", where),
            offset=_whole(entry, "offset", where),
            block=_interval(entry, "block", where),
            accesses=_accesses(entry, where),
            copy_in=_interval(entry, "copy_in", where) if entry.get("copy_in") is not None else None,
            write_back=_interval(entry, "write_back", where) if entry.get("write_back") is not None else None,
        )
        for where, entry in _entries(fields, "runs", source)
    ]
    groups = [
        Held(
            buffers=_buffers(entry, where),
            offset=_whole(entry, "offset", where),
            block=_interval(entry, "block", where),
            copy_in=_interval(entry, "copy_in", where) if entry.get("copy_in") is not None else None,
        )
        for where, entry in _entries(fields, "groups", source)
    ]
    return Plan(
        program=program,
        clock_lambda=_number(fields, "clock_lambda", source),
        runs=tuple(runs),
        groups=tuple(groups),
        simulated_time_us=_number(fields, "simulated_time_us", source),
        all_slow_time_us=_number(fields, "all_slow_time_us", source),
    )


def _entries(fields: dict[str, Any], name: str, source: str) -> list[tuple[str, dict]]:
    entries = fields.get(name)
    if not isinstance(entries, list):
        raise UserError(f"{source}: {name} must be a list, is {entries!r}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{source}: {name}[{index}] must be an object, is {entry!r}")
    return [(f"{source}: {name}[{index}]", entry) for index, entry in enumerate(entries)]


def _number(entry: dict, name: str, where: str) -> float:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: {name} must be a number, is {value!r}")
    return float(value)


def _whole(entry: dict, name: str, where: str) -> int:
    value = entry.get(name)
    if type(value) is not int:
        raise UserError(f"{where}: {name} must be a whole number, is {value!r}")
    return value


def _interval(entry: dict, name: str, where: str) -> Interval:
    value = entry.get(name)
    if not isinstance(value, list) or len(value) != 2 or not all(type(time) is int for time in value):
        raise UserError(f"{where}: {name} must be [start, end] in whole nanoseconds, is {value!r}")
    return value[0], value[1]


def _buffers(entry: dict, where: str) -> tuple[int, ...]:
    value = entry.get("buffers")
    if not isinstance(value, list) or not all(type(buffer) is int for buffer in value):
        raise UserError(f"{where}: buffers must be a list of ids, is {value!r}")
    return tuple(value)


def _accesses(entry: dict, where: str) -> tuple[tuple[int, str], ...]:
    value = entry.get("accesses")
    if not isinstance(value, list):
        raise UserError(f"{where}: accesses must be a list, is {value!r}")
    for index, pair in enumerate(value):
        if not (isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int and pair[1] in ("r", "w")):
            raise UserError(f'{where}: accesses[{index}] must be [instruction, "r" or "w"], is {pair!r}')
    return tuple((step, kind) for step, kind in value)
