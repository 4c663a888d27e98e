"""Packings as files.

format: "packing-plan-v1"; instance: its name; capacity: bytes or null; peak: bytes
offsets: an object with the offset of each buffer by its id
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.games.packing.instance import PackingInstance
from agents.games.packing.validator import violations
from datasets.errors import UserError
from datasets.files import replace_file

FORMAT = "packing-plan-v1"


@dataclass(frozen=True)
class Packing:
    """Where each buffer lies."""

    instance: str
    """Name of the instance it is for."""
    offsets: tuple[int, ...]
    """Of each buffer, in the order of the instance."""
    peak: int
    """Highest byte that a buffer reaches."""
    capacity: int | None = None
    """Bytes that it was to fit in, if they were limited."""


def packing_of(instance: PackingInstance, offsets: Sequence[int], capacity: int | None = None) -> Packing:
    """A packing of offsets, with its peak."""
    whole = tuple(int(offset) for offset in offsets)
    peak = max(offset + int(size) for offset, size in zip(whole, instance.size, strict=True))
    return Packing(instance.name, whole, peak, capacity)


def write_packing(instance: PackingInstance, packing: Packing, path: str | Path) -> None:
    """Write a packing to a JSON file."""
    content = {
        "format": FORMAT,
        "instance": packing.instance,
        "capacity": packing.capacity,
        "peak": packing.peak,
        "offsets": dict(zip(instance.ids, packing.offsets, strict=True)),
    }
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(content) + "\n")


def read_packing(path: str | Path, instance: PackingInstance) -> Packing:
    """Read a packing and hold it to its instance.

    Raises:
        UserError: it cannot be read, is for another instance, or breaks an invariant; says which.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a packing in JSON") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}; give a packing in JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f'{path}: format must be "{FORMAT}"')
    if content.get("instance") != instance.name:
        raise UserError(
            f"{path}: instance is {content.get('instance')!r}, not {instance.name!r}; give that one's plan"
        )
    offsets = content.get("offsets")
    if not isinstance(offsets, dict):
        raise UserError(f"{path}: offsets must be an object with the offset of each buffer by its id")
    for name in instance.ids:
        if name not in offsets:
            raise UserError(f"{path}: offsets has no buffer {name}; give one offset for every buffer")
    for name in offsets:
        if name not in instance.ids:
            raise UserError(f"{path}: offsets[{name}]: the instance has no such buffer; give that one's plan")
        _checked_whole(offsets[name], f"offsets[{name}]", path)
    peak = _checked_whole(content.get("peak"), "peak", path)
    capacity = content.get("capacity")
    if capacity is not None:
        capacity = _checked_whole(capacity, "capacity", path)
    found = tuple(offsets[name] for name in instance.ids)
    broken = violations(instance, found, capacity=capacity, peak=peak)
    if broken:
        raise UserError(f"{path}: offsets do not make a packing; {broken[0]}")
    return Packing(instance.name, found, peak, capacity)


def _checked_whole(value: Any, field: str, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{path}: {field} is {value!r}; it must be a whole number")
    return value
