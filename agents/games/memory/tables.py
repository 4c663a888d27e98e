"""A program as flat arrays for the compiled rules: accesses, units, the planning clock.

Letters: A accesses that move bytes, in schedule order; U units; T instructions.

A *unit* is what is decided together: a buffer of its own, or an alias group (pinned buffers without a group
are groups of one). All times are integer nanoseconds of the planning clock of SPEC section 3. The names of
columns are constants of the kernels, so `memory.compiled` counts this file among their sources.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.games.memory.program import Instruction, Program

NEVER = 2**60
"""A time that does not come."""


STEP, UNIT, BUFFER, BYTES, IS_WRITE, NEXT, ACCESS_COLUMNS = range(7)
"""Columns of `Tables.access`: instruction, unit, buffer, bytes moved (at least 1), 1 for a write, and the
unit's next access (-1 if there is none)."""
(
    FIRST,
    PLACES,
    COPY_TIME,
    IS_STORED,
    IS_OUTPUT,
    IS_GROUP,
    MAY_BE_FAST,
    FIRST_STEP,
    LAST_STEP,
    UNIT_COLUMNS,
) = range(10)
"""Columns of `Tables.unit`: first access (A if it has none); room needed in fast memory in multiples of the
alignment; nanoseconds a copy takes; 1 if slow memory holds it from the start; 1 if slow memory must hold it
at the end; 1 if it is in fast memory from its first to its last use or never; 0 if it must stay in slow
memory; instruction of its first and of its last use, uses of no bytes included (-1 without uses)."""
FIRST_ACCESS, STEP_BYTES, MULT, SEGMENT_START, SEGMENT_END, STEP_COLUMNS = range(6)
"""Columns of `Tables.step`: first access of the instruction; bytes it moves; executions; planned start and
end of the stretch of one loop region around it. Row T has only the first."""


class Tables(NamedTuple):
    """What never changes while a program is played under one clock."""

    access: np.ndarray
    """int64 [A, 6]."""
    unit: np.ndarray
    """int64 [U, 9]."""
    step: np.ndarray
    """int64 [T + 1, 5]."""
    clock: np.ndarray
    """int64 [T + 1] planned start of each instruction, and the end."""
    compute_seconds: np.ndarray
    """float64 [T] arithmetic of one execution of each instruction."""
    benefit: np.ndarray
    """float64 [A] seconds that each access alone would save in fast memory, executions counted."""
    seconds_per_slow_byte: float
    """1 / bandwidth of slow memory."""
    seconds_per_fast_byte: float
    """1 / bandwidth of fast memory."""
    capacity: int
    """Fast memory in multiples of the alignment."""
    is_sparing: bool
    """Whether blocks are put where they do least harm to what could be kept (`sparing`), not by best fit."""
    worth: np.ndarray
    """float64 [A] what the sparing rule holds against losing each access, in seconds."""


def units_of(program: Program) -> list[tuple[int, ...]]:
    """The buffers of each unit, units in the order of their first buffer."""
    seen: set[int] = set()
    units = []
    for index, buffer in enumerate(program.buffers):
        members = program.groups.get(buffer.alias_group, (index,))
        if index not in seen:
            units.append(members)
            seen.update(members)
    return units


def planned_durations(program: Program, clock_lambda: float) -> np.ndarray:
    """Nanoseconds that the clock plans for each instruction (SPEC section 11), int64 [T].

    Args:
        program: what is planned.
        clock_lambda: 1 plans as if all data were in slow memory, 0 as if all were in fast memory.
    """
    slow = np.array([program.instruction_seconds(step, 0) for step in range(len(program.instructions))]) * 1e9
    fast = np.array(
        [program.instruction_seconds(step, _bytes(entry)) for step, entry in enumerate(program.instructions)]
    )
    blend = clock_lambda * slow + (1 - clock_lambda) * (fast * 1e9)
    return np.maximum(1, np.rint(blend)).astype(np.int64)


def copy_nanoseconds(size: int, bandwidth: float) -> int:
    """Planned time of a copy (SPEC section 11)."""
    return max(1, int(np.ceil(size / bandwidth * 1e9)))


def build_tables(program: Program, clock_lambda: float, worth: np.ndarray | None = None) -> Tables:
    """Lay a program out for the compiled rules.

    Args:
        program: a checked program.
        clock_lambda: planning clock, in [0, 1].
        worth: float64 [A] see `Tables`; None for offsets by best fit.
    """
    units = units_of(program)
    unit_of = {buffer: unit for unit, members in enumerate(units) for buffer in members}
    clock = np.concatenate([[0], np.cumsum(planned_durations(program, clock_lambda))]).astype(np.int64)
    hardware = program.hardware
    accesses = _access_table(program, unit_of)
    benefit = _benefit(program, accesses)
    return Tables(
        access=accesses,
        unit=_unit_table(program, units, unit_of, accesses),
        step=_step_table(program, clock),
        clock=clock,
        compute_seconds=np.array([entry.flops / hardware.peak_flops for entry in program.instructions]),
        benefit=benefit,
        seconds_per_slow_byte=1 / hardware.bw_slow,
        seconds_per_fast_byte=1 / hardware.bw_fast,
        capacity=hardware.fast_capacity // hardware.alignment,
        is_sparing=worth is not None,
        worth=benefit if worth is None else worth,
    )


