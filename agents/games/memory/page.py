"""A plan as a page for the browser: zoom with the wheel, drag to move, point at a rectangle to read about it.

The page needs nothing but itself: no server, no library, no network.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from agents.games.memory.book import BLOCKS, COPIES
from agents.games.memory.drawing import colour
from agents.games.memory.heuristics import Solution
from agents.games.memory.tables import PLACES, units_of
from datasets.files import replace_file

WIDTH, MEMORY, LANE, WAITS = 1000.0, 600.0, 20.0, 60.0
"""Size of the drawing before zooming: time to the right; fast memory, copies in and out, waits below."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px sans-serif; margin: 1em; }}
svg {{ width: 100%; height: 80vh; border: 1px solid #888; cursor: grab; }}
rect {{ stroke: #333; stroke-width: 0.4px; vector-effect: non-scaling-stroke; }}
rect:hover {{ stroke: #000; stroke-width: 2px; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary} Time runs to the right. Above: fast memory, low addresses below. Then copies in and copies out,
and in red how long instructions wait. Wheel: zoom in time; drag: move; double click: everything; point at a
rectangle to read about it.</p>
<p id="about">&nbsp;</p>
<svg id="plan" viewBox="0 0 {width} {height}" preserveAspectRatio="none">
{shapes}
</svg>
<script>
const plan = document.getElementById("plan"), about = document.getElementById("about");
let left = 0, span = {width}, held = null;
const show = () => plan.setAttribute("viewBox", `${{left}} 0 ${{span}} {height}`);
plan.addEventListener("wheel", event => {{
  event.preventDefault();
  const share = event.offsetX / plan.clientWidth, at = left + share * span;
  span = Math.min({width}, span * (event.deltaY > 0 ? 1.25 : 0.8));
  left = at - share * span; show();
}});
plan.addEventListener("mousedown", event => held = event.clientX);
window.addEventListener("mouseup", () => held = null);
plan.addEventListener("mousemove", event => {{
  if (held !== null) {{
    left -= (event.clientX - held) / plan.clientWidth * span;
    held = event.clientX; show();
  }}
  about.textContent = event.target.dataset.about || "\\u00a0";
}});
plan.addEventListener("dblclick", () => {{ left = 0; span = {width}; show(); }});
</script></body></html>
"""


def write_page(path: str | Path, solution: Solution) -> None:
    """Write a finished plan as one HTML file; times are the planning clock's, waits the simulation's."""
    game = solution.game
    shapes = [*_blocks(solution), *_copies(solution), *_waits(solution)]
    page = PAGE.format(
        title=escape(game.program.name),
        summary=f"{solution.seconds * 1e6:,.1f} us, {100 * solution.share:.1f} % of the time with everything "
        "in slow memory.",
        width=WIDTH,
        height=MEMORY + 2 * LANE + WAITS,
        shapes="\n".join(shapes),
    )
    with replace_file(path) as temporary:
        temporary.write_text(page)


def _blocks(solution: Solution) -> list[str]:
    game, book = solution.game, solution.book
    words, tables = book.words, game.tables
    scale, found = MEMORY / max(tables.capacity, 1), []
    for block in range(words[BLOCKS]):
        unit = int(words[book.block_unit + block])
        start, end = int(words[book.block_start + block]), int(words[book.block_end + block])
        offset, places = int(words[book.block_offset + block]), int(tables.unit[unit, PLACES])
        top = MEMORY - scale * (offset + places)
        alignment = game.program.hardware.alignment
        says = (
            f"{_name(solution, unit)}: {places * alignment:,} bytes at offset {offset * alignment:,}, "
            f"from {start / 1e3:,.2f} to {end / 1e3:,.2f} us"
        )
        found.append(_rectangle(solution, start, end, top, scale * places, colour(unit), says))
    return found


def _copies(solution: Solution) -> list[str]:
    book, found = solution.book, []
    words = book.words
    for copy in range(words[COPIES]):
        start, end = int(words[book.copy_start + copy]), int(words[book.copy_end + copy])
        block = words[book.copy_block + copy]
        is_back = bool(words[book.block_back + block] == copy)
        unit = int(words[book.block_unit + block])
        says = (
            f"{_name(solution, unit)} is copied {'out' if is_back else 'in'}, "
            f"from {start / 1e3:,.2f} to {end / 1e3:,.2f} us"
        )
        top = MEMORY + LANE * is_back
        found.append(_rectangle(solution, start, end, top, LANE, colour(unit), says))
    return found


def _waits(solution: Solution) -> list[str]:
    game = solution.game
    _, stalls = game.simulate_stalls(solution.book)
    longest = max(float(stalls.max()), 1e-12)
    found = []
    for step in np.flatnonzero(stalls > 0):
        height = WAITS * stalls[step] / longest
        start, end = (int(time) for time in game.tables.clock[step : step + 2])
        says = f"{game.program.instructions[step].name} waits for {stalls[step] * 1e6:,.2f} us"
        top = MEMORY + 2 * LANE + WAITS - height
        found.append(_rectangle(solution, start, end, top, height, (0.9, 0.0, 0.0), says))
    return found


def _name(solution: Solution, unit: int) -> str:
    members = units_of(solution.game.program)[unit]
    return ", ".join(solution.game.program.buffers[member].name for member in members)


def _rectangle(
    solution: Solution,
    start: int,
    end: int,
    top: float,
    height: float,
    shade: tuple[float, float, float],
    says: str,
) -> str:
    scale = WIDTH / max(int(solution.game.tables.clock[-1]), 1)
    fill = "#" + "".join(f"{round(255 * part):02x}" for part in shade)
    about = escape(says, quote=True)
    return (
        f'<rect x="{start * scale:.4f}" y="{top:.2f}" width="{max((end - start) * scale, 0.001):.4f}" '
        f'height="{height:.2f}" fill="{fill}" data-about="{about}"/>'
    )
