"""A scheduled HLO module as a program of the memory-mapping game.

The entry computation's instructions become the program's, in their order; so do those of called computations
and of loop bodies, in place. A buffer belongs to each array that an instruction returns. Tuples, their
elements and bitcasts are views: they have no buffer of their own.

What is simplified:

- A loop's body appears once, with `mult` its trip count (8 where the compiler does not know it) and a region
  of its own. Its condition is left out. Buffers that enter the loop or are carried through it are pinned.
- What a loop carries shares an alias group with what takes its place in the next turn, and so does a
  `dynamic-update-slice` with what it updates, provided that nothing is read after it has been taken over.
  Otherwise each has memory of its own, and the update moves all of its bytes.
- A conditional is one instruction with the arithmetic of its longest branch.
- Memory spaces, layouts and padding are ignored. Operations that run beside others (`...-start`, `...-done`)
  are refused, but for copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.games.memory.hardware import Hardware
from agents.games.memory.program import Access, Buffer, Instruction, Program
from agents.games.memory.program_checks import check_program
from datasets.errors import UserError
from datasets.program_sources.hlo_costs import Result, count_flops, traffic
from datasets.program_sources.hlo_groups import join_groups
from datasets.program_sources.hlo_text import HloComputation, HloInstruction, HloModule, Shape, parse_hlo

SMALLEST = 256
"""Arrays of fewer bytes are left out, as in SPEC section 1."""
UNKNOWN_TRIPS = 8
"""Turns of a loop whose number the compiler does not know, as in SPEC section 1."""

VIEWS = frozenset(("bitcast", "optimization-barrier", "copy-done", "add-dependency"))
"""Operations that return what they are given first."""

Leaves = tuple[int | None, ...]
"""Buffer of each array of a value; None for those that are left out."""


def read_hlo(path: str | Path, hardware: Hardware) -> Program:
    """Read a file of scheduled HLO text.

    Raises:
        UserError: the file cannot be read or is no scheduled HLO; the sentence names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); give a file of scheduled HLO") from error
    module = parse_hlo(text, str(path))
    program = program_of_module(module, path.stem, hardware)
    check_program(program, str(path))
    return program


def program_of_module(module: HloModule, name: str, hardware: Hardware) -> Program:
    """Lay a module out: buffers from results, instructions in schedule order."""
    builder = _Builder(module)
    for leaf in builder.run(module.entry, [], _Place(1, 0)):
        if leaf is not None and builder.buffers[leaf].kind == "temp":
            builder.buffers[leaf] = replace(builder.buffers[leaf], live_out=True)
    buffers, instructions = builder.finish()
    return Program(name, hardware, buffers, instructions)


@dataclass(frozen=True)
class _Place:
    """Where instructions are executed."""

    mult: int
    region: int


@dataclass(frozen=True)
class _Update:
    """An instruction that would like to write into the memory of one of its operands."""

    step: int
    target: int
    result: int


