"""How benchmarks.finetuning shows what it measured: curves and a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from agents.metrics import summarise
from agents.report import format_estimate
from datasets.files import replace_file

matplotlib.use("Agg")
from matplotlib import pyplot

LOSSES = {
    "token_loss": "next token, nats",
    "reward_loss": "reward, nats",
    "action_loss": "Q head, nats",
}


@dataclass(frozen=True)
class Measurement:
    """What is known of one checkpoint."""

    name: str
    """Way of training."""
    seed: int
    """Seed of that training."""
    step: int
    """Steps on the new game."""
    token_loss: float
    """Cross-entropy of the next observation token, on held-out segments."""
    reward_loss: float
    """Cross-entropy of the reward's sign."""
    action_loss: float
    """What the Q head is trained towards: its distance from its targets and the weighted penalty."""
    scores: tuple[float, ...] = ()
    """Scores of the games played."""

    @property
    def mean_score(self) -> float:
        """Mean of the scores; NaN where none was played."""
        return float(np.mean(self.scores)) if self.scores else float("nan")


def read_measurements(path: Path) -> list[Measurement]:
    """What an interrupted benchmark had measured."""
    if not path.exists():
        return []
    return [Measurement(**{**m, "scores": tuple(m["scores"])}) for m in json.loads(path.read_text())]


def curve(
    found: Sequence[Measurement], name: str, value: Callable[[Measurement], float]
) -> tuple[list[int], np.ndarray]:
    """Steps of a way of training, and the values there of every seed [steps, seeds]; NaN is left out."""
    chosen = [m for m in found if m.name == name and not np.isnan(value(m))]
    steps = sorted({m.step for m in chosen})
    return steps, np.array([[value(m) for m in chosen if m.step == step] for step in steps])


def plot(found: Sequence[Measurement], path: Path, title: str) -> None:
    """Losses and scores against steps; the band reaches from the lowest seed to the highest."""
    figure, axes = pyplot.subplots(1, 4, figsize=(16, 4), constrained_layout=True)
    panels: list[tuple[str, Callable[[Measurement], float]]] = [
        (label, lambda m, field=field: getattr(m, field)) for field, label in LOSSES.items()
    ]
    panels.append(("mean score of new games", lambda m: m.mean_score))
    for axis, (label, value) in zip(axes, panels, strict=True):
        for name in dict.fromkeys(m.name for m in found):
            # Another tokenizer asks other questions of its tokens.
            if "token" in label and "own tokenizer" in name:
                continue
            # Before the first step losses are so high that nothing else could be told apart.
            steps, values = curve([m for m in found if m.step], name, value)
            if steps:
                (line,) = axis.plot(steps, values.mean(1), marker=".", label=name)
                axis.fill_between(steps, values.min(1), values.max(1), color=line.get_color(), alpha=0.15)
        axis.set(title=label, xlabel="steps on the new game")
    axes[-1].legend(fontsize="small")
    figure.suptitle(f"{title}: held-out losses and scores")
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
    pyplot.close(figure)


def table(found: Sequence[Measurement]) -> str:
    """Markdown: each way of training at its start and end, as means over seeds."""
    columns = ("trained", "steps", *LOSSES.values(), "score, mean [95% interval]", "of each seed")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for name in dict.fromkeys(m.name for m in found):
        played = {m.step for m in found if m.name == name and m.scores}
        for step in sorted({m.step for m in found if m.name == name} if not played else played | {0}):
            here = [m for m in found if m.name == name and m.step == step]
            of_seeds = " ".join(f"{m.mean_score:.0f}" for m in here if m.scores)
            losses = (_loss_cell(here, field, name) for field in LOSSES)
            cells = [name, str(step), *losses, _score_cell(here), of_seeds]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _loss_cell(here: Sequence[Measurement], field: str, name: str) -> str:
    if field == "token_loss" and "own tokenizer" in name:
        return "other tokens"
    return f"{np.mean([getattr(m, field) for m in here]):.3f}"


def _score_cell(here: Sequence[Measurement]) -> str:
    scores = np.array([m.scores for m in here if m.scores])
    return format_estimate(summarise(scores, "mean")) if len(scores) else ""
