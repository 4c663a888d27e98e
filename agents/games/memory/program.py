"""A program to be mapped: its buffers, its instructions in schedule order, and the machine.

`program_file` reads and checks one from JSON (`mmap-instance-v1`); a `Program` made otherwise is checked by
`program_checks.check_program`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from agents.games.memory.hardware import Hardware

KINDS = ("param", "const", "temp")


@dataclass(frozen=True)
class Buffer:
    """A tensor in memory."""

    name: str
    """Its name in the program."""
    size: int
    """Bytes."""
    kind: str
    """`param` and `const` are in slow memory from the start; `temp` is written by an instruction."""
    live_out: bool = False
    """True if slow memory must hold it at the end."""
    alias_group: int = -1
    """Buffers of one group share their memory; -1 for none."""
    pinned: bool = False
    """True if it is in fast memory throughout or never."""


@dataclass(frozen=True)
class Access:
    """One operand or result of an instruction."""

    buffer: int
    """Index of the buffer."""
    num_bytes: int
    """Bytes moved, which may be less than the buffer's size; 0 if the access only names the buffer."""


@dataclass(frozen=True)
class Instruction:
    """A step of the schedule."""

    name: str
    """Its name in the program."""
    op: str
    """What it does, for people."""
    flops: float
    """Arithmetic of one execution."""
    mult: int
    """How often it is executed: the product of the trip counts of the loops around it."""
    region: int
    """The loop body that it is in; 0 outside loops."""
    reads: tuple[Access, ...]
    """Operands."""
    writes: tuple[Access, ...]
    """Results."""


@dataclass(frozen=True)
class Program:
    """A scheduled program on a machine. Instruction `t` runs before instruction `t + 1`."""

    name: str
    """Plans name the program that they are for."""
    hardware: Hardware
    """The machine."""
    buffers: tuple[Buffer, ...]
    """Indexed by the accesses."""
    instructions: tuple[Instruction, ...]
    """In schedule order."""

    @cached_property
    def groups(self) -> dict[int, tuple[int, ...]]:
        """Alias groups of at least one buffer: group -> its buffers in ascending order."""
        groups: dict[int, list[int]] = {}
        for index, buffer in enumerate(self.buffers):
            if buffer.alias_group >= 0:
                groups.setdefault(buffer.alias_group, []).append(index)
        return {group: tuple(members) for group, members in groups.items()}

    def instruction_seconds(self, step: int, fast_bytes: int) -> float:
        """Roofline time of one execution of an instruction: arithmetic or memory, whichever takes longer.

        Args:
            step: index of the instruction.
            fast_bytes: how many of its bytes are in fast memory.
        """
        instruction = self.instructions[step]
        slow_bytes = (
            sum(access.num_bytes for access in (*instruction.reads, *instruction.writes)) - fast_bytes
        )
        memory = slow_bytes / self.hardware.bw_slow + fast_bytes / self.hardware.bw_fast
        return max(instruction.flops / self.hardware.peak_flops, memory)
