"""What a run leaves behind for people: a loss trace, TensorBoard scalars and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from datasets.files import replace_file

Curve = list[tuple[int, float]]
"""Steps and values."""


class RunLog:
    """Writes `metrics.jsonl` and `tensorboard/` of a run, cut back to the step it goes on from."""

    def __init__(self, run: Path, step: int, writing: bool = True) -> None:
        """Open a run's log.

        Args:
            run: the run's folder.
            step: first step that will be logged; entries from it on are of a killed run, and go.
            writing: write; False in all processes of a run but one, which log the same.
        """
        self.run = run
        self._writing = writing
        if not writing:
            return
        run.mkdir(parents=True, exist_ok=True)
        self._path = run / "metrics.jsonl"
        if self._path.exists():
            _cut(self._path, step)
        self._file = self._path.open("a", buffering=1)
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step)

    def trace(self, step: int, phase: str, loss: float, scalars: Mapping[str, float]) -> None:
        """Add one step to `metrics.jsonl`; floats keep every digit."""
        if self._writing:
            self._file.write(json.dumps({"step": step, "phase": phase, "loss": loss, **scalars}) + "\n")

    def scalars(self, step: int, phase: str, values: Mapping[str, float]) -> None:
        """Add scalars to TensorBoard under the phase's name."""
        for name, value in values.items() if self._writing else ():
            self._board.add_scalar(f"{phase}/{name}", value, step)

    def held_out(self, step: int, phase: str, values: Mapping[str, float]) -> None:
        """Add scalars measured on held-out episodes, to TensorBoard and to `metrics.jsonl`."""
        if not (values and self._writing):
            return
        self._file.write(json.dumps({"step": step, "phase": phase, "held_out": dict(values)}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{phase}_held_out/{name}", value, step)

    def images(self, step: int, phase: str, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Add gray pictures [height, width]: to TensorBoard, and the latest as PNG under `images/`."""
        import imageio.v3 as iio

        for name, picture in pictures.items() if self._writing else ():
            self._board.add_image(f"{phase}/{name}", picture, step, dataformats="HW")
            with replace_file(self.run / "images" / f"{phase}_{name}.png") as temporary:
                iio.imwrite(temporary, picture, extension=".png")

    def close(self) -> None:
        """Flush everything to disk."""
        if not self._writing:
            return
        self._file.close()
        self._board.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, in the order of its steps."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def loss_curves(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[Curve, Curve]:
    """Steps and values of a loss: of every step of training, and as measured on held-out episodes.

    Args:
        lines: as `read_metrics` has them.
        name: of the loss, such as `loss/td`.
    """
    trained = [(line["step"], line[name]) for line in lines if name in line]
    held_out = [(line["step"], line["held_out"][name]) for line in lines if name in line.get("held_out", {})]
    return trained, held_out


def _cut(path: Path, step: int) -> None:
    """Keep the lines of steps before `step`; a line cut short by a kill goes too."""
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
    with replace_file(path) as temporary:
        temporary.write_text("".join(kept))