def _benefit(program: Program, accesses: np.ndarray) -> np.ndarray:
    """Seconds that each access would save if it alone were in fast memory, executions counted."""
    saved = np.array(
        [
            program.instruction_seconds(step, 0) - program.instruction_seconds(step, num_bytes)
            for step, num_bytes in accesses[:, [STEP, BYTES]].tolist()
        ]
    )
    # Whether an access gains anything must not hang on the last bit of a difference.
    saved = np.where(saved > 1e-15, saved, 0.0)
    return saved * np.array([program.instructions[step].mult for step in accesses[:, STEP]])


def _bytes(instruction: Instruction) -> int:
    return sum(access.num_bytes for access in (*instruction.reads, *instruction.writes))


def _size(program: Program, members: tuple[int, ...]) -> int:
    return max(program.buffers[buffer].size for buffer in members)


def _access_table(program: Program, unit_of: dict[int, int]) -> np.ndarray:
    rows = [
        (step, unit_of[access.buffer], access.buffer, access.num_bytes, is_write, -1)
        for step, instruction in enumerate(program.instructions)
        for is_write, accesses in ((0, instruction.reads), (1, instruction.writes))
        for access in accesses
        if access.num_bytes > 0
    ]
    table = np.array(rows, dtype=np.int64).reshape(-1, ACCESS_COLUMNS)
    following: dict[int, int] = {}
    for row in range(len(rows) - 1, -1, -1):
        table[row, NEXT] = following.get(rows[row][UNIT], -1)
        following[rows[row][UNIT]] = row
    return table


def _unit_table(
    program: Program, units: list[tuple[int, ...]], unit_of: dict[int, int], accesses: np.ndarray
) -> np.ndarray:
    hardware, buffers = program.hardware, program.buffers
    table = np.zeros((len(units), UNIT_COLUMNS), dtype=np.int64)
    writes = np.zeros(len(units), dtype=np.int64)
    table[:, FIRST_STEP : LAST_STEP + 1] = -1
    table[:, FIRST] = len(accesses)
    for row in range(len(accesses) - 1, -1, -1):
        table[accesses[row, UNIT], FIRST] = row
    for unit, members in enumerate(units):
        table[unit, PLACES] = -(-_size(program, members) // hardware.alignment)
        table[unit, COPY_TIME] = copy_nanoseconds(_size(program, members), hardware.bw_dma)
        table[unit, IS_STORED] = all(buffers[buffer].kind != "temp" for buffer in members)
        table[unit, IS_OUTPUT] = any(buffers[buffer].live_out for buffer in members)
        table[unit, IS_GROUP] = any(buffers[b].pinned or buffers[b].alias_group >= 0 for b in members)
    for step, instruction in enumerate(program.instructions):
        for is_write, operands in ((0, instruction.reads), (1, instruction.writes)):
            for used in operands:
                unit = unit_of[used.buffer]
                if table[unit, FIRST_STEP] < 0:
                    table[unit, FIRST_STEP] = step
                    table[unit, IS_STORED] = not is_write
                table[unit, LAST_STEP] = step
                writes[unit] += is_write
    # A plan tells the versions of a buffer apart by its one write, and a program's inputs have none.
    has_versions = (table[:, IS_GROUP] == 0) & (writes > 1 - table[:, IS_STORED])
    fits = table[:, PLACES] * hardware.alignment <= hardware.fast_capacity
    table[:, MAY_BE_FAST] = fits & ~has_versions & ((table[:, IS_GROUP] & table[:, IS_OUTPUT]) == 0)
    return table


def _step_table(program: Program, clock: np.ndarray) -> np.ndarray:
    table = np.zeros((len(clock), STEP_COLUMNS), dtype=np.int64)
    first = 0
    for step, instruction in enumerate(program.instructions):
        table[step, FIRST_ACCESS] = first
        table[step, STEP_BYTES] = _bytes(instruction)
        table[step, MULT] = instruction.mult
        first += sum(access.num_bytes > 0 for access in (*instruction.reads, *instruction.writes))
    table[-1, FIRST_ACCESS] = first
    start, end = _segments([entry.region for entry in program.instructions], clock)
    table[:-1, SEGMENT_START], table[:-1, SEGMENT_END] = start, end
    return table


def _segments(regions: list[int], clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of the stretch of one region around each instruction, int64 [T] each."""
    count = len(regions)
    start, end = np.zeros(count, dtype=np.int64), np.full(count, clock[-1])
    for step in range(1, count):
        start[step] = start[step - 1] if regions[step] == regions[step - 1] else clock[step]
    for step in range(count - 2, -1, -1):
        end[step] = end[step + 1] if regions[step] == regions[step + 1] else clock[step + 1]
    return start, end
