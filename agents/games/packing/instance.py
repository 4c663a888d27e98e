"""Packing instances: their format, reading and checking.

Letters: N buffers, S sections.

A file is CSV with the columns `id,lower,upper,size`: a buffer is alive from `lower` up to but not including
`upper` and takes `size` bytes. A file name that ends with a number before `.csv`, as `A.1048576.csv`,
states a capacity.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from datasets.errors import UserError

COLUMNS = ("id", "lower", "upper", "size")
LARGEST = 2**62
"""Offsets are kept in 64 bits; all sizes together must stay below this."""


@dataclass(frozen=True)
class PackingInstance:
    """Buffers with lifetimes and sizes."""

    name: str
    """What plans are tied to."""
    ids: tuple[str, ...]
    """What the file calls the buffers."""
    lower: Int[np.ndarray, "N"]
    """First time at which each is alive, int64."""
    upper: Int[np.ndarray, "N"]
    """First time at which it is no longer, int64; above `lower`."""
    size: Int[np.ndarray, "N"]
    """Its bytes, int64, 0 or more."""
    capacity: int | None = None
    """Bytes that there are, if that is stated."""

    @property
    def num_buffers(self) -> int:
        """N."""
        return len(self.ids)

    @property
    def lower_bound(self) -> int:
        """Most bytes alive at one time: no packing has a lower peak."""
        first, last, _ = sections(self)
        change = np.zeros(int(last.max()) + 1, dtype=np.int64)
        np.add.at(change, first, self.size)
        np.add.at(change, last, -self.size)
        return int(np.cumsum(change).max())


def sections(
    instance: PackingInstance,
) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "N"], int]:
    """Time in as few pieces as tell which buffers meet.

    A section is a moment at which the set of live buffers is in no other such set. Two buffers meet if and
    only if they share a section, and offsets are valid if they are in every section.

    Returns:
        First section of each buffer, the section behind its last, and the number S of sections.
    """
    starts, ends = np.unique(instance.lower), np.unique(instance.upper)
    # A start is the last of a section's when some buffer ends before the next start.
    following = np.append(starts[1:], np.iinfo(np.int64).max)
    is_last = np.searchsorted(ends, following, side="right") > np.searchsorted(ends, starts, side="right")
    moments = starts[is_last]
    first = np.searchsorted(moments, instance.lower, side="left")
    last = np.searchsorted(moments, instance.upper, side="left")
    return first, last, len(moments)


def read_instance(path: str | Path, capacity: int | None = None) -> PackingInstance:
    """Read an instance from a CSV file.

    Args:
        path: the file.
        capacity: bytes that there are; by default what the file's name states.

    Raises:
        UserError: the file cannot be read or holds no instance; names the line and the column.
    """
    path = Path(path)
    try:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a packing instance in CSV") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not CSV: {error}; give a packing instance in CSV") from error
    if not rows or sorted(name.strip() for name in rows[0]) != sorted(COLUMNS):
        raise UserError(f"{path}, line 1: the columns must be {','.join(COLUMNS)}")
    if len(rows) == 1:
        raise UserError(f"{path} holds no buffer; give it at least one line below the columns")
    place = {name.strip(): column for column, name in enumerate(rows[0])}
    buffers, lines = [], {}
    for line, row in enumerate(rows[1:], start=2):
        buffers.append(_buffer(row, place, f"{path}, line {line}"))
        earlier = lines.setdefault(buffers[-1][0], line)
        if earlier != line:
            raise UserError(
                f"{path}, line {line}: id {buffers[-1][0]} is that of line {earlier}; ids must differ"
            )
    if sum(size for *_, size in buffers) >= LARGEST:
        raise UserError(f"{path}: the sizes add up to {LARGEST} or more; use a coarser unit")
    return PackingInstance(
        name=path.name.removesuffix(".csv"),
        ids=tuple(buffer[0] for buffer in buffers),
        lower=np.array([buffer[1] for buffer in buffers], dtype=np.int64),
        upper=np.array([buffer[2] for buffer in buffers], dtype=np.int64),
        size=np.array([buffer[3] for buffer in buffers], dtype=np.int64),
        capacity=_stated_capacity(path) if capacity is None else _checked_capacity(capacity),
    )


def _buffer(row: list[str], place: dict[str, int], where: str) -> tuple[str, int, int, int]:
    if len(row) != len(COLUMNS):
        raise UserError(f"{where}: there are {len(row)} values; give one for each of {','.join(COLUMNS)}")
    name = row[place["id"]].strip()
    if not name:
        raise UserError(f"{where}: id is empty; name the buffer")
    numbers = []
    for column in COLUMNS[1:]:
        text = row[place[column]].strip()
        try:
            numbers.append(int(text))
        except ValueError:
            raise UserError(f"{where}: {column} is {text!r}; it must be a whole number") from None
        if not -LARGEST < numbers[-1] < LARGEST:
            raise UserError(f"{where}: {column} is {text}; it must fit in 62 bits")
    lower, upper, size = numbers
    if upper <= lower:
        raise UserError(
            f"{where}: the lifetime of buffer {name} is empty, {lower} to {upper}; upper must be above lower"
        )
    if size < 0:
        raise UserError(f"{where}: size {size} of buffer {name} is negative; it must be 0 or more")
    return name, lower, upper, size


def _stated_capacity(path: Path) -> int | None:
    stated = path.name.removesuffix(".csv").rpartition(".")[2]
    return int(stated) if stated.isdecimal() and stated != path.name.removesuffix(".csv") else None


def _checked_capacity(capacity: int) -> int:
    if capacity < 0:
        raise UserError(f"the capacity is {capacity}; it must be 0 or more")
    return capacity
