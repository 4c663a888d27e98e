"""Whether a plan is one that the program can be run by: the invariants V1 to V8 of SPEC section 8.

Nothing here is shared with the rules, the heuristics or the simulator that makes plans; the reading of the
specification is done a second time, in plain Python, so that a fault in one does not hide in the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agents.games.memory.plans import Held, Plan, Run
from agents.games.memory.program import Program
from agents.games.memory.validator_timing import (
    access_bytes,
    fast_accesses,
    planning_clock,
    real_seconds,
    simulated_seconds,
    stay_size,
    transfers,
)
from datasets.errors import UserError

INVARIANTS = {
    "V0": "the plan names the program, and only buffers, instructions and accesses of it, each access once",
    "V1": "blocks are aligned, inside fast memory, and disjoint in space wherever they overlap in time",
    "V2": "every fast access lies inside its block",
    "V3": "a run starts with a write or with a copy of valid data that ends before the first use",
    "V4": "slow memory holds valid data at every slow read",
    "V5": "a write-back follows the write and is covered by the block; outputs are in slow memory at the end",
    "V6": "copies are one after another, inside the program, and cross no region boundary",
    "V7": "a group is in fast memory at one offset for all its uses, or never, and holds no output",
    "V8": "the reported times are those that the plan gives",
}


@dataclass(frozen=True)
class Violation:
    """An invariant that a plan breaks."""

    invariant: str
    """`V0` to `V8`, see `INVARIANTS`."""
    where: str
    """The field of the plan."""
    sentence: str
    """What is wrong there."""


def check_plan(program: Program, plan: Plan, source: str) -> None:
    """Refuse a plan that breaks an invariant.

    Args:
        program: what the plan is for.
        plan: what to check.
        source: how to name the plan in an error.

    Raises:
        UserError: the first violation, with its field and invariant.
    """
    for violation in find_violations(program, plan):
        raise UserError(
            f"{source}: {violation.where}: {violation.sentence} "
            f"({violation.invariant}: {INVARIANTS[violation.invariant]})"
        )


def find_violations(program: Program, plan: Plan) -> list[Violation]:
    """All violations of the first invariants that are broken; later ones are not looked at without those."""
    found = _check_names(program, plan)
    if found:
        return found
    clock = planning_clock(program, plan.clock_lambda)
    found = [
        *_check_blocks(program, plan),
        *_check_groups(program, plan, clock),
        *_check_runs(program, plan, clock),
        *_check_slow_reads(program, plan, clock),
        *_check_copies(program, plan, clock),
    ]
    return found or _check_times(program, plan)


def _check_names(program: Program, plan: Plan) -> list[Violation]:
    found = []
    if plan.program != program.name:
        found.append(Violation("V0", "program", f"is {plan.program!r}, the program is {program.name!r}"))
    if not 0 <= plan.clock_lambda <= 1:
        found.append(Violation("V0", "clock_lambda", f"{plan.clock_lambda} is outside [0, 1]"))
    exist = access_bytes(program)
    seen: set[tuple[int, str, int]] = set()
    for index, run in enumerate(plan.runs):
        if not 0 <= run.buffer < len(program.buffers):
            found.append(Violation("V0", f"runs[{index}].buffer", f"there is no buffer {run.buffer}"))
            continue
        if not run.accesses:
            found.append(Violation("V0", f"runs[{index}].accesses", "the run serves no access"))
        for step, kind in run.accesses:
            key = (step, kind, run.buffer)
            if key not in exist:
                sentence = f"instruction {step} has no access '{kind}' of buffer {run.buffer}"
                found.append(Violation("V0", f"runs[{index}].accesses", sentence))
            elif key in seen:
                sentence = f"access '{kind}' of instruction {step} is served twice"
                found.append(Violation("V0", f"runs[{index}].accesses", sentence))
            seen.add(key)
    return found + _check_group_names(program, plan)


def _check_group_names(program: Program, plan: Plan) -> list[Violation]:
    found = []
    held: set[int] = set()
    for index, group in enumerate(plan.groups):
        where = f"groups[{index}].buffers"
        if not group.buffers or not all(0 <= buffer < len(program.buffers) for buffer in group.buffers):
            found.append(Violation("V0", where, f"{list(group.buffers)} are not buffers of the program"))
            continue
        if held & set(group.buffers) or len(set(group.buffers)) < len(group.buffers):
            found.append(Violation("V0", where, "a buffer is held twice"))
        held.update(group.buffers)
    return found


def _check_blocks(program: Program, plan: Plan) -> list[Violation]:
    """V1."""
    found = []
    stays = [(f"runs[{index}]", stay) for index, stay in enumerate(plan.runs)]
    stays += [(f"groups[{index}]", stay) for index, stay in enumerate(plan.groups)]
    machine = program.hardware
    for where, stay in stays:
        if stay.block[0] < 0 or stay.block[1] <= stay.block[0]:
            found.append(Violation("V1", f"{where}.block", f"{stay.block} is no interval of the program"))
        if stay.offset % machine.alignment:
            found.append(Violation("V1", f"{where}.offset", f"{stay.offset} is not aligned"))
        if stay.offset < 0 or stay.offset + stay_size(program, stay) > machine.fast_capacity:
            found.append(Violation("V1", f"{where}.offset", "the block is not inside fast memory"))
    active: list[tuple[str, Run | Held]] = []
    for where, stay in sorted(stays, key=lambda entry: entry[1].block):
        active = [entry for entry in active if entry[1].block[1] > stay.block[0]]
        for other_where, other in active:
            low, high = (stay, other) if stay.offset <= other.offset else (other, stay)
            if low.offset + stay_size(program, low) > high.offset:
                found.append(Violation("V1", where, f"shares room with {other_where} at the same time"))
        active.append((where, stay))
    return found


def _check_groups(program: Program, plan: Plan, clock: list[int]) -> list[Violation]:
    """V7, and V3 for the copies of groups."""
    found = []
    for index, held in enumerate(plan.groups):
        where = f"groups[{index}]"
        group = program.buffers[held.buffers[0]].alias_group
        members = {i for i, b in enumerate(program.buffers) if group >= 0 and b.alias_group == group}
        if set(held.buffers) != (members or {held.buffers[0]}):
            found.append(Violation("V7", f"{where}.buffers", "these are not all buffers of one alias group"))
        if group < 0 and not program.buffers[held.buffers[0]].pinned:
            found.append(Violation("V7", f"{where}.buffers", "the buffer is neither pinned nor in a group"))
        if any(program.buffers[buffer].live_out for buffer in held.buffers):
            found.append(Violation("V7", f"{where}.buffers", "a group with an output stays in slow memory"))
        uses = [
            (step, kind)
            for step, instruction in enumerate(program.instructions)
            for kind, accesses in (("r", instruction.reads), ("w", instruction.writes))
            if any(access.buffer in held.buffers for access in accesses)
        ]
        if not uses:
            found.append(Violation("V7", f"{where}.buffers", "the group is never used"))
            continue
        first, last = uses[0], uses[-1]
        if held.block[0] > clock[first[0]] or held.block[1] < clock[last[0] + 1]:
            found.append(Violation("V7", f"{where}.block", "does not cover all uses of the group"))
        if (first[1] == "r") != (held.copy_in is not None):
            found.append(
                Violation("V3", f"{where}.copy_in", "is there if and only if the first use is a read")
            )
        if held.copy_in and (held.copy_in[1] > clock[first[0]] or held.copy_in[0] < held.block[0]):
            found.append(
                Violation("V3", f"{where}.copy_in", "is not between the block's start and the first use")
            )
    return found


def _check_runs(program: Program, plan: Plan, clock: list[int]) -> list[Violation]:
    """V2, V3, V5 and that runs are of single buffers (V7)."""
    found = []
    valid = _slow_copies(program, plan, clock)
    versions = _versions(program)
    for index, run in enumerate(plan.runs):
        where, buffer = f"runs[{index}]", program.buffers[run.buffer]
        if buffer.pinned or buffer.alias_group >= 0:
            found.append(Violation("V7", f"{where}.buffer", "a pinned buffer or group goes under groups"))
        if versions[run.buffer] > 1:
            found.append(
                Violation("V3", f"{where}.buffer", "a buffer with several contents stays in slow memory")
            )
        for step, kind in run.accesses:
            if run.block[0] > clock[step] or run.block[1] < clock[step + 1]:
                found.append(Violation("V2", f"{where}.accesses", f"'{kind}' of {step} is outside the block"))
        first = min((step, kind) for step, kind in run.accesses)
        writes = [step for step, kind in run.accesses if kind == "w"]
        if run.copy_in is None and first[1] != "w":
            found.append(Violation("V3", f"{where}.copy_in", "nothing fills the block before its first use"))
        if run.copy_in is not None:
            if writes:
                found.append(Violation("V3", f"{where}.copy_in", "a run is filled by a copy or by a write"))
            if run.copy_in[0] < valid[run.buffer]:
                found.append(Violation("V3", f"{where}.copy_in", "starts before slow memory holds the data"))
            if run.copy_in[1] > clock[first[0]]:
                found.append(Violation("V3", f"{where}.copy_in", "ends after the first use begins"))
            if run.copy_in[0] < run.block[0] or run.copy_in[1] > run.block[1]:
                found.append(Violation("V3", f"{where}.copy_in", "is not covered by the block"))
        if run.write_back is not None:
            if not writes or run.write_back[0] < clock[writes[0] + 1]:
                found.append(Violation("V5", f"{where}.write_back", "does not follow a write of this run"))
            if run.write_back[1] > run.block[1]:
                found.append(Violation("V5", f"{where}.write_back", "is not covered by the block"))
    return found


def _versions(program: Program) -> list[int]:
    """How many contents each buffer has: what it holds at the start, and one for each write."""
    count = [0] * len(program.buffers)
    seen = [False] * len(program.buffers)
    for instruction in program.instructions:
        for access in instruction.reads:
            count[access.buffer] += not seen[access.buffer]
            seen[access.buffer] = True
        for access in instruction.writes:
            count[access.buffer] += 1
            seen[access.buffer] = True
    return count


def _slow_copies(program: Program, plan: Plan, clock: list[int]) -> list[float]:
    """When slow memory first holds the data of each buffer; infinity for never."""
    valid = [math.inf if buffer.kind == "temp" else 0 for buffer in program.buffers]
    served = fast_accesses(program, plan)
    for step, instruction in enumerate(program.instructions):
        for access in instruction.writes:
            if (step, "w", access.buffer) not in served:
                valid[access.buffer] = min(valid[access.buffer], clock[step + 1])
    for run in plan.runs:
        if run.write_back:
            valid[run.buffer] = min(valid[run.buffer], run.write_back[1])
    return valid


def _check_slow_reads(program: Program, plan: Plan, clock: list[int]) -> list[Violation]:
    """V4, and V5 for outputs."""
    found = []
    valid = _slow_copies(program, plan, clock)
    served = fast_accesses(program, plan)
    groups: dict[int, float] = {}
    for index, buffer in enumerate(program.buffers):
        if buffer.alias_group >= 0:
            groups[buffer.alias_group] = min(groups.get(buffer.alias_group, math.inf), valid[index])
    for step, kind, buffer in access_bytes(program):
        group = program.buffers[buffer].alias_group
        since = groups[group] if group >= 0 else valid[buffer]
        if kind == "r" and (step, kind, buffer) not in served and since > clock[step]:
            where = f"instruction {step}"
            found.append(Violation("V4", where, f"reads buffer {buffer} from slow memory, which lacks it"))
    for index, buffer in enumerate(program.buffers):
        if buffer.live_out and math.isinf(valid[index]):
            sentence = f"output {index} ({buffer.name}) is only in fast memory at the end"
            found.append(Violation("V5", f"buffer {index}", sentence))
    return found


def _check_copies(program: Program, plan: Plan, clock: list[int]) -> list[Violation]:
    """V6, and that copies last as long as the hardware needs (V3, V5)."""
    found = []
    steps = range(1, len(program.instructions))
    regions = [instruction.region for instruction in program.instructions]
    borders = [0, *(clock[step] for step in steps if regions[step] != regions[step - 1]), clock[-1]]
    before = 0
    for transfer in transfers(plan):
        name = "write_back" if transfer.is_write_back else "copy_in"
        stay = transfer.stay
        whose = f"buffer {stay.buffer}" if isinstance(stay, Run) else f"group {list(stay.buffers)}"
        where = f"{name} [{transfer.start}, {transfer.end}] of {whose}"
        seconds = stay_size(program, stay) / program.hardware.bw_dma
        if transfer.end - transfer.start < max(1, math.ceil(seconds * 1e9)):
            invariant = "V5" if transfer.is_write_back else "V3"
            found.append(Violation(invariant, where, "is shorter than the copy takes"))
        if transfer.start < before:
            found.append(Violation("V6", where, f"starts before the copy before it ends at {before}"))
        before = max(before, transfer.end)
        if transfer.start < 0 or transfer.end > clock[-1]:
            found.append(Violation("V6", where, "is not inside the program"))
        elif any(transfer.start < border < transfer.end for border in borders):
            found.append(Violation("V6", where, "crosses the border of a loop region"))
    return found


def _check_times(program: Program, plan: Plan) -> list[Violation]:
    """V8."""
    found = []
    mults = [instruction.mult for instruction in program.instructions]
    moved = fast_accesses(program, plan)
    cost = sum(m * s for m, s in zip(mults, real_seconds(program, set(moved)), strict=True))
    all_slow = sum(m * s for m, s in zip(mults, real_seconds(program, set()), strict=True))
    simulated = simulated_seconds(program, plan)
    if not math.isclose(plan.all_slow_time_us, all_slow * 1e6, rel_tol=1e-6):
        sentence = f"is {plan.all_slow_time_us}, recomputed {all_slow * 1e6}"
        found.append(Violation("V8", "all_slow_time_us", sentence))
    if not math.isclose(plan.simulated_time_us, simulated * 1e6, rel_tol=1e-6):
        sentence = f"is {plan.simulated_time_us}, recomputed {simulated * 1e6}"
        found.append(Violation("V8", "simulated_time_us", sentence))
    if simulated < cost * (1 - 1e-9):
        found.append(
            Violation("V8", "simulated_time_us", "is less than the instructions take without waiting")
        )
    return found
