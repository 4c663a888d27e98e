"""Judges finished packings from the instance alone; shares no code with the rules.

The invariants, by name:

- `complete`: every buffer has exactly one offset.
- `offset`: offsets are whole numbers, 0 or more.
- `overlap`: buffers that are alive at the same time share no byte.
- `capacity`: no buffer reaches beyond the capacity.
- `peak`: the stated peak is the highest byte that a buffer reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.games.packing.instance import PackingInstance


@dataclass(frozen=True)
class Violation:
    """One broken invariant."""

    invariant: str
    """Its name; see above."""
    detail: str
    """Which buffers break it, and by what offsets."""

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


def violations(
    instance: PackingInstance, offsets: Sequence[int], *, capacity: int | None = None, peak: int | None = None
) -> list[Violation]:
    """Everything that is wrong with a packing.

    Args:
        instance: what was to be packed; the capacity that it states is not looked at.
        offsets: of each buffer, in the order of the instance.
        capacity: bytes that there are, if they are limited.
        peak: what the packing is said to need, if that is to be checked.

    Returns:
        The broken invariants; none for a valid packing. Where offsets are missing or are none, nothing else
        is looked at.
    """
    if len(offsets) != instance.num_buffers:
        detail = f"there are {len(offsets)} offsets and {instance.num_buffers} buffers"
        return [Violation("complete", detail)]
    found = []
    for name, offset in zip(instance.ids, offsets, strict=True):
        if isinstance(offset, bool) or offset != int(offset) or offset < 0:
            found.append(
                Violation("offset", f"buffer {name} lies at {offset!r}, which is no whole number from 0 on")
            )
    if found:
        return found
    tops = [int(offset) + int(size) for offset, size in zip(offsets, instance.size, strict=True)]
    found = _overlaps(instance, [int(offset) for offset in offsets], tops)
    for name, top in zip(instance.ids, tops, strict=True):
        if capacity is not None and top > capacity:
            found.append(Violation("capacity", f"buffer {name} ends at {top}, the capacity is {capacity}"))
    if peak is not None and peak != max(tops):
        found.append(
            Violation("peak", f"the peak is said to be {peak}, the highest buffer ends at {max(tops)}")
        )
    return found


def _overlaps(instance: PackingInstance, offsets: list[int], tops: list[int]) -> list[Violation]:
    """Pairs that share a byte at some time, found by going through the times at which buffers come and go."""
    events = [(int(time), 1, buffer) for buffer, time in enumerate(instance.lower)]
    events += [(int(time), 0, buffer) for buffer, time in enumerate(instance.upper)]
    alive: set[int] = set()
    found = []
    for time, comes, buffer in sorted(events):
        if not comes:
            alive.remove(buffer)
            continue
        for other in sorted(alive):
            if max(offsets[buffer], offsets[other]) < min(tops[buffer], tops[other]):
                detail = (
                    f"at time {time} buffer {instance.ids[other]} takes {offsets[other]} to {tops[other]} "
                    f"and buffer {instance.ids[buffer]} takes {offsets[buffer]} to {tops[buffer]}"
                )
                found.append(Violation("overlap", detail))
        alive.add(buffer)
    return found
