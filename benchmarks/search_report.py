"""The figures of `benchmarks.search` as tables for the terminal and for RESULTS.md, and as a plot.

`measured` holds for each part its date, its machine and its figures, as `search.json` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from agents.report import text_table

BATCHES = (1, 16, 128, 1024)
LENGTHS = (50, 200, 800)
ALONE = ("table", "puct-lengths", "gumbel-lengths")
"""Parts that measure the table model in one thread."""
GOALS = {
    ("puct", "table", 50): ("pUCT, table, N=50", (10, 20, 120, 1400)),
    ("puct", "table", 200): ("pUCT, table, N=200", (None, None, 180, None)),
    ("gumbel", "table", 50): ("Gumbel, table, N=50", (8, 16, 85, 1000)),
    ("gumbel", "mlp", 50): ("Gumbel, MLP 2x256, N=50", (17, 60, 450, 4000)),
}
COLORS = {"puct": "#3b6fb6", "gumbel": "#d1682c"}
NAMES = {"puct": "pUCT", "gumbel": "Gumbel"}


def figures(measured: dict[str, Any], *parts: str) -> list[dict[str, Any]]:
    """The figures of some parts, those that were measured."""
    return [figure for part in parts if part in measured for figure in measured[part]["figures"]]


def find(listed: list[dict], search: str, model: str, simulations: int, batch: int) -> dict[str, Any]:
    """One case's figures; empty if it was not measured."""
    wanted = {"search": search, "model": model, "simulations": simulations, "batch": batch}
    for figure in listed:
        if wanted.items() <= figure.items():
            return figure
    return {}


def goal_rows(measured: dict[str, Any]) -> list[list[str]]:
    """Ours, the goal and mctx for each cell of the goals table."""
    listed, rows = figures(measured, *ALONE, "network"), []
    for (search, model, simulations), (title, goals) in GOALS.items():
        row = [title]
        for batch, goal in zip(BATCHES, goals, strict=True):
            figure = find(listed, search, model, simulations, batch)
            if not figure:
                row.append("-")
                continue
            text = number(figure["microseconds"])
            if goal is not None:
                text += f" (<= {goal}{'' if figure['microseconds'] <= goal else ', missed'})"
            if "mctx_microseconds" in figure:
                text += f"; mctx {number(figure['mctx_microseconds'])}"
            row.append(text)
        rows.append(row)
    eager = [find(listed, "gumbel", "eager", 50, batch) for batch in BATCHES]
    if any(eager):
        cells = [number(figure["microseconds"]) if figure else "-" for figure in eager]
        rows.append(["the same MLP as eager PyTorch", *cells])
    return rows


def thread_rows(measured: dict[str, Any]) -> list[list[str]]:
    """One and two threads."""
    rows = []
    for figure in figures(measured, "table-threads", "network-threads"):
        case = (figure["search"], figure["model"], figure["simulations"], figure["batch"])
        single = figure.get("one_thread")
        if single is None:
            single = find(figures(measured, "network"), *case).get("microseconds")
        if single is None:
            continue
        speed_up = single / figure["microseconds"]
        title = f"{NAMES[case[0]]}, {case[1]}, N={case[2]}, B={case[3]}"
        rows.append([title, number(single), number(figure["microseconds"]), f"{speed_up:.2f}"])
    return rows


def length_rows(measured: dict[str, Any]) -> list[list[str]]:
    """How the cost grows with the number of simulations, beside the paths that are walked."""
    listed, rows = figures(measured, *ALONE), []
    for search in NAMES:
        for batch in BATCHES:
            cells = [find(listed, search, "table", length, batch) for length in LENGTHS]
            if not all(cells):
                continue
            times = [cell["microseconds"] for cell in cells]
            lengths = [cell["path_length"] for cell in cells]
            rows.append(
                [
                    f"{NAMES[search]}, B={batch}",
                    *map(number, times),
                    f"{times[2] / times[0]:.2f}",
                    " / ".join(f"{length:.1f}" for length in lengths),
                    f"{lengths[2] / lengths[0]:.2f}",
                ]
            )
    return rows


def memory_rows(measured: dict[str, Any]) -> list[list[str]]:
    """Bytes of tree for each node."""
    rows = []
    for figure in figures(measured, *ALONE):
        if figure["batch"] == 128 and "mctx_bytes_per_node" in figure:
            title = f"{NAMES[figure['search']]}, N={figure['simulations']}"
            rows.append([title, number(figure["bytes_per_node"]), number(figure["mctx_bytes_per_node"])])
    return rows


def equal_state_rows(measured: dict[str, Any]) -> list[list[str]]:
    """Evaluations and right moves with and without merging."""
    listed = figures(measured, "equal-states")
    pairs = zip(listed[::2], listed[1::2], strict=True)
    return [
        [
            str(apart["simulations"]),
            number(apart["evaluated"]),
            number(merged["evaluated"]),
            f"{1 - merged['evaluated'] / apart['evaluated']:.0%}",
            f"{apart['right']:.1%}",
            f"{merged['right']:.1%}",
        ]
        for apart, merged in pairs
    ]