class _Builder:
    """Buffers and instructions of what has been laid out so far."""

    def __init__(self, module: HloModule) -> None:
        self.buffers: list[Buffer] = []
        self.instructions: list[Instruction] = []
        self._module = module
        self._num_regions = 0
        self._carried: list[tuple[int, int]] = []
        self._updates: list[_Update] = []

    def run(self, computation: HloComputation, arguments: Sequence[Leaves], place: _Place) -> Leaves:
        """Lay a computation out; without arguments its parameters are the program's inputs."""
        values: dict[str, Leaves] = {}
        for entry in computation.instructions:
            if entry.opcode == "parameter" and arguments:
                values[entry.name] = arguments[int(entry.operands[0])]
            elif entry.opcode in ("parameter", "constant"):
                values[entry.name] = self._add(entry, "const" if entry.opcode == "constant" else "param")
            else:
                operands = [values[operand] for operand in entry.operands]
                try:
                    values[entry.name] = self._result(computation, entry, operands, place)
                except (IndexError, ValueError) as error:
                    sentence = f"operands or attributes do not fit ({error})"
                    raise self._module.fault(entry, sentence) from error
        return values[computation.root.name]

    def finish(self) -> tuple[tuple[Buffer, ...], tuple[Instruction, ...]]:
        """Join alias groups; updates that stay outside of one move all of their bytes."""
        pairs = [*self._carried, *((update.target, update.result) for update in self._updates)]
        buffers = join_groups(self.buffers, self.instructions, pairs)
        for update in self._updates:
            group = buffers[update.result].alias_group
            if group < 0 or group != buffers[update.target].alias_group:
                entry = self.instructions[update.step]
                size = buffers[update.result].size
                self.instructions[update.step] = replace(
                    entry,
                    reads=_with_bytes(entry.reads, update.target, buffers[update.target].size),
                    writes=_with_bytes(entry.writes, update.result, size),
                )
        return tuple(buffers), tuple(self.instructions)

    def _result(
        self, computation: HloComputation, entry: HloInstruction, operands: list[Leaves], place: _Place
    ) -> Leaves:
        """What an instruction returns."""
        if entry.opcode in VIEWS:
            return operands[0][: len(entry.shape.leaves)]
        if entry.opcode == "tuple":
            return tuple(leaf for operand in operands for leaf in operand)
        if entry.opcode == "get-tuple-element":
            return _element(self._module, entry, computation.by_name[entry.operands[0]].shape, operands[0])
        if entry.opcode == "while":
            return self._loop(entry, operands[0], place)
        if entry.opcode == "call":
            return self.run(self._module.called(entry, "to_apply"), operands, place)
        if entry.opcode.endswith(("-start", "-done", "-update")) and entry.opcode != "copy-start":
            raise self._module.fault(entry, f"{entry.opcode} is not supported; compile for a single device")
        return self._compute(computation, entry, operands, place)

    def _compute(
        self, computation: HloComputation, entry: HloInstruction, operands: list[Leaves], place: _Place
    ) -> Leaves:
        """An instruction of the program; it is left out if it neither reads nor writes a buffer."""
        moved = traffic(self._module, computation, entry)
        made = self._add(entry, "temp")
        reads: dict[int, int] = {}
        for leaves, num_bytes in zip(operands, moved.operands, strict=True):
            for leaf in leaves:
                if leaf is not None:
                    size = self.buffers[leaf].size
                    reads[leaf] = min(reads.get(leaf, 0) + min(num_bytes, size), size)
        results = moved.results
        if entry.opcode == "copy-start":  # its result lists the source as well
            made, results = (made[0], *operands[0]), (results[0],)
        writes = []
        for leaf, result in zip(made, results, strict=False):
            if leaf is not None:
                self._note_update(operands, leaf, result)
                writes.append(Access(leaf, result.num_bytes))
        if reads or writes:
            accesses = tuple(Access(leaf, num_bytes) for leaf, num_bytes in reads.items())
            flops = float(self._flops(computation, entry))
            self.instructions.append(
                Instruction(
                    entry.name, entry.opcode, flops, place.mult, place.region, accesses, tuple(writes)
                )
            )
        return made

    def _flops(self, computation: HloComputation, entry: HloInstruction) -> int:
        if entry.opcode != "conditional":
            return count_flops(self._module, computation, entry)
        listed = entry.attribute(r"branch_computations=\{([^}]*)\}")
        if listed is None:
            branches = [self._module.called(entry, f"{side}_computation") for side in ("true", "false")]
        else:
            names = [name.strip().removeprefix("%") for name in listed.split(",")]
            branches = [self._module.computation(entry, name, "branch_computations") for name in names]
        return max(
            sum(count_flops(self._module, branch, inner) for inner in branch.instructions)
            for branch in branches
        )

    def _note_update(self, operands: list[Leaves], leaf: int, result: Result) -> None:
        if result.updated is None:
            return
        target = operands[result.updated][0]
        if target is not None:
            self._updates.append(_Update(len(self.instructions), target, leaf))

    def _loop(self, entry: HloInstruction, carried: Leaves, place: _Place) -> Leaves:
        """A loop's body, once, between two instructions that name what it holds."""
        body = self._module.called(entry, "body")
        trips = int(entry.attribute(r'"known_trip_count":\{"n":"(\d+)"') or UNKNOWN_TRIPS)
        self._num_regions += 1
        region = self._num_regions
        self._mark(f"{entry.name}.begin", "while-begin", carried, place)
        left = self.run(body, [carried], _Place(place.mult * max(1, trips), region))
        self._mark(f"{entry.name}.end", "while-end", left, place)
        for before, after in zip(carried, left, strict=True):
            if before is not None and after is not None and before != after:
                self._carried.append((before, after))
        return left

    def _mark(self, name: str, opcode: str, leaves: Leaves, place: _Place) -> None:
        held = dict.fromkeys(leaf for leaf in leaves if leaf is not None)
        for leaf in held:
            self.buffers[leaf] = replace(self.buffers[leaf], pinned=True)
        reads = tuple(Access(leaf, 0) for leaf in held)
        self.instructions.append(Instruction(name, opcode, 0.0, place.mult, place.region, reads, ()))

    def _add(self, entry: HloInstruction, kind: str) -> Leaves:
        """Buffers for the arrays of a result."""
        leaves: list[int | None] = []
        for number, leaf in enumerate(entry.shape.leaves):
            if leaf.num_bytes < SMALLEST or (entry.opcode == "copy-start" and number > 0):
                leaves.append(None)
                continue
            name = f"{entry.name}.{number}" if entry.shape.dtype == "tuple" else entry.name
            leaves.append(len(self.buffers))
            self.buffers.append(Buffer(name, leaf.num_bytes, kind))
        return tuple(leaves)


def _element(module: HloModule, entry: HloInstruction, shape: Shape, leaves: Leaves) -> Leaves:
    """The leaves of one element of a tuple."""
    index = int(entry.attribute(r"\bindex=(\d+)") or 0)
    if index >= len(shape.parts):
        raise module.fault(entry, f"element {index} of a tuple of {len(shape.parts)}")
    begin = sum(len(part.leaves) for part in shape.parts[:index])
    return leaves[begin : begin + len(shape.parts[index].leaves)]


def _with_bytes(accesses: tuple[Access, ...], buffer: int, num_bytes: int) -> tuple[Access, ...]:
    return tuple(Access(buffer, num_bytes) if access.buffer == buffer else access for access in accesses)
