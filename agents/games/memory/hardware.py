"""The machine that a program is mapped to: two memories, a copy engine and a peak rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datasets.errors import UserError


@dataclass(frozen=True)
class Hardware:
    """What the roofline needs to know of a machine."""

    peak_flops: float
    """Arithmetic peak in FLOP/s."""
    bw_slow: float
    """Bandwidth of slow memory in B/s."""
    bw_fast: float
    """Bandwidth of fast memory in B/s."""
    bw_dma: float
    """Bandwidth of the one copy engine in B/s."""
    fast_capacity: int
    """Size of fast memory in bytes."""
    alignment: int
    """Offsets in fast memory are multiples of this many bytes."""


TPU_V4I_LIKE = Hardware(
    peak_flops=138e12, bw_slow=614e9, bw_fast=6.14e12, bw_dma=614e9, fast_capacity=128 * 2**20, alignment=1024
)
"""Peak and slow bandwidth of the published TPU v4i; that fast memory is ten times as fast is assumed."""

HARDWARE = {"tpu-v4i-like": TPU_V4I_LIKE}


def read_hardware(fields: object, where: str) -> Hardware:
    """Check a hardware description read from JSON.

    Args:
        fields: the parsed `hw` object.
        where: how to name it in an error: file and field.

    Raises:
        UserError: a field is missing, not a number, or not positive.
    """
    if not isinstance(fields, dict):
        raise UserError(f"{where}: expected an object with the fields of the hardware, not {fields!r}")
    rates = {name: _positive(fields, name, where) for name in ("peak_flops", "bw_slow", "bw_fast", "bw_dma")}
    whole = {name: _positive(fields, name, where) for name in ("fast_capacity", "alignment")}
    for name, value in whole.items():
        if value != int(value):
            raise UserError(f"{where}.{name}: {value} is not a whole number of bytes")
    if fields.get("launch_s", 0):
        raise UserError(f"{where}.launch_s: the cost model knows no launch time; set it to 0")
    return Hardware(**rates, **{name: int(value) for name, value in whole.items()})


def _positive(fields: dict, name: str, where: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}.{name}: expected a number, not {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{where}.{name}: must be positive, is {value}")
    return value
