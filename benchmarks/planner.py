"""Cost of a decision of the beam planner: the published way of executing it beside ours.

    python -m benchmarks.planner                                the table of benchmarks/RESULTS.md, minutes
    python -m benchmarks.planner --sizes 40M --widths 1 16 --horizons 1 6 --contexts 8 --threads 2
    python -m benchmarks.planner --one-at-a-time --widths 2 1 4 8 16 --horizons 2 1 4 6 --published-rows 2
    python -m benchmarks.planner --sizes --trained RUN STORE    a trained model on the frames of a store
    python -m benchmarks.planner --device cuda

Every case runs three ways in turn, round after round, on the same contexts: the published way
(`benchmarks.published_search`), ours in float32 and ours in bfloat16. Costs are CPU seconds (on a GPU,
seconds by the clock), and ratios are taken round by round. Actions, scores and imagined frames are
compared on the way. `make demo` makes runs and stores to give to --trained.
"""

from __future__ import annotations

import operator
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import tyro

from benchmarks.planner_plots import draw, draw_settings
from benchmarks.planner_report import FOLDER, Measurement, Rates, update_results
from benchmarks.planner_subjects import Subject, random_subject, trained_subject
from benchmarks.published_search import PlainSearch, plain_beam_search
from datasets.errors import UserError, run_command
from planning.base import SearchResult
from planning.beam import beam_search
from world_model.planning_model import TokenContext, WorldActionPlanningModel

Result = TypeVar("Result")


@dataclass(frozen=True)
class PlannerBenchmark:
    """Time decisions of the beam planner."""

    sizes: tuple[str, ...] = ("tiny", "40M", "150M")
    """Model sizes, with random weights and the published tokenizer."""
    trained: tuple[Path, ...] = ()
    """Pairs of a run and a store: its newest model on the frames of the store's first episode."""
    published_drawing: bool = False
    """Let the published way draw the frames of trained models with a tokenizer of the published size."""
    widths: tuple[int, ...] = (2, 4)
    """Beam widths."""
    horizons: tuple[int, ...] = (2,)
    """Steps looked ahead."""
    contexts: tuple[int, ...] = (8,)
    """Frames planned from, as far as the horizon leaves room for them."""
    batches: tuple[int, ...] = (1,)
    """Environments planned for at once. The published way plans for one after the other."""
    threads: tuple[int, ...] = (1,)
    """CPU threads."""
    rounds: int = 3
    """Decisions (of a whole batch) that every way takes."""
    warm_up: int = 3
    """Decisions before those that count: kernels are compiled, and guesses of frames get better."""
    one_at_a_time: bool = False
    """Not all combinations of the settings: the first of each, and each other value in its place."""
    published_rows: int = 64
    """Environments of a batch that the published way plans for; its cost is the same for each."""
    device: str = "cpu"
    """cpu or cuda."""
    game: str = "Pong"
    """Game whose legal actions are used with random weights."""
    write: bool = False
    """Enter what was measured into benchmarks/planner.json, planner.png and RESULTS.md."""


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    width: int
    horizon: int
    frames: int
    batch: int
    threads: int


