"""Carrying out a plan: parts in worker processes, then one store; a killed run goes on where it was."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from datasets.conversion.merge import merge_stores
from datasets.conversion.plan import Plan, part_id
from datasets.conversion.report import ConversionReport, peak_memory_mb, read_report, report_path
from datasets.conversion.workers import Job, write_parts
from datasets.errors import UserError
from datasets.store import EpisodeStore


@dataclass(frozen=True)
class Outcome:
    """What came of a plan."""

    report: ConversionReport
    """Told of the run that wrote the store."""
    already_there: bool
    """True if an earlier run had finished the same plan, and nothing was done now."""


def convert(plan: Plan, out: Path, workers: int, progress: bool = True) -> Outcome:
    """Write `<out>/<Game>.h5` and its report, unless an earlier run wrote the same.

    The parts are kept in `<out>/.<Game>.parts/` until the store is whole. A part that is there is taken as it
    is, if it was made from the same files and choices, so a run that was killed goes on after its last whole
    part. For a moment the disk holds the episodes twice, as parts and as the store.

    Args:
        plan: what to convert.
        out: folder of the store.
        workers: most processes at work; 0 for one a core.
        progress: show a progress bar.

    Raises:
        UserError: a source is damaged, the disk is full, a worker was killed or another conversion writes the
            same store. A store that was there before stays as it was.
    """
    store_path = out / f"{plan.game}.h5"
    report = _earlier_report(plan, store_path)
    if report is not None:
        return Outcome(report, already_there=True)
    with _parts_folder(store_path) as folder:
        report = _write_store(plan, store_path, folder, workers or os.cpu_count() or 1, progress)
    return Outcome(report, already_there=False)


def _write_store(
    plan: Plan, store_path: Path, folder: Path, workers: int, progress: bool
) -> ConversionReport:
    """Write the parts that are missing, the store and its report."""
    started = time.perf_counter()
    jobs = [Job(part, folder / f"{part_id(part)[:32]}.h5") for part in plan.parts]
    missing = [job for job in jobs if not _is_whole(job.path)]
    todo = sum(job.part.num_steps for job in missing)
    total = sum(job.part.num_steps for job in jobs)
    with tqdm(
        total=total, initial=total - todo, desc=plan.game, unit="step", disable=None if progress else True
    ) as bar:
        largest_first = sorted(missing, key=lambda job: job.part.num_steps, reverse=True)
        worker_memory = write_parts(largest_first, workers, bar.update)
    merge_stores([job.path for job in jobs], plan.order, store_path)
    store = EpisodeStore(store_path)
    seconds = time.perf_counter() - started
    report = ConversionReport(
        game=plan.game,
        store=store_path.name,
        content_id=store.content_id,
        plan_id=plan.plan_id,
        episodes=len(store.episodes),
        steps=store.num_steps,
        seconds=seconds,
        transitions_per_second=todo / seconds,
        reused_steps=total - todo,
        peak_memory_mb=peak_memory_mb() + worker_memory,
        summary=plan.summary,
    )
    report.write(report_path(store_path))
    shutil.rmtree(folder, ignore_errors=True)  # with parts of older plans, if any
    return report


def _earlier_report(plan: Plan, store_path: Path) -> ConversionReport | None:
    """The report of an earlier run of the same plan whose store is still there."""
    try:
        report = read_report(report_path(store_path))
        if report is None or report.plan_id != plan.plan_id:
            return None
        return report if EpisodeStore(store_path).content_id == report.content_id else None
    except UserError:
        return None  # store or report is missing or damaged: both are written again


def _is_whole(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        EpisodeStore(path)
    except UserError:
        return False
    return True


@contextmanager
def _parts_folder(store_path: Path) -> Iterator[Path]:
    """A folder for the parts of one store, for one run at a time; removed when no finished part is left."""
    folder = store_path.with_name(f".{store_path.stem}.parts")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot write {store_path}: {error.strerror}; check the folder of --out") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UserError(
            f"another conversion is writing {store_path}; wait for it to end, or give another --out"
        ) from error
    try:
        yield folder
    finally:
        # What a stopped worker left half written goes with the folder.
        if not any(folder.glob("[!.]*.h5")):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)
