"""Pictures of a plan: fast memory over time as rectangles by buffer, the copy engine below, waits marked."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from agents.games.memory.book import BLOCKS, COPIES
from agents.games.memory.heuristics import Solution
from agents.games.memory.tables import PLACES, units_of
from datasets.files import replace_file

MEBIBYTE = 2**20
CHARACTER_WIDTH, LABEL_HEIGHT = 0.0045, 0.03
"""Size of a name in shares of the picture; only rectangles that it fits in carry their buffer's name."""


def draw_plan(path: str | Path, solution: Solution) -> None:
    """Write a picture of a finished plan as PNG.

    Time is the planning clock's, on which blocks and copies are booked; a red tick below marks an instruction
    that waits for copies in the simulation, its height the length of the wait.
    """
    figure = Figure(figsize=(14, 7), layout="constrained")
    FigureCanvasAgg(figure)
    memory, engine, waits = figure.subplots(3, 1, sharex=True, height_ratios=[8, 1, 1])
    _draw_memory(memory, solution)
    _draw_engine(engine, solution)
    _draw_waits(waits, solution)
    game = solution.game
    figure.suptitle(
        f"{game.program.name}: {solution.seconds * 1e6:.1f} us, {100 * solution.share:.1f} % of all slow "
        f"(all fast: {100 * game.all_fast_seconds / game.all_slow_seconds:.1f} %)"
    )
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def colour(unit: int) -> tuple[float, float, float]:
    """A colour for a unit; neighbours in number are far apart in hue."""
    return colorsys.hls_to_rgb((unit * 0.61803398875) % 1, 0.68, 0.6)


def _draw_memory(axes: Axes, solution: Solution) -> None:
    game, book = solution.game, solution.book
    words, tables = book.words, game.tables
    place = game.program.hardware.alignment / MEBIBYTE
    names = [game.program.buffers[unit[0]].name for unit in units_of(game.program)]
    width_shown, height_shown = tables.clock[-1] / 1e3, tables.capacity * place
    line = 0.4 if words[BLOCKS] < 400 else 0.1
    for block in range(words[BLOCKS]):
        unit = int(words[book.block_unit + block])
        start, end = words[book.block_start + block] / 1e3, words[book.block_end + block] / 1e3
        low, height = words[book.block_offset + block] * place, tables.unit[unit, PLACES] * place
        axes.add_patch(
            Rectangle(
                (start, low), end - start, height, facecolor=colour(unit), edgecolor="black", linewidth=line
            )
        )
        needed = CHARACTER_WIDTH * len(names[unit]) * width_shown
        if end - start > needed and height > LABEL_HEIGHT * height_shown:
            centre = ((start + end) / 2, low + height / 2)
            axes.annotate(names[unit], centre, ha="center", va="center", fontsize=6, clip_on=True)
    axes.set_xlim(0, width_shown)
    axes.set_ylim(0, height_shown)
    axes.set_ylabel("fast memory [MiB]")


def _draw_engine(axes: Axes, solution: Solution) -> None:
    book = solution.book
    words = book.words
    for copy in range(words[COPIES]):
        start, end = words[book.copy_start + copy] / 1e3, words[book.copy_end + copy] / 1e3
        block = words[book.copy_block + copy]
        is_back = words[book.block_back + block] == copy
        unit = int(words[book.block_unit + block])
        axes.add_patch(
            Rectangle((start, 0 if is_back else 1), end - start, 1, facecolor=colour(unit), edgecolor="none")
        )
    axes.set_ylim(0, 2)
    axes.set_yticks([0.5, 1.5], ["copy out", "copy in"])


def _draw_waits(axes: Axes, solution: Solution) -> None:
    game = solution.game
    _, stalls = game.simulate_stalls(solution.book)
    waiting = np.flatnonzero(stalls > 0)
    axes.vlines(game.tables.clock[waiting] / 1e3, 0, stalls[waiting] * 1e6, color="red", linewidth=1.2)
    axes.set_ylim(0, max(1e-3, stalls.max() * 1e6) * 1.05)
    axes.set_ylabel("wait [us]")
    axes.set_xlabel("time on the planning clock [us]")
