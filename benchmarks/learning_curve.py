"""Learning curves of a training run of the search agent, from its TensorBoard files.

    python -m benchmarks.learning_curve --run runs/maps --out benchmarks/memory_learning.png

Scores on held-out instances, policy loss and value error against the minutes of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datasets.errors import UserError, run_command
from datasets.files import replace_file

SMOOTHED = 10
"""Rounds that the thick lines of losses are means over."""


@dataclass(frozen=True)
class CurveConfig:
    """Draw a run."""

    run: Path
    """Folder of the run."""
    out: Path
    """Picture to write."""


def main() -> None:
    """Draw three panels.

    Raises:
        UserError: the folder holds no run.
    """
    config = tyro.cli(CurveConfig, description=__doc__)
    events = EventAccumulator(str(config.run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    names = events.Tags()["scalars"]
    if "seconds" not in names:
        raise UserError(f"{config.run}: no training run; give a folder made by agents.train_search")
    seconds = {event.step: event.value for event in events.Scalars("seconds")}
    steps = sorted(seconds)
    minutes = dict(zip(steps, np.cumsum([seconds[step] for step in steps]) / 60, strict=True))
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for name in names:
        if name.startswith("held_out/"):
            events_of = events.Scalars(name)
            bold = name == "held_out/mean"
            axes[0].plot(
                [minutes[event.step] for event in events_of],
                [event.value for event in events_of],
                marker=".", color="black" if bold else None, linewidth=2.5 if bold else 1,
                label=name.removeprefix("held_out/"),
            )  # fmt: skip
    axes[0].set_title("held-out instances, likeliest moves")
    axes[0].legend(fontsize=7)
    for axis, name in zip(axes[1:], ("loss/policy", "loss/value_error"), strict=True):
        values = [(minutes[event.step], event.value) for event in events.Scalars(name)]
        when, value = np.array(values).T
        axis.plot(when, value, linewidth=0.6, alpha=0.6)
        count = min(SMOOTHED, len(value))
        axis.plot(when[count - 1 :], np.convolve(value, np.ones(count) / count, "valid"), linewidth=2)
        axis.set_title({"loss/policy": "policy loss, nats", "loss/value_error": "value error"}[name])
    for axis in axes:
        axis.set_xlabel("minutes of training")
    with replace_file(config.out) as beside:
        figure.savefig(beside, dpi=110, format="png")
    plt.close(figure)


if __name__ == "__main__":
    run_command(main)