def main() -> None:
    """Time, print, and write if asked."""
    config = tyro.cli(PlannerBenchmark, description=__doc__)
    rates = measure_rates(torch.device(config.device))
    print(
        f"matrix products {rates.gflops:.0f} GFLOP/s, reading memory {rates.gigabytes:.1f} GB/s (one thread)"
    )
    measurements = []
    for subject in subjects(config):
        for case in cases(config, subject.model.config.max_blocks):
            measurements.append(measure(config, subject, case, rates))
            print(measurements[-1].line(), flush=True)
    print(f"peak memory of the run: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if config.write:
        lines = update_results(measurements, rates)
        draw(lines, FOLDER / "planner.png")
        draw_settings(lines, FOLDER / "planner_settings.png")


def subjects(config: PlannerBenchmark) -> Iterator[Subject]:
    """The models of a run, one at a time.

    Raises:
        UserError: `trained` is not made of pairs.
    """
    if len(config.trained) % 2:
        raise UserError("trained takes pairs of a run and a store; the last one has no store")
    for size in config.sizes:
        yield random_subject(size, config.game, config.device)
    for run, store in zip(config.trained[::2], config.trained[1::2], strict=True):
        yield trained_subject(run, store, config.device, config.published_drawing)


def cases(config: PlannerBenchmark, max_blocks: int) -> Iterator[Case]:
    """All combinations, or the first of each setting and what differs from it in one place.

    Contexts are cut to what the horizon leaves room for.
    """
    settings = (config.widths, config.horizons, config.contexts, config.batches, config.threads)
    combinations = dict.fromkeys(product(*settings))
    if config.one_at_a_time:
        first = next(iter(combinations))
        combinations = [c for c in combinations if sum(map(operator.ne, c, first)) <= 1]
    lines = (
        Case(width, horizon, min(frames, max_blocks - horizon), batch, threads)
        for width, horizon, frames, batch, threads in combinations
    )
    yield from dict.fromkeys(lines)


def measure(config: PlannerBenchmark, subject: Subject, case: Case, rates: Rates) -> Measurement:
    """Run one case round after round."""
    torch.set_num_threads(case.threads)
    models = [
        WorldActionPlanningModel(subject.model, published_semantics=True, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    ]
    seconds: list[list[float]] = []
    agreement: list[list[float]] = []
    largest_error, nodes = 0.0, 0.0
    rows = min(config.published_rows, case.batch)
    plain: list[PlainSearch] = []
    for number in range(-config.warm_up, config.rounds):
        context = subject.context(number + config.warm_up, case.frames, case.batch)
        for model in models if number == 0 else ():
            model.reset_counts()
        plain_time = float("nan")
        if rows and number >= -1:
            plain, plain_time = timed(
                lambda c=context, n=rows: plain_searches(subject, c, case, n), config.device
            )
        ours = [
            timed(
                lambda c=context, m=model: beam_search(m, c, beam_width=case.width, horizon=case.horizon),
                config.device,
            )
            for model in models
        ]
        if number < 0:
            continue
        seconds.append([plain_time / max(rows, 1), *(way[1] / case.batch for way in ours)])
        single, half = ours[0][0], ours[1][0]
        nodes = nodes_per_decision(single)
        agreement.append(
            [*agreement_of(plain, models[0], single), float((half.action == single.action).mean())]
        )
        if plain:
            errors = [
                np.abs(single.tree.score[row, 1:] - search.scores).max() for row, search in enumerate(plain)
            ]
            largest_error = max(largest_error, float(max(errors)))
    decisions = config.rounds * case.batch
    return Measurement.of(
        subject=subject.name,
        case=f"{case.width}x{case.horizon}",
        setting=(case.frames, case.batch, case.threads, config.device),
        seconds=np.array(seconds),
        agreement=np.array(agreement).mean(axis=0),
        largest_error=largest_error,
        imagined=nodes * subject.model.config.block_tokens,
        counts=(models[0].counts.passes / config.rounds, models[0].counts.tokens_fed / decisions),
        node_bytes=[models[0].bytes_per_node, plain[0].cache_bytes if plain else 0],
        weights=sum(p.numel() for p in subject.model.transformer.parameters()),
        rates=rates,
    )


def plain_searches(subject: Subject, context: TokenContext, case: Case, rows: int) -> list[PlainSearch]:
    """The published way, one row after the other."""
    model, tokenizer = subject.model, subject.tokenizer
    return [
        plain_beam_search(model, tokenizer, row_of(context, row), beam_width=case.width, horizon=case.horizon)
        for row in range(rows)
    ]


def row_of(context: TokenContext, row: int) -> TokenContext:
    """One environment's context."""
    kept = slice(row, row + 1)
    return TokenContext(
        context.tokens[kept], context.length[kept], context.task_id[kept], context.legal_mask[kept]
    )


def agreement_of(
    plain: list[PlainSearch], model: WorldActionPlanningModel, result: SearchResult
) -> tuple[float, float]:
    """Share of equal actions, and of equal imagined frames."""
    if not plain:
        return float("nan"), float("nan")
    actions, frames = [], []
    for row, search in enumerate(plain):
        actions.append(result.action[row] == search.action)
        imagined = model.observation_tokens(result.tree.node[row, 1 : result.tree.num_nodes[row]])
        same = len(imagined) == len(search.frames) and (imagined == search.frames).all(axis=1).mean()
        frames.append(same)
    return float(np.mean(actions)), float(np.mean(frames))


def nodes_per_decision(result: SearchResult) -> float:
    """Nodes made after the root."""
    return float((result.tree.num_nodes - 1).mean())


def timed(work: Callable[[], Result], device: str) -> tuple[Result, float]:
    """What the work returns and its CPU seconds; on a GPU, seconds by the clock."""
    if device != "cpu":
        torch.cuda.synchronize()
        started = time.perf_counter()
        result = work()
        torch.cuda.synchronize()
        return result, time.perf_counter() - started
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def measure_rates(device: torch.device) -> Rates:
    """Speed of a large matrix product and of reading memory, for the roofline."""
    torch.set_num_threads(1)
    side, size = (1536, 2**26) if device.type == "cpu" else (8192, 2**28)
    matrix, vector = torch.ones(side, side, device=device), torch.ones(size, device=device)
    product_seconds = min(timed(lambda: matrix @ matrix, device.type)[1] for _ in range(4))
    half = matrix.bfloat16()
    half_seconds = min(timed(lambda: half @ half, device.type)[1] for _ in range(4))
    read_seconds = min(timed(lambda: vector.sum(), device.type)[1] for _ in range(4))
    return Rates(2e-9 * side**3 / product_seconds, 2e-9 * side**3 / half_seconds, 4e-9 * size / read_seconds)


if __name__ == "__main__":
    run_command(main)
