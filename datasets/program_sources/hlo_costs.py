"""What an HLO instruction computes and moves: arithmetic, and bytes of each operand and result.

Counts follow the usual ones: two for each multiply-add of a dot or convolution, one for each element of an
elementwise result, one for each element that a reduction takes in. Padding of a convolution counts as work.
A custom call's arithmetic is unknown and counts as none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from datasets.program_sources.hlo_text import HloComputation, HloInstruction, HloModule

MOVES = frozenset(
    "parameter constant bitcast bitcast-convert copy copy-start copy-done reshape transpose broadcast slice "
    "dynamic-slice dynamic-update-slice concatenate pad gather iota tuple get-tuple-element reverse "
    "after-all custom-call optimization-barrier add-dependency infeed outfeed partition-id replica-id".split()
)
"""Operations without arithmetic."""
SLICES = frozenset(("slice", "dynamic-slice", "gather"))
"""Operations that read as much of their first operand as they return."""


@dataclass(frozen=True)
class Result:
    """One array that an instruction returns."""

    num_bytes: int
    """Bytes written."""
    updated: int | None = None
    """Operand that it is an update of, in place if its memory can be taken over."""


@dataclass(frozen=True)
class Traffic:
    """What an instruction moves."""

    operands: tuple[int, ...]
    """Bytes read of each operand."""
    results: tuple[Result, ...]
    """One for each array of the result."""


def count_flops(module: HloModule, computation: HloComputation, instruction: HloInstruction) -> int:
    """Arithmetic of one execution, with what is inside fusions and calls.

    Args:
        module: where called computations are.
        computation: where the operands are.
        instruction: any but a `while`, whose body is counted by its own instructions.
    """
    opcode = instruction.opcode
    elements = instruction.shape.num_elements
    if opcode in MOVES:
        return 0
    if opcode in ("fusion", "call"):
        inner = module.called(instruction, "calls" if opcode == "fusion" else "to_apply")
        return sum(count_flops(module, inner, entry) for entry in inner.instructions)
    if opcode == "dot":
        sizes = _operand(computation, instruction, 0).shape.dims
        return 2 * elements * math.prod(sizes[dim] for dim in instruction.numbers("lhs_contracting_dims"))
    if opcode == "convolution":
        return 2 * elements * _taps(computation, instruction)
    if opcode in ("reduce", "scatter"):
        return _operand(computation, instruction, 0 if opcode == "reduce" else -1).shape.num_elements
    if opcode == "reduce-window":
        sizes = instruction.attribute(r"\bwindow=\{size=([\dx]+)") or "1"
        return elements * math.prod(int(size) for size in sizes.split("x"))
    if opcode == "sort":
        return elements * max(1, math.ceil(math.log2(max(2, elements))))
    return elements


def traffic(module: HloModule, computation: HloComputation, instruction: HloInstruction) -> Traffic:
    """Bytes that one execution reads of each operand and writes of each result.

    What is only sliced is read only there, inside fusions too. A `dynamic-update-slice` writes the update
    and reads nothing of what it updates.
    """
    if instruction.opcode == "fusion":
        inner = module.called(instruction, "calls")
        operands = tuple(_parameter_bytes(inner, parameter) for parameter in inner.parameters)
        root = inner.root
        outputs = [inner.by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]
        return Traffic(operands, tuple(result for entry in outputs for result in _results(inner, entry)))
    sizes = [computation.by_name[name].shape.num_bytes for name in instruction.operands]
    if instruction.opcode in SLICES:
        sizes[0] = min(sizes[0], instruction.shape.num_bytes)
    if instruction.opcode == "dynamic-update-slice":
        sizes[0] = 0
        return Traffic(tuple(sizes), (Result(sizes[1], 0),))
    return Traffic(tuple(sizes), tuple(Result(leaf.num_bytes) for leaf in instruction.shape.leaves))


def _results(fused: HloComputation, output: HloInstruction) -> list[Result]:
    """What a fusion writes for one of its outputs."""
    update = _behind_bitcasts(fused, output)
    if update.opcode == "dynamic-update-slice":
        target = _behind_bitcasts(fused, _operand(fused, update, 0))
        if target.opcode == "parameter":
            return [Result(_operand(fused, update, 1).shape.num_bytes, int(target.operands[0]))]
    return [Result(leaf.num_bytes) for leaf in output.shape.leaves]


def _parameter_bytes(fused: HloComputation, parameter: HloInstruction) -> int:
    """Bytes that a fusion reads of a parameter."""
    total, views = 0, [parameter.name]
    while views:
        name = views.pop()
        for user in fused.instructions:
            if name not in user.operands or user.opcode in ("parameter", "constant"):
                continue
            first_only = user.operands[0] == name and name not in user.operands[1:]
            if user.opcode == "bitcast":
                views.append(user.name)
            elif user.opcode in SLICES and first_only:
                total += user.shape.num_bytes
            elif not (user.opcode == "dynamic-update-slice" and first_only):
                return parameter.shape.num_bytes
    return min(total, parameter.shape.num_bytes)


def _behind_bitcasts(computation: HloComputation, instruction: HloInstruction) -> HloInstruction:
    while instruction.opcode == "bitcast":
        instruction = _operand(computation, instruction, 0)
    return instruction


def _operand(computation: HloComputation, instruction: HloInstruction, place: int) -> HloInstruction:
    return computation.by_name[instruction.operands[place]]


def _taps(computation: HloComputation, instruction: HloInstruction) -> int:
    """Multiply-adds for each element of a convolution: elements of the kernel for one output feature."""
    kernel = _operand(computation, instruction, 1).shape
    labels = instruction.attribute(r"\bdim_labels=\w+_(\w+)->") or ""
    features = kernel.dims[labels.index("o")] if "o" in labels else 1
    return kernel.num_elements // max(1, features)
