"""What `benchmarks.scaling_law` shows: the grid, the fitted laws, how well they foretell, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from agents.report import text_table
from benchmarks.scaling_fit import Loss, Point, ScalingLaw, falling, fit_law, trainings
from datasets.files import replace_file

LOSSES: dict[Loss, str] = {"next_token": "next token", "action": "recorded action"}
BUDGETS = (3.0, 12.0, 30.0, 60.0)
"""CPU minutes for which the law says which width it would take."""


def report(game: str, points: Sequence[Point], picture: Path) -> str:
    """Draw the picture; return the tables in words."""
    laws = {loss: fit_law(falling(points, loss), loss) for loss in LOSSES}
    draw(game, points, laws, picture)
    parts = [grid(points)]
    for loss, law in laws.items():
        parts += [f"\n{LOSSES[loss]}: {in_words(law)}", foretold(points, law, loss), best_widths(points, law)]
    return "\n".join([*parts, f"\nwritten: {picture}"])


def grid(points: Sequence[Point]) -> str:
    """Each training's lowest losses."""
    rows = []
    for training in trainings(points):
        first, last = training[0], training[-1]
        row = [str(first.width), f"{first.parameters / 1e6:.2f}M", str(first.decisions)]
        row.append(f"{last.steps * last.seconds_a_step / 60:.1f}")
        for loss in LOSSES:
            best = min(training, key=lambda point, loss=loss: getattr(point, loss))
            row += [f"{getattr(best, loss):.3f}", str(best.steps), f"{getattr(last, loss):.3f}"]
        rows.append(row)
    columns = ["width", "parameters", "decisions", "CPU minutes"]
    for label in LOSSES.values():
        columns += [f"{label}, lowest", "at step", "at the end"]
    return text_table(columns, rows)


def in_words(law: ScalingLaw) -> str:
    """The law as a formula."""
    names = ("parameters", "decisions", "steps")
    terms = zip(law.factors, names, law.exponents, strict=True)
    return f"{law.floor:.3f} + " + " + ".join(f"{factor:.3g} / {name}^{e:.2f}" for factor, name, e in terms)


def foretold(points: Sequence[Point], law: ScalingLaw, loss: Loss) -> str:
    """How far the law is from its points, and, fitted without it, from the largest training."""
    fitted = falling(points, loss)
    errors = [abs(law(*point.axes) / getattr(point, loss) - 1) for point in fitted]
    said = f"error of the {len(fitted)} points fitted: mean {np.mean(errors):.1%}, most {max(errors):.1%}"
    largest = max(trainings(fitted), key=lambda training: (training[0].parameters, training[0].decisions))
    others = [point for point in fitted if point not in largest]
    if len({point.parameters for point in others}) < 2 or len({point.decisions for point in others}) < 2:
        return said
    last = largest[-1]
    guess, measured = fit_law(others, loss)(*last.axes), getattr(last, loss)
    return (
        f"{said}\nfitted without width {last.width} on {last.decisions} decisions, it foretells {guess:.3f} "
        f"after {last.steps} steps, measured {measured:.3f} ({guess / measured - 1:+.1%})"
    )


def best_widths(points: Sequence[Point], law: ScalingLaw) -> str:
    """What the law says of each width after so many CPU minutes on the most play."""
    sizes = {training[0].parameters: training[0] for training in trainings(points)}
    decisions = max(point.decisions for point in points)
    rows = []
    for minutes in BUDGETS:
        row = [f"{minutes:g} CPU minutes"]
        for point in sizes.values():
            # The median, because other work may have slowed one training.
            seconds = np.median([p.seconds_a_step for p in points if p.parameters == point.parameters])
            row.append(f"{law(point.parameters, decisions, 60 * minutes / float(seconds)):.3f}")
        rows.append(row)
    return text_table(["foretold on the most play", *(f"width {p.width}" for p in sizes.values())], rows)


def draw(game: str, points: Sequence[Point], laws: dict[Loss, ScalingLaw], picture: Path) -> None:
    """Measured losses and the laws against steps, a panel for each loss and amount of play."""
    amounts = sorted({point.decisions for point in points})
    widths = sorted({point.width for point in points})
    figure = Figure(figsize=(4.2 * len(amounts), 7), layout="constrained")
    panels = figure.subplots(len(LOSSES), len(amounts), sharex=True, sharey="row", squeeze=False)
    for row, (loss, law) in zip(panels, laws.items(), strict=True):
        for axes, decisions in zip(row, amounts, strict=True):
            for training in trainings([point for point in points if point.decisions == decisions]):
                steps = np.array([point.steps for point in training])
                color = f"C{widths.index(training[0].width)}"
                measured = [getattr(point, loss) for point in training]
                axes.plot(steps, measured, "o", color=color, label=f"width {training[0].width}")
                axes.plot(steps, law(training[0].parameters, decisions, steps), color=color, linewidth=1)
            axes.set(xscale="log", yscale="log", title=f"{LOSSES[loss]}, {decisions:,} decisions")
            axes.xaxis.set_major_locator(LogLocator(base=2))
            axes.xaxis.set_minor_locator(NullLocator())
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter("{x:g}")
        row[0].set_ylabel("held-out loss, nats")
    for axes in panels[-1]:
        axes.set_xlabel("steps")
    panels[0, 0].legend(frameon=False)
    figure.suptitle(f"{game}: measured (points) and the fitted law (lines)")
    with replace_file(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
