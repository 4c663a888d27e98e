"""One page of HTML that shows what a run came to: words, tables, pictures, charts and videos.

Pictures are part of the page; videos lie beside it and are played from there. The page uses no
script and fetches nothing.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from agents.metrics import Estimate
from datasets.files import replace_file

_STYLE = """
:root { --text: #1c2330; --quiet: #5d6878; --line: #dfe4ea; --page: #f6f7f9; --card: #fff; --mark: #1f77a8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8ebf0; --quiet: #9aa6b6; --line: #303845; --page: #12151b; --card: #1b2029;
          --mark: #5bb8e8; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .6rem 0; }
figure { margin: 1.25rem 0; padding: .75rem; background: var(--card); border: 1px solid var(--line);
         border-radius: 8px; }
figure img, figure video { display: block; max-width: 100%; margin: 0 auto; border-radius: 4px; }
figure img.pixels { image-rendering: pixelated; }
figcaption { margin-top: .6rem; color: var(--quiet); font-size: .9rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .75rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--quiet); font-weight: 600; font-size: .85rem; }
tr:last-child td { border-bottom: 0; }
tr.best td { font-weight: 600; color: var(--mark); }
code, pre { font: .9em/1.5 ui-monospace, "SF Mono", Consolas, monospace; }
pre { padding: .75rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
      overflow-x: auto; }
"""


class Report:
    """A page that grows from top to bottom; `write` puts it on disk."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._body = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._body.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._body.append(f"<p>{html.escape(text)}</p>")

    def command(self, text: str) -> None:
        """Add a command line, or anything else that is to be read letter by letter."""
        self._body.append(f"<pre>{html.escape(text)}</pre>")

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        caption: str = "",
        best: int | None = None,
    ) -> None:
        """Add a table.

        Args:
            columns: headings.
            rows: cells as text, as many as there are headings.
            caption: what the table shows and on how many episodes it rests.
            best: index of a row to bring out.

        Raises:
            ValueError: a row of another length than the headings.
        """
        if any(len(row) != len(columns) for row in rows):
            raise ValueError(f"every row of the table needs {len(columns)} cells")
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        lines = [
            f"<tr{' class=best' if index == best else ''}>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            + "</tr>"
            for index, row in enumerate(rows)
        ]
        body = f'<div class="table"><table><tr>{head}</tr>{"".join(lines)}</table></div>'
        self._figure(body, caption)

    def image(
        self,
        pixels: UInt8[np.ndarray, "H W"] | UInt8[np.ndarray, "H W 3"],
        caption: str,
        *,
        width: int | None = None,
    ) -> None:
        """Add a picture, gray or RGB, drawn with sharp pixels.

        Args:
            pixels: the picture.
            caption: what it shows.
            width: shown width in pixels; by default its own.
        """
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG", optimize=True)
        size = f' width="{width}"' if width else ""
        self._figure(_png(file, caption, f' class="pixels"{size}'), caption)

    def chart(self, figure: Figure, caption: str) -> None:
        """Add a matplotlib figure."""
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=160, bbox_inches="tight")
        self._figure(_png(file, caption, f' width="{int(figure.get_figwidth() * 100)}"'), caption)

    def video(self, file: str, caption: str) -> None:
        """Add a video that lies beside the page.

        Args:
            file: its path relative to the page.
            caption: what it shows.
        """
        source = html.escape(file, quote=True)
        self._figure(
            f'<video controls loop muted playsinline preload="metadata" src="{source}"></video>', caption
        )

    def render(self) -> str:
        """The page as text."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
            + "\n".join(self._body)
            + "\n</main></body></html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Write the page beside `path` and rename it in place.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        with replace_file(path) as temporary:
            temporary.write_text(self.render(), encoding="utf-8")

    def _figure(self, content: str, caption: str) -> None:
        words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._body.append(f"<figure>{content}{words}</figure>")


def format_estimate(estimate: Estimate, digits: int = 2) -> str:
    """A statistic and its 95% interval in words, such as `1.25 [0.80, 1.71]`."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f} [one episode: no interval]"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the terminal: first column to the left, the others to the right."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [lines[0], rule, *lines[1:]]
    )


def chart_estimates(estimates: Mapping[str, Estimate], label: str) -> Figure:
    """Draw statistics with their 95% intervals, one row each, first row on top.

    Args:
        estimates: by the name of the player.
        label: name of the axis, such as "score in Pong".
    """
    figure = Figure(figsize=(7.2, 0.7 + 0.42 * len(estimates)))
    axes = figure.subplots()
    for row, estimate in enumerate(estimates.values()):
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row, row], color="#3fa7d6", linewidth=7, alpha=0.35)
        axes.plot(estimate.value, row, "o", color="#1f77a8", markersize=7)
    axes.set_yticks(range(len(estimates)), [f"{name}  (n={e.episodes})" for name, e in estimates.items()])
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#dfe4ea")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _png(file: io.BytesIO, text: str, attributes: str) -> str:
    encoded = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(text, quote=True)}"{attributes} src="data:image/png;base64,{encoded}">'
