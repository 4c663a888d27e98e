"""Pictures of what `benchmarks.planner` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.lines import Line2D

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.planner_report import Measurement
from datasets.files import replace_file

SETTINGS = {
    "width": "beam width",
    "horizon": "horizon (contexts are cut to leave room)",
    "frames": "frames of context",
    "batch": "environments in a batch",
    "threads": "threads",
}


STYLES: tuple[tuple[Literal[":", "-", "--"], str, str], ...] = (
    (":", "published_ms", "published way"),
    ("-", "single_ms", "ours, float32"),
    ("--", "half_ms", "ours, bfloat16"),
)


def draw_settings(lines: list[Measurement], path: Path) -> None:
    """Cost of a decision against each setting, the others being 2x2, most frames, batch 1, one thread."""
    subjects = list(dict.fromkeys(line.subject for line in lines))
    figure, axes = plt.subplots(1, len(SETTINGS), figsize=(17, 4.5), sharey=True, layout="constrained")
    for axis, (setting, label) in zip(axes, SETTINGS.items(), strict=True):
        for number, subject in enumerate(subjects):
            along = vary(lines, subject, setting)
            if len(along) < 2:
                continue
            places = [value for value, _ in along]
            for style, name, _ in STYLES:
                costs = [getattr(line, name) for _, line in along]
                axis.plot(places, costs, color=f"C{number}", linestyle=style, marker="o", markersize=3)
        axis.set(xlabel=label, yscale="log", xscale="log")
        ticks = sorted({value for subject in subjects for value, _ in vary(lines, subject, setting)})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("CPU milliseconds of a decision")
    handles = [Line2D([], [], color=f"C{number}", label=name) for number, name in enumerate(subjects)]
    handles += [Line2D([], [], color="gray", linestyle=style, label=name) for style, _, name in STYLES]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8)
    with replace_file(path) as beside:
        figure.savefig(beside, format="png", dpi=110)
    plt.close(figure)


def vary(lines: list[Measurement], subject: str, setting: str) -> list[tuple[int, Measurement]]:
    """Lines of a subject that differ from 2x2 with most frames, batch 1 and one thread in one setting."""
    frames = max((line.frames for line in lines if line.subject == subject and line.case == "2x2"), default=0)
    usual = {"width": 2, "horizon": 2, "frames": frames, "batch": 1, "threads": 1}
    found = []
    for line in lines:
        width, horizon = map(int, line.case.split("x"))
        values = {"width": width, "horizon": horizon, "frames": line.frames} | {
            name: getattr(line, name) for name in ("batch", "threads")
        }
        # A longer horizon leaves room for fewer frames, so those go with it.
        free = {setting, "frames"} if setting == "horizon" and horizon != 2 else {setting}
        if line.subject == subject and all(values[name] == usual[name] for name in set(usual) - free):
            found.append((values[setting], line))
    return sorted(found, key=lambda pair: pair[0])


def is_goal(line: Measurement, lines: list[Measurement]) -> bool:
    """Whether a line is 2x2 or 4x2, for one environment on one thread, with most frames."""
    same = (other.frames for other in lines if (other.subject, other.case) == (line.subject, line.case))
    return line.case in ("2x2", "4x2") and line.batch == line.threads == 1 and line.frames == max(same)


def draw(lines: list[Measurement], path: Path) -> None:
    """Cost of a decision in the cases of the goals, three bars each."""
    lines = [line for line in lines if line.published_ms > 0 and is_goal(line, lines)]
    figure, axes = plt.subplots(figsize=(10, 0.5 + 0.45 * len(lines)), layout="constrained")
    place = np.arange(len(lines))
    for shift, (name, label) in enumerate(
        (("published_ms", "published way"), ("single_ms", "ours, float32"), ("half_ms", "ours, bfloat16"))
    ):
        axes.barh(place + 0.27 * (shift - 1), [getattr(line, name) for line in lines], 0.26, label=label)
    labels = [f"{line.subject}\n{line.case}, batch {line.batch}, threads {line.threads}" for line in lines]
    axes.set_yticks(place, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("CPU milliseconds of a decision")
    figure.legend(loc="outside upper center", ncols=3)
    with replace_file(path) as beside:
        figure.savefig(beside, format="png", dpi=110)
    plt.close(figure)
