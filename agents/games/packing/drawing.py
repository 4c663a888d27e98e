"""Pictures of packings: bytes over time, a rectangle per buffer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from agents.games.packing.instance import PackingInstance
from agents.games.packing.solution import Packing
from datasets.files import replace_file


def draw_packing(instance: PackingInstance, packing: Packing, path: str | Path) -> None:
    """Write a PNG: lifetimes across, offsets upwards, larger buffers brighter; capacity and bound."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    boxes = [
        Rectangle((int(lower), offset), int(upper - lower), int(size))
        for lower, upper, size, offset in zip(
            instance.lower, instance.upper, instance.size, packing.offsets, strict=True
        )
    ]
    rank = np.argsort(np.argsort(instance.size, kind="stable"), kind="stable")
    colours = colormaps["viridis"]((rank + 0.5) / len(rank))
    axes.add_collection(PatchCollection(boxes, facecolors=colours, edgecolors="white", linewidths=0.4))
    axes.axhline(
        instance.lower_bound, color="black", linestyle=":", label=f"lower bound {instance.lower_bound}"
    )
    axes.axhline(packing.peak, color="black", label=f"peak {packing.peak}")
    if packing.capacity is not None:
        axes.axhline(packing.capacity, color="red", linestyle="--", label=f"capacity {packing.capacity}")
    axes.set(xlabel="time", ylabel="offset in bytes", title=instance.name)
    axes.set_xlim(int(instance.lower.min()), int(instance.upper.max()))
    axes.set_ylim(0, max(packing.peak, packing.capacity or 0, 1) * 1.03)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, frameon=False)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
