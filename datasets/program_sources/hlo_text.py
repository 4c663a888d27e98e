"""Scheduled HLO text, as `jax.jit(f).lower(x).compile().as_text()` prints it, read into computations."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from datasets.errors import UserError

REMEDY = "give the text of jax.jit(f).lower(x).compile().as_text()"
DTYPE_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16}
"""Types whose name does not end in their number of bits."""

_COMMENT = re.compile(r"/\*.*?\*/")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_METADATA = re.compile(rf'metadata=\{{(?:[^"{{}}]|{_QUOTED}|\{{[^{{}}]*\}})*\}}')
_HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s.*\{\s*$")
_ASSIGNMENT = re.compile(r"^\s*(ROOT\s+)?%?([\w.\-]+)\s*=\s*")
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([^\]]*)\](?:\{[^}]*\})?")
_OPCODE = re.compile(r"\s*([a-z][a-z0-9\-]*)\(")
_PIECE = re.compile(rf"{_QUOTED}|[(){{}}\[\],]")


@dataclass(frozen=True)
class Shape:
    """An array, or a tuple of shapes."""

    dtype: str
    """Type of the elements; `tuple` for a tuple."""
    dims: tuple[int, ...] = ()
    """Sizes of an array; upper bounds where they are dynamic."""
    parts: tuple[Shape, ...] = ()
    """Shapes in a tuple."""

    @property
    def leaves(self) -> tuple[Shape, ...]:
        """The arrays in it, in order."""
        if self.dtype != "tuple":
            return (self,)
        return tuple(leaf for part in self.parts for leaf in part.leaves)

    @property
    def num_elements(self) -> int:
        """Elements of an array, or of all arrays of a tuple."""
        if self.dtype == "tuple":
            return sum(part.num_elements for part in self.parts)
        return math.prod(self.dims)

    @property
    def num_bytes(self) -> int:
        """Bytes without padding."""
        if self.dtype == "tuple":
            return sum(part.num_bytes for part in self.parts)
        return math.ceil(self.num_elements * _bits(self.dtype) / 8)


@dataclass(frozen=True)
class HloInstruction:
    """A line of a computation."""

    name: str
    """Its name, unique in the computation."""
    shape: Shape
    """Of its result."""
    opcode: str
    """What it does."""
    operands: tuple[str, ...]
    """Names of its operands; the number of a parameter, the text of a constant."""
    attributes: str
    """The text after the operands, without metadata."""
    is_root: bool
    """True if it is the result of the computation."""
    line: int
    """Line in the file, from 1."""

    def attribute(self, pattern: str) -> str | None:
        """First group of a regular expression searched in the attributes; None where it does not occur."""
        found = re.search(pattern, self.attributes)
        return found.group(1) if found else None

    def numbers(self, name: str) -> tuple[int, ...]:
        """An attribute such as `lhs_contracting_dims={1,2}`; empty where it is absent."""
        text = self.attribute(rf"\b{name}=\{{([\d,]*)\}}")
        return tuple(int(number) for number in text.split(",") if number) if text else ()


@dataclass(frozen=True)
class HloComputation:
    """Instructions in the order of the text, which is the schedule."""

    name: str
    """Its name."""
    instructions: tuple[HloInstruction, ...]
    """In order; exactly one is the root."""

    @cached_property
    def by_name(self) -> dict[str, HloInstruction]:
        """Name -> instruction."""
        return {entry.name: entry for entry in self.instructions}

    @cached_property
    def root(self) -> HloInstruction:
        """The result."""
        return next(entry for entry in self.instructions if entry.is_root)

    @cached_property
    def parameters(self) -> tuple[HloInstruction, ...]:
        """Parameters by number."""
        found = [entry for entry in self.instructions if entry.opcode == "parameter"]
        return tuple(sorted(found, key=lambda entry: int(entry.operands[0])))


@dataclass(frozen=True)
class HloModule:
    """A parsed file."""

    name: str
    """Name of the module."""
    source: str
    """How errors name the file."""
    computations: dict[str, HloComputation]
    """By name."""
    entry: HloComputation
    """The one that runs."""

    def called(self, instruction: HloInstruction, attribute: str) -> HloComputation:
        """The computation that an attribute such as `calls=%name` names.

        Raises:
            UserError: there is no such attribute or computation.
        """
        name = instruction.attribute(rf"\b{attribute}=%?([\w.\-]+)")
        return self.computation(instruction, name, attribute)

    def computation(self, instruction: HloInstruction, name: str | None, attribute: str) -> HloComputation:
        """A computation that an instruction names; it is above the one that names it.

        Raises:
            UserError: there is none of this name.
        """
        found = self.computations.get(name or "")
        if found is None or found.instructions[-1].line >= instruction.line:
            opcode = instruction.opcode
            raise self.fault(instruction, f"{opcode} names no computation by {attribute}= above it")
        return found

    def fault(self, instruction: HloInstruction, sentence: str) -> UserError:
        """An error at an instruction, with file and line."""
        return UserError(f"{self.source}:{instruction.line}: {instruction.name}: {sentence}")


def parse_hlo(text: str, source: str) -> HloModule:
    """Read a scheduled module.

    Args:
        text: the whole file.
        source: how to name it in an error.

    Raises:
        UserError: it is no scheduled HLO text or a line cannot be read; the sentence names file and line.
    """
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines, 1) if line.strip()), 1)
    words = lines[first - 1].replace(",", " ").split() if lines else []
    if len(words) < 2 or words[0] != "HloModule":
        raise UserError(f"{source}:{first}: expected 'HloModule NAME, ...', not HLO text; {REMEDY}")
    if "is_scheduled=true" not in words:
        raise UserError(f"{source}:{first}: the module is not scheduled (no is_scheduled=true); {REMEDY}")
    computations: dict[str, HloComputation] = {}
    entry = None
    for name, is_entry, instructions, number in _computations(lines, source):
        if sum(instruction.is_root for instruction in instructions) != 1:
            raise UserError(f"{source}:{number}: computation {name} needs exactly one ROOT; {REMEDY}")
        _check_operands(instructions, source)
        computations[name] = HloComputation(name, tuple(instructions))
        entry = computations[name] if is_entry else entry
    if entry is None:
        raise UserError(f"{source}:{len(lines)}: there is no ENTRY computation up to here; {REMEDY}")
    return HloModule(words[1], source, computations, entry)


def parse_shape(text: str) -> Shape:
    """Read a shape such as `f32[2,3]{1,0}` or `(s32[], f32[8])`.

    Raises:
        ValueError: it is none, or of a type unknown here.
    """
    text = text.strip()
    if text.startswith("("):
        return Shape("tuple", parts=tuple(parse_shape(part) for part in split_list(text[1:-1])))
    found = _ARRAY.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no shape")
    _bits(found.group(1))
    sizes = [size.strip().removeprefix("<=") for size in found.group(2).split(",")]
    return Shape(found.group(1), tuple(int(size) for size in sizes if size))


def split_list(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes."""
    parts, depth, begin = [], 0, 0
    for piece in _PIECE.finditer(text):
        token = piece.group()
        if token == "," and depth == 0:
            parts.append(text[begin : piece.start()].strip())
            begin = piece.end()
        elif token in "({[":
            depth += 1
        elif token in ")}]":
            depth -= 1
    last = text[begin:].strip()
    return [*parts, last] if last or parts else []


