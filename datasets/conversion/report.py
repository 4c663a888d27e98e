"""What a conversion read, kept and dropped, and why: printed, and kept as JSON beside the store."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import dacite

from datasets.errors import UserError
from datasets.files import replace_file


@dataclass(frozen=True)
class SourceFile:
    """One file, or one file of each array, that episodes were read from."""

    name: str
    """Its place below the source."""
    steps: int
    """Steps that it holds."""
    episodes: int
    """Whole episodes that it holds."""
    kept_episodes: int
    """How many of them are in the store."""
    kept_steps: int
    """Steps of those."""


@dataclass(frozen=True)
class Dropped:
    """Episodes that are not in the store, for one reason."""

    reason: str
    """Why, in words."""
    episodes: int
    """How many; an unfinished one counts as one."""
    steps: int
    """Their steps."""


@dataclass(frozen=True)
class SourceSummary:
    """What a source holds and what was chosen of it."""

    source: str
    """Where it is."""
    sampling: str
    """How episodes were chosen, in words."""
    total_episodes: int
    """Whole episodes that were there to choose from."""
    total_steps: int
    """All steps that were there, those of unfinished episodes included."""
    files: tuple[SourceFile, ...]
    """The files read."""
    dropped: tuple[Dropped, ...] = ()
    """What was left out."""
    notes: tuple[str, ...] = ()
    """What else a reader should know."""


@dataclass(frozen=True)
class ConversionReport:
    """A finished conversion."""

    game: str
    """The game, in the published spelling."""
    store: str
    """Name of the store's file."""
    content_id: str
    """`EpisodeStore.content_id` of the store."""
    plan_id: str
    """Names the sources and choices that the store was made from."""
    episodes: int
    """Episodes in the store."""
    steps: int
    """Steps in the store."""
    seconds: float
    """Time that this run took; parts that an earlier run had finished took none of it."""
    transitions_per_second: float
    """Steps converted by this run in a second."""
    reused_steps: int
    """Steps of parts that an earlier, interrupted run had finished."""
    peak_memory_mb: float
    """Sum of the largest resident memory of every process, in MB: an upper bound of all at one time."""
    summary: SourceSummary
    """What was read and dropped."""

    def text(self) -> str:
        """The report for a terminal."""
        total = self.summary
        lines = [
            f"{self.game}: {self.episodes} episodes, {self.steps} steps in {self.store} from {total.source}",
            f"  read: {len(total.files)} files, {total.total_episodes} whole episodes, "
            f"{total.total_steps} steps; {total.sampling}",
        ]
        lines += [
            f"  dropped: {drop.episodes} episodes, {drop.steps} steps: {drop.reason}"
            for drop in total.dropped
        ]
        lines += [f"  note: {note}" for note in total.notes]
        lines.append(
            f"  {self.seconds:.1f} s, {self.transitions_per_second:.0f} transitions/s, "
            f"peak memory {self.peak_memory_mb:.0f} MB"
            + (f", {self.reused_steps} steps kept from an interrupted run" if self.reused_steps else "")
        )
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write the report as JSON, beside `path` first and then in place."""
        with replace_file(path) as partial:
            partial.write_text(json.dumps(asdict(self), indent=2) + "\n")


def report_path(store: Path) -> Path:
    """Where the report of a store is kept: `Pong.report.json` beside `Pong.h5`."""
    return store.with_name(f"{store.stem}.report.json")


def read_report(path: Path) -> ConversionReport | None:
    """The report at `path`, None where there is none.

    Raises:
        UserError: the file is not a report.
    """
    try:
        fields = json.loads(path.read_text())
        return dacite.from_dict(ConversionReport, fields, dacite.Config(cast=[tuple], strict=True))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, dacite.DaciteError) as error:
        raise UserError(
            f"{path} is not a conversion report ({error}); delete it or restore a copy"
        ) from error


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
