"""Small programs for tests: drawn at random, with and without loops."""

from __future__ import annotations

import numpy as np

from agents.games.memory.hardware import Hardware
from agents.games.memory.program import Access, Buffer, Instruction, Program
from agents.games.memory.program_checks import check_program

MACHINE = Hardware(
    peak_flops=1e12, bw_slow=1e9, bw_fast=1e10, bw_dma=1e9, fast_capacity=16 * 1024, alignment=1024
)


def random_program(seed: int, steps: int = 24, loop: bool = False) -> Program:
    """A chain of instructions that read a few earlier buffers each; little fits into fast memory.

    With `loop`, the middle third runs eight times and carries a state in an alias group.
    """
    random = np.random.default_rng(seed)
    size = lambda: int(random.integers(1, 7)) * 1024 - int(random.integers(0, 2)) * 512  # noqa: E731
    buffers = [Buffer(f"p{index}", size(), "param") for index in range(5)]
    instructions: list[Instruction] = []
    loop_steps = range(steps // 3, 2 * steps // 3) if loop else range(0)
    state = None
    for step in range(steps):
        inside = step in loop_steps
        outer = [index for index, buffer in enumerate(buffers) if buffer.alias_group < 0]
        known = outer if not inside else [i for i in outer if buffers[i].kind == "temp"][-2:] or outer[-1:]
        chosen = random.choice(known[-8:], size=min(len(known), int(random.integers(1, 4))), replace=False)
        reads = [Access(int(index), int(buffers[index].size // random.choice([1, 2]))) for index in chosen]
        if loop and step == loop_steps.start:
            state = len(buffers)
            buffers.append(Buffer("state", 2048, "temp", alias_group=0, pinned=True))
            writes = [Access(state, 2048)]
        elif loop and step == loop_steps.stop - 1:
            reads.append(Access(state, 2048))
            writes = [Access(len(buffers), 2048)]
            buffers.append(Buffer("state again", 2048, "temp", alias_group=0, pinned=True))
        else:
            writes = [Access(len(buffers), size())]
            buffers.append(Buffer(f"t{step}", writes[0].num_bytes, "temp", live_out=random.random() < 0.1))
        instructions.append(
            Instruction(
                name=f"i{step}", op="fusion", flops=float(random.choice([0, 1e6, 3e6])),
                mult=8 if inside else 1, region=1 if inside else 0, reads=tuple(reads), writes=tuple(writes),
            )
        )  # fmt: skip
    program = Program(f"random-{seed}", MACHINE, tuple(buffers), tuple(instructions))
    check_program(program, program.name)
    return program
