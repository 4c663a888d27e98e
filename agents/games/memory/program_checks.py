"""What a program must satisfy to be played: sizes, definitions before uses, alias groups in order."""

from __future__ import annotations

import math

from agents.games.memory.program import Program
from datasets.errors import UserError


def check_program(program: Program, source: str) -> None:
    """Refuse a program that has no sensible plan.

    A buffer larger than fast memory is no fault: it stays in slow memory.

    Args:
        program: what to check.
        source: how to name it in an error, for example its file.

    Raises:
        UserError: the first fault, with its field.
    """
    if not program.instructions:
        raise UserError(f"{source}: instructions is empty; a program needs at least one instruction")
    _check_numbers(program, source)
    _check_definitions(program, source)
    _check_alias_groups(program, source)


def _check_numbers(program: Program, source: str) -> None:
    for index, buffer in enumerate(program.buffers):
        if buffer.size <= 0:
            raise UserError(f"{source}: buffers[{index}].size: {buffer.size} bytes; a size must be positive")
        if buffer.alias_group < -1:
            raise UserError(
                f"{source}: buffers[{index}].alias_group: {buffer.alias_group}; use -1 for no group"
            )
    for step, instruction in enumerate(program.instructions):
        where = f"{source}: instructions[{step}]"
        if not (math.isfinite(instruction.flops) and instruction.flops >= 0):
            raise UserError(f"{where}.flops: {instruction.flops}; must be 0 or more")
        if instruction.mult < 1:
            raise UserError(f"{where}.mult: {instruction.mult}; an instruction runs at least once")
        if instruction.region < 0:
            raise UserError(f"{where}.region: {instruction.region}; regions are numbered from 0")


def _check_definitions(program: Program, source: str) -> None:
    defined = {index for index, buffer in enumerate(program.buffers) if buffer.kind != "temp"}
    for step, instruction in enumerate(program.instructions):
        where = f"{source}: instructions[{step}]"
        for name, accesses in (("reads", instruction.reads), ("writes", instruction.writes)):
            for access in accesses:
                if not 0 <= access.buffer < len(program.buffers):
                    raise UserError(
                        f"{where}.{name}: there are {len(program.buffers)} buffers, and no {access.buffer}"
                    )
                if name == "reads" and access.buffer not in defined:
                    raise UserError(
                        f"{where}.reads: buffer {access.buffer} ({program.buffers[access.buffer].name}) is "
                        "read before any instruction writes it; mark it as param or move the instruction"
                    )
        defined.update(access.buffer for access in instruction.writes)
    for index, buffer in enumerate(program.buffers):
        if buffer.live_out and index not in defined:
            raise UserError(f"{source}: buffers[{index}].live_out: {buffer.name} is never written")


def _check_alias_groups(program: Program, source: str) -> None:
    """Hold each group to one owner at a time: a write takes the memory over from the member before.

    A member written again after another took over closes a cycle; one read after that crosses the other's
    lifetime. Accesses of no bytes only name a buffer and count as neither.
    """
    owner: dict[int, int] = {}
    replaced: dict[int, int] = {}
    for step, instruction in enumerate(program.instructions):
        where = f"{source}: instructions[{step}]"
        for name, accesses in (("reads", instruction.reads), ("writes", instruction.writes)):
            for access in accesses:
                group = program.buffers[access.buffer].alias_group
                if group < 0 or access.num_bytes == 0:
                    continue
                if access.buffer in replaced:
                    fault = "crosses the lifetime of" if name == "reads" else "makes a cycle with"
                    raise UserError(
                        f"{where}.{name}: buffer {access.buffer} of alias group {group} {fault} buffer "
                        f"{replaced[access.buffer]}, which took its memory over; give one another group"
                    )
                if name == "writes" and owner.get(group, access.buffer) != access.buffer:
                    replaced[owner[group]] = access.buffer
                if name == "writes" or group not in owner:
                    owner[group] = access.buffer