TABLES = (
    ("Microseconds per simulation of the whole batch, model included, one thread.",
     ["", *(f"B={batch}" for batch in BATCHES)], goal_rows),
    ("One and two threads, microseconds per simulation.",
     ["", "one thread", "two", "speed-up"], thread_rows),
    ("Growth with the number of simulations N (table model, one thread), beside the mean length of the "
     "paths. Where all trees together exceed 30 MB, roots are searched in groups (`max_batch`).",
     ["", "N=50", "200", "800", "cost 800/50", "path length at 50 / 200 / 800", "length 800/50"],
     length_rows),
    ("Bytes of tree for each node (B=128; the model's own states left out).",
     ["", "ours", "mctx"], memory_rows),
    ("Equal states merged (noughts and crosses, 255 positions of at most 3 stones at which a move can be "
     "wrong): evaluations for one root, and share of the roots at which a best move is taken.",
     ["N", "evaluations, apart", "merged", "saved", "right, apart", "merged"], equal_state_rows),
)  # fmt: skip


def goals_text(measured: dict[str, Any]) -> str:
    """Everything for the terminal."""
    parts = []
    for title, columns, rows_of in TABLES:
        rows = rows_of(measured)
        if rows:
            parts.append(f"{title}\n\n{text_table(columns, rows)}\n")
    return "\n".join([*parts, agreement(measured)])


def section(measured: dict[str, Any]) -> str:
    """The section "Tree search" of RESULTS.md."""
    lines = ["## Tree search", "", "- Command: `python -m benchmarks.search` (with the extra `mctx`)"]
    for machine, date in dict.fromkeys((part["machine"], part["date"]) for part in measured.values()):
        parts = [
            name for name, part in measured.items() if (part["machine"], part["date"]) == (machine, date)
        ]
        lines.append(f"- Machine: {machine}")
        lines.append(f"- Date: {date} ({', '.join(parts)})")
    lines += [
        "- Table model: 1000 states, 18 actions, rewards, values and logits unit normal. MLP: `MLPModel` of "
        "two hidden layers of 256. Each figure is the fastest of several rounds: what others do on the "
        "machine only adds to it.",
        "- Goals stand in brackets.",
        "",
        agreement(measured),
        "",
        "![cost of a simulation over batch size and number of simulations](search.png)",
        "",
    ]
    for title, columns, rows_of in TABLES:
        rows = rows_of(measured)
        if rows:
            lines += [title, "", _markdown(columns, rows), ""]
    return "\n".join(lines)


def agreement(measured: dict[str, Any]) -> str:
    """How many trees are the same in both programs."""
    compared = [figure for figure in figures(measured, *ALONE, "network") if "mctx_equal_trees" in figure]
    if not compared:
        return "Trees were not compared with mctx's: it is not installed."
    shares = [f"{model}: {_share(compared, model)}" for model in ("table", "mlp")]
    return f"Trees equal to mctx's node for node and visit for visit (float32): {'; '.join(shares)}."


def _share(compared: list[dict[str, Any]], model: str) -> str:
    of_model = [figure for figure in compared if figure["model"] == model]
    total = sum(figure["batch"] for figure in of_model)
    equal = sum(round(figure["batch"] * figure["mctx_equal_trees"]) for figure in of_model)
    return f"{equal} of {total}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Three digits at least, no more than one behind the point."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def draw(measured: dict[str, Any], path: Path) -> None:
    """Plot the cost for one root over batch size, and of a batch over the number of simulations."""
    listed = figures(measured, *ALONE)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    over_batch, over_length = figure.subplots(1, 2)
    for search, color in COLORS.items():
        for key, style, label in (("microseconds", "-o", "ours"), ("mctx_microseconds", "--s", "mctx")):
            cells = [cell for cell in listed if cell["search"] == search and key in cell]
            if not cells:
                continue
            by_batch = [cell for cell in cells if cell["simulations"] == 50]
            over_batch.plot(
                [cell["batch"] for cell in by_batch],
                [cell[key] / cell["batch"] for cell in by_batch],
                style, color=color, label=f"{NAMES[search]}, {label}",
            )  # fmt: skip
            by_length = [cell for cell in cells if cell["batch"] == 128]
            over_length.plot(
                [cell["simulations"] for cell in by_length],
                [cell[key] / cell["batch"] for cell in by_length],
                style, color=color,
            )  # fmt: skip
    over_batch.set(xlabel="roots in a batch (N=50)", ylabel="microseconds per simulation and root")
    over_length.set(xlabel="simulations N (B=128)")
    for axes in (over_batch, over_length):
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    for axes, places in ((over_batch, BATCHES), (over_length, LENGTHS)):
        axes.set_xticks(places, labels=[str(place) for place in places])
        axes.set_xticks([], minor=True)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Tree search on a table model, one thread")
    figure.savefig(path, dpi=120, format="png")
