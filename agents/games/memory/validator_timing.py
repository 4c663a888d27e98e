"""The validator's own clock and its own simulation of a plan, written against the specification alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agents.games.memory.plans import Held, Plan, Run
from agents.games.memory.program import Program


@dataclass(frozen=True)
class Transfer:
    """A copy that a plan books."""

    start: int
    """Planned start."""
    end: int
    """Planned end."""
    stay: Run | Held
    """The stay in fast memory that it fills or writes back."""
    is_write_back: bool
    """True if it goes to slow memory."""


def access_bytes(program: Program) -> dict[tuple[int, str, int], int]:
    """Bytes of every access that moves any: (instruction, `r` or `w`, buffer) -> bytes."""
    return {
        (step, kind, access.buffer): access.num_bytes
        for step, instruction in enumerate(program.instructions)
        for kind, accesses in (("r", instruction.reads), ("w", instruction.writes))
        for access in accesses
        if access.num_bytes > 0
    }


def planning_clock(program: Program, clock_lambda: float) -> list[int]:
    """Planned start of each instruction and the planned end, in nanoseconds (SPEC sections 3 and 11)."""
    clock = [0]
    for instruction in program.instructions:
        moved = sum(access.num_bytes for access in instruction.reads + instruction.writes)
        compute = instruction.flops / program.hardware.peak_flops
        slow = max(compute, moved / program.hardware.bw_slow) * 1e9
        fast = max(compute, moved / program.hardware.bw_fast) * 1e9
        clock.append(clock[-1] + max(1, round(clock_lambda * slow + (1 - clock_lambda) * fast)))
    return clock


def real_seconds(program: Program, fast: set[tuple[int, str, int]]) -> list[float]:
    """Roofline time of one execution of each instruction, with some accesses in fast memory (section 2)."""
    moved = access_bytes(program)
    slow_bytes = [0] * len(program.instructions)
    fast_bytes = [0] * len(program.instructions)
    for key, num_bytes in moved.items():
        (fast_bytes if key in fast else slow_bytes)[key[0]] += num_bytes
    machine = program.hardware
    return [
        max(instruction.flops / machine.peak_flops, slow / machine.bw_slow + quick / machine.bw_fast)
        for instruction, slow, quick in zip(program.instructions, slow_bytes, fast_bytes, strict=True)
    ]


def fast_accesses(program: Program, plan: Plan) -> dict[tuple[int, str, int], Run | Held]:
    """The stay that serves each access which is served from fast memory."""
    served: dict[tuple[int, str, int], Run | Held] = {}
    for run in plan.runs:
        served.update({(step, kind, run.buffer): run for step, kind in run.accesses})
    for held in plan.groups:
        served.update({key: held for key in access_bytes(program) if key[2] in held.buffers})
    return served


def stay_size(program: Program, stay: Run | Held) -> int:
    """Bytes that a stay takes in fast memory."""
    buffers = (stay.buffer,) if isinstance(stay, Run) else stay.buffers
    return max(program.buffers[buffer].size for buffer in buffers)


def transfers(plan: Plan) -> list[Transfer]:
    """All copies of a plan by their planned start."""
    found = [Transfer(*stay.copy_in, stay, False) for stay in (*plan.runs, *plan.groups) if stay.copy_in]
    found += [Transfer(*run.write_back, run, True) for run in plan.runs if run.write_back]
    return sorted(found, key=lambda transfer: (transfer.start, transfer.end))


def simulated_seconds(program: Program, plan: Plan) -> float:
    """Time of the program when copies run one after another and instructions wait for them (section 7)."""
    clock = planning_clock(program, plan.clock_lambda)
    served = fast_accesses(program, plan)
    seconds = real_seconds(program, set(served))
    waiting = deque(transfers(plan))
    wrote_back = {run.buffer: run for run in plan.runs if run.write_back}
    done: dict[tuple[int, bool], float] = {}
    issued_backs: list[Run | Held] = []
    by_step: dict[int, list[tuple[int, str, int]]] = {}
    for key in access_bytes(program):
        by_step.setdefault(key[0], []).append(key)
    now = engine = 0.0
    for step, instruction in enumerate(program.instructions):
        begin = now
        for key in by_step.get(step, []):
            stay = served.get(key)
            if stay is None:
                if key[1] == "r" and key[2] in wrote_back:
                    begin = max(begin, done[id(wrote_back[key[2]]), True])
            elif stay.copy_in:
                begin = max(begin, done[id(stay), False])
            elif key[1] == "w" and stay.block[0] == clock[step]:
                tenants = (other for other in issued_backs if _share_room(program, stay, other))
                begin = max([begin, *(done[id(other), True] for other in tenants)])
        now = begin
        while waiting and waiting[0].start < clock[step + 1]:
            engine = _issue(waiting.popleft(), now, engine, instruction.mult, done, issued_backs)
        now += seconds[step] * instruction.mult
    while waiting:
        engine = _issue(waiting.popleft(), now, engine, 1, done, issued_backs)
    outputs = (run for buffer, run in wrote_back.items() if program.buffers[buffer].live_out)
    return max([now, *(done[id(run), True] for run in outputs)])


def _issue(
    transfer: Transfer, now: float, engine: float, mult: int,
    done: dict[tuple[int, bool], float], issued_backs: list[Run | Held],
) -> float:  # fmt: skip
    """Queue a copy, which takes as long as it is booked for; return when the engine is done with it."""
    finish = max(now, engine) + (transfer.end - transfer.start) * 1e-9 * mult
    done[id(transfer.stay), transfer.is_write_back] = finish
    if transfer.is_write_back:
        issued_backs.append(transfer.stay)
    return finish


def _share_room(program: Program, one: Run | Held, other: Run | Held) -> bool:
    """Whether two stays use some of the same places."""
    return one.offset < other.offset + stay_size(program, other) and other.offset < one.offset + stay_size(
        program, one
    )