def _bits(dtype: str) -> int:
    """Bits of an element.

    Raises:
        ValueError: the type is unknown.
    """
    if dtype in DTYPE_BITS:
        return DTYPE_BITS[dtype]
    found = re.match(r"[sufc](\d+)", dtype)
    if not found:
        raise ValueError(f"elements of type {dtype} are unknown")
    return int(found.group(1))


def _computations(lines: list[str], source: str) -> Iterator[tuple[str, bool, list[HloInstruction], int]]:
    """Name, whether it is the entry, instructions and line of each computation."""
    header, begin = None, 0
    instructions: list[HloInstruction] = []
    for number, line in enumerate(lines, 1):
        if header is None:
            header = _HEADER.match(line) if not line.startswith("HloModule") else None
            instructions, begin = [], number
        elif line.startswith("}"):
            yield header.group(2), bool(header.group(1)), instructions, begin
            header = None
        elif line.strip():
            try:
                instructions.append(_instruction(line, number))
            except ValueError as error:
                raise UserError(f"{source}:{number}: not an HLO instruction ({error}); {REMEDY}") from error
    if header is not None:
        raise UserError(f"{source}:{len(lines)}: computation {header.group(2)} has no end; {REMEDY}")


def _check_operands(instructions: list[HloInstruction], source: str) -> None:
    defined: set[str] = set()
    for entry in instructions:
        missing = [name for name in entry.operands if name not in defined]
        if missing and entry.opcode not in ("parameter", "constant"):
            where = f"{source}:{entry.line}: {entry.name}"
            raise UserError(f"{where}: operand {missing[0]} is not defined above it; {REMEDY}")
        defined.add(entry.name)


def _instruction(line: str, number: int) -> HloInstruction:
    """Read `%name = shape opcode(operands), attributes`."""
    line = _COMMENT.sub("", _METADATA.sub("", line))
    start = _ASSIGNMENT.match(line)
    if not start:
        raise ValueError(f"{line.strip()[:40]!r} assigns no result")
    rest = line[start.end() :]
    array = _ARRAY.match(rest)
    end = array.end() if array else _closing(rest)
    opcode = _OPCODE.match(rest, end)
    if not opcode:
        raise ValueError("no operation after the shape")
    inside = rest[opcode.end() - 1 :]
    close = _closing(inside)
    operands = split_list(inside[1 : close - 1])
    if opcode.group(1) != "constant":
        operands = [operand.split()[-1].removeprefix("%") for operand in operands]
    shape = parse_shape(rest[:end])
    attributes = inside[close:]
    return HloInstruction(
        start.group(2), shape, opcode.group(1), tuple(operands), attributes, bool(start.group(1)), number
    )


def _closing(text: str) -> int:
    """Place after the parenthesis that closes the one at the start.

    Raises:
        ValueError: the text does not start with one, or it stays open.
    """
    if not text.startswith("("):
        raise ValueError(f"expected a shape or operands at {text[:30]!r}")
    depth = 0
    for piece in _PIECE.finditer(text):
        depth += {"(": 1, ")": -1}.get(piece.group(), 0)
        if depth == 0:
            return piece.end()
    raise ValueError("a parenthesis stays open")
