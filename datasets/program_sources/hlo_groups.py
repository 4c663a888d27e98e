"""Alias groups: which buffers of a program take their memory over from one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agents.games.memory.program import Buffer, Instruction


def join_groups(
    buffers: Sequence[Buffer], instructions: Sequence[Instruction], pairs: Sequence[tuple[int, int]]
) -> list[Buffer]:
    """Put buffers that should share memory into groups, as far as the schedule allows.

    Pairs are joined in their order; one is left apart if the sizes differ or if a buffer of the joined group
    would be read or written after another has taken its memory over.

    Args:
        buffers: of the program, in no group.
        instructions: of the program, in schedule order.
        pairs: buffer and the one that should take its memory over.

    Returns:
        The buffers with their groups, numbered from 0.
    """
    times = _accesses(instructions, {buffer for pair in pairs for buffer in pair})
    group_of = {buffer: [buffer] for pair in pairs for buffer in pair}
    for before, after in pairs:
        if group_of[before] is group_of[after] or buffers[before].size != buffers[after].size:
            continue
        joined = [*group_of[before], *group_of[after]]
        if _takes_turns(joined, times):
            group_of.update(dict.fromkeys(joined, joined))
    grouped, numbers = list(buffers), {}
    for buffer, members in group_of.items():
        if len(members) > 1:
            number = numbers.setdefault(id(members), len(numbers))
            grouped[buffer] = replace(buffers[buffer], alias_group=number)
    return grouped


def _accesses(instructions: Sequence[Instruction], wanted: set[int]) -> dict[int, list[tuple[int, bool]]]:
    """For each wanted buffer its accesses that move bytes: step and whether it is a write."""
    times: dict[int, list[tuple[int, bool]]] = {buffer: [] for buffer in wanted}
    for step, entry in enumerate(instructions):
        for is_write, accesses in ((False, entry.reads), (True, entry.writes)):
            for access in accesses:
                if access.buffer in wanted and access.num_bytes > 0:
                    times[access.buffer].append((step, is_write))
    return times


def _takes_turns(members: Sequence[int], times: dict[int, list[tuple[int, bool]]]) -> bool:
    """True if no member is accessed after the write of another that came later."""
    order = sorted((*time, member) for member in members for time in times[member])
    owner, replaced = None, set()
    for _, is_write, member in order:
        if member in replaced or (not is_write and owner not in (None, member)):
            return False
        if is_write and owner not in (None, member):
            replaced.add(owner)
        owner = member
    return True
