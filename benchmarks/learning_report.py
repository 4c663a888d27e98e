"""What `benchmarks.learning` shows: a table with intervals, and a picture of how learning went.

Letters: G seeds, N episodes of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from agents.metrics import Estimate, summarise, summarise_difference
from agents.report import format_estimate, text_table
from datasets.files import replace_file
from datasets.store import EpisodeStore
from world_model.run_log import loss_curves, read_metrics

LOSSES = {"loss/td": "Q head", "loss/observation": "next token"}
"""Losses drawn, in nats."""


def report(game: str, folders: Sequence[Path], picture: Path) -> str:
    """Draw the picture; return the tables in words.

    Args:
        game: name of the game.
        folders: of the seeds, all stages done.
        picture: PNG file to write.
    """
    scores = read_scores(folders)
    draw(game, folders, scores, picture)
    rows = [
        [name, format_estimate(summarise(s, "mean")), " ".join(f"{mean:.1f}" for mean in s.mean(axis=1))]
        for name, s in scores.items()
    ]
    stores = [EpisodeStore(folder / "play.h5") for folder in folders]
    spent = [
        f"{cost['cpu_minutes']:.1f}{' since it was resumed' if cost['resumed'] else ''}"
        for cost in map(_cost, folders)
        if cost is not None
    ]
    lines = [
        text_table([f"score in {game}", "mean [95% interval]", "of each seed"], rows),
        "",
        text_table(["difference", "mean [95% interval]"], differences(scores)),
        "",
        f"data: {', '.join(f'{store.num_steps} steps, content {store.content_id[:12]}' for store in stores)}",
        f"CPU minutes of our training: {', '.join(spent) or 'not trained'}",
        f"written: {picture}",
    ]
    return "\n".join(lines)


def read_scores(folders: Sequence[Path]) -> dict[str, Float[np.ndarray, "G N"]]:
    """Scores of every player, the data first; of the data as many episodes as the shortest seed has."""
    stores = [[e.total_reward for e in EpisodeStore(folder / "play.h5").episodes] for folder in folders]
    shortest = min(map(len, stores))
    scores = {"the data": np.array([rewards[:shortest] for rewards in stores])}
    # A player that has not played for every seed yet is left out.
    names = set.intersection(*({path.stem for path in (f / "scores").glob("*.json")} for f in folders))
    for name in sorted(names, key=_order):
        if not name.startswith("curve "):
            scores[name] = np.array([_scores_in(folder / "scores" / f"{name}.json") for folder in folders])
    return scores


def differences(scores: dict[str, Float[np.ndarray, "G N"]]) -> list[list[str]]:
    """What the goals ask: our agent against the data and the baselines, planning against none."""
    others = ("the data", "clone", "clone the best", "conservative", "random", "Q network apart")
    pairs = [("greedy", other) for other in others]
    planned = [name for name in scores if name.startswith(("beam", "tree"))]
    pairs += [(name, "greedy") for name in planned] + [
        (name, "greedy, planner's context") for name in planned
    ]
    return [
        [f"{first} - {second}", format_estimate(_difference(scores[first], scores[second]))]
        for first, second in pairs
        if first in scores and second in scores
    ]


def draw(game: str, folders: Sequence[Path], scores: dict[str, np.ndarray], picture: Path) -> None:
    """Losses, the learning curve, and the scores of all players."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    panels = list(figure.subplots(2, 2).flat)
    metrics = [_metrics(folder) for folder in folders]
    paces, time = [1.0] * len(folders), "step"
    minutes = [_minutes_a_step(*one) for one in zip(folders, metrics, strict=True)]
    if None not in minutes:
        paces, time = minutes, "CPU minutes"
    for axes, (key, label) in zip(panels, LOSSES.items(), strict=False):
        for lines, pace in zip(metrics, paces, strict=True):
            _draw_losses(axes, lines, key, pace)
        axes.set(xlabel=time, ylabel=f"{label}, nats", title=f"{label}: trained (thin) and held out")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(base=2, subs=(1.0, 1.5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    curve, bars = panels[2:]
    curves = [learning_curve(folder) for folder in folders]
    for folder, (steps, means), pace in zip(folders, curves, paces, strict=True):
        curve.plot(pace * np.array(steps), means, "o-", label=folder.name)
    if any(steps for steps, _ in curves):
        curve.axhline(scores["the data"].mean(), color="gray", linestyle=":", label="the data")
        curve.set(xlabel=time, ylabel="mean score, greedy", title="Learning curve")
        curve.legend(frameon=False)
    else:
        curve.set_axis_off()
        curve.text(0.5, 0.5, "the learning curve was not played", ha="center", transform=curve.transAxes)
    for row, values in enumerate(scores.values()):
        estimate = summarise(values, "mean")
        bars.plot(estimate.value, row, "o", color="#1f77a8")
        if estimate.low is not None and estimate.high is not None:
            bars.plot([estimate.low, estimate.high], [row, row], color="#3fa7d6", linewidth=6, alpha=0.4)
    bars.set_yticks(range(len(scores)), list(scores))
    bars.invert_yaxis()
    bars.set(xlabel=f"mean score in {game}", title="Whole games, 95% intervals")
    with replace_file(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def learning_curve(folder: Path) -> tuple[list[int], list[float]]:
    """Steps of the checkpoints that played, and their mean scores."""
    found = sorted((folder / "scores").glob("curve *.json"))
    steps = [int(path.stem.split("_")[-1]) for path in found]
    return steps, [float(np.mean(_scores_in(path))) for path in found]


def _draw_losses(axes: Axes, lines: list[dict[str, Any]], key: str, pace: float) -> None:
    if not lines:
        axes.text(0.5, 0.5, "our agent was not trained", ha="center", transform=axes.transAxes)
        return
    trained, aside = loss_curves(lines, key)
    if trained:
        steps, values = np.array(trained).T
        width = max(1, len(values) // 50)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        [line] = axes.plot(pace * steps[width - 1 :], smooth, linewidth=0.8)
        if aside:
            steps, values = np.array(aside).T
            axes.plot(pace * steps, values, linewidth=2, color=line.get_color())


def _metrics(folder: Path) -> list[dict[str, Any]]:
    """What a training wrote for each step; nothing where there was none."""
    run = folder / "run"
    return read_metrics(run) if (run / "metrics.jsonl").exists() else []


def _cost(folder: Path) -> dict[str, Any] | None:
    """What our training took; None where it has not ended."""
    path = folder / "trained.json"
    return json.loads(path.read_text()) if path.exists() else None


def _minutes_a_step(folder: Path, lines: list[dict[str, Any]]) -> float | None:
    """CPU minutes that a step took on average; None where no training was timed from its first step."""
    cost = _cost(folder)
    if not lines or cost is None or cost["resumed"]:
        return None
    return cost["cpu_minutes"] / (lines[-1]["step"] + 1)


def _difference(first: Float[np.ndarray, "G N"], second: Float[np.ndarray, "G M"]) -> Estimate:
    return summarise_difference(first.reshape(-1), second.reshape(-1), "mean")


def _scores_in(path: Path) -> list[float]:
    content: dict[str, Any] = json.loads(path.read_text())
    return [float(episode["score"]) for episode in content["episodes"]]


def _order(name: str) -> tuple[int, str]:
    """Random play and the baselines before our agent, planning last."""
    places = ("random", "clone", "conservative", "Q network apart", "greedy", "beam", "tree")
    return next((place for place, start in enumerate(places) if name.startswith(start)), -1), name
