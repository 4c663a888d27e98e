"""Learning curves of the search agent: losses and scores against the minutes of training.

    python -m benchmarks.learning_curves --runs runs/shops runs/packings

Read from the TensorBoard files of runs of `agents.train_search`. Where every round plays a random instance
that was not seen before, the return is that on unseen instances. Minutes are the wall clock's, pauses between
rounds left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datasets.errors import UserError, run_command
from datasets.files import replace_file

CURVES = {
    "play/return": "return of games, with noise",
    "loss/policy": "loss of the policy, nats",
    "loss/value": "loss of the value, nats",
    "loss/value_error": "error of the value",
    "held_out/mean": "score on held-out instances",
}
SPARSE = "held_out/mean"
"""A curve with a point now and then, of runs with --held-out only: not smoothed, left out of other runs."""


@dataclass(frozen=True)
class Config:
    """What is drawn."""

    runs: tuple[Path, ...]
    """Folders of runs."""
    smoothing: int = 10
    """Rounds that a point of a curve is the mean of."""
    out: Path = Path(__file__).parent / "learning_curves.png"
    """The picture."""


def main() -> None:
    """Draw the curves of all runs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    config = tyro.cli(Config, description=__doc__)
    figure = Figure(figsize=(14, 3.2 * len(config.runs)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(config.runs), len(CURVES), squeeze=False, sharex="row")
    for run, row in zip(config.runs, axes, strict=True):
        for (name, title), one in zip(CURVES.items(), row, strict=True):
            if name == SPARSE and not has_curve(run, name):
                one.set_axis_off()
                continue
            minutes, values = read_curve(run, name)
            if name == SPARSE:
                one.plot(minutes, values, ".-")
                one.set_title(f"{run.name}: {title}", fontsize=9)
                one.set_xlabel("minutes")
                continue
            one.plot(minutes, values, ".", markersize=2, alpha=0.4)
            one.plot(smoothed(minutes, config.smoothing), smoothed(values, config.smoothing))
            one.set_title(f"{run.name}: {title}", fontsize=9)
            one.set_xlabel("minutes")
    with replace_file(config.out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    print(config.out)


def has_curve(run: Path, name: str) -> bool:
    """Whether a run noted it."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return name in events.Tags().get("scalars", [])


def read_curve(run: Path, name: str) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Minutes at the end of each of R rounds, and what was noted there.

    Raises:
        UserError: the run holds no such curve.
    """
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    if name not in events.Tags().get("scalars", []):
        raise UserError(f"{run}: no curve {name} in its tensorboard folder; give runs of agents.train_search")
    rounds = events.Scalars("seconds")
    ends = np.cumsum([event.value for event in rounds]) / 60
    minutes = {event.step: end for event, end in zip(rounds, ends, strict=True)}
    found = events.Scalars(name)
    return np.array([minutes[event.step] for event in found]), np.array([event.value for event in found])


def smoothed(values: Float[np.ndarray, " R"], count: int) -> Float[np.ndarray, " S"]:
    """Means of `count` neighbours."""
    count = min(count, len(values))
    return np.convolve(values, np.ones(count) / count, mode="valid")


if __name__ == "__main__":
    run_command(main)
