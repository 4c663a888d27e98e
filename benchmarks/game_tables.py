"""What the benchmarks of games share: results kept in a file, tables in markdown, bars.

Results are JSON: of each run (such as "compare 60 s") the rows of its instances, of each row its cells by
method. They are written after every cell, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from datasets.errors import UserError
from datasets.files import replace_file

Choice = TypeVar("Choice")


class Results:
    """The rows of one run, kept in a file beside those of other runs."""

    def __init__(self, path: Path, run: str) -> None:
        """Take up what the file holds of a run.

        Raises:
            UserError: the file is not JSON.
        """
        self._path = path
        try:
            self._kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: not JSON ({error}); move it away or give another --out") from error
        self.rows: dict[str, dict[str, Any]] = self._kept.setdefault(run, {})

    def row(self, instance: str) -> dict[str, Any]:
        """The cells of an instance, to be filled in."""
        return self.rows.setdefault(instance, {})

    def save(self) -> None:
        """Write everything, beside and renamed."""
        with replace_file(self._path) as temporary:
            temporary.write_text(json.dumps(self._kept, indent=1) + "\n")


def pick(choices: Mapping[str, Choice], asked: Collection[str], what: str = "methods") -> dict[str, Choice]:
    """The choices asked for, in their own order; all if none is asked for.

    Raises:
        UserError: there is none of a name.
    """
    unknown = set(asked) - set(choices)
    if unknown:
        raise UserError(
            f"{what}: there is none named {', '.join(sorted(unknown))}; choose from {list(choices)}"
        )
    return {name: choice for name, choice in choices.items() if not asked or name in asked}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def draw_bars(
    path: Path, groups: Sequence[str], bars: Mapping[str, Sequence[float]], ylabel: str, title: str
) -> None:
    """Bars side by side in groups; NaN where there is none.

    Args:
        path: PNG.
        groups: names along the axis.
        bars: of each method, a height for each group.
        ylabel: what the height is, with its unit.
        title: how it was measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / max(len(bars), 1)
    for place, (name, heights) in enumerate(bars.items()):
        left = np.arange(len(groups)) + (place - len(bars) / 2 + 0.5) * width
        axes.bar(left, heights, width=width, label=name)
    axes.set_xticks(range(len(groups)), list(groups), rotation=25, ha="right")
    axes.set(ylabel=ylabel, title=title)
    axes.legend(frameon=False, ncols=2)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
