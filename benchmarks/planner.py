"""Cost of a decision of the beam planner: the published way of executing it beside ours.

    python -m benchmarks.planner                                the table of benchmarks/RESULTS.md, minutes
    python -m benchmarks.planner --sizes 40M --widths 1 16 --horizons 1 6 --contexts 8 --threads 2
    python -m benchmarks.planner --sizes --trained RUN STORE    a trained model on the frames of a store
    python -m benchmarks.planner --device cuda

Every case runs three ways in turn, round after round, on the same contexts: the published way
(`benchmarks.published_search`), ours in float32 and ours in bfloat16. Costs are CPU seconds (on a GPU,
seconds by the clock), and ratios are taken round by round. Actions, scores and imagined frames are
compared on the way. `make demo` makes runs and stores to give to --trained.
"""

from __future__ import annotations

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

from benchmarks.planner_report import Measurement, Rates, update_results
from benchmarks.published_search import PlainSearch, plain_beam_search
from datasets.errors import UserError, run_command
from datasets.games import find_game
from datasets.store import EpisodeStore
from planning.base import SearchResult
from planning.beam import beam_search
from world_model.checkpoint import load_checkpoint
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.sizes import SIZES
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS
from world_model.world_action_model import WorldActionModel

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
    published: bool = True
    """Run the published way too."""
    device: str = "cpu"
    """cpu or cuda."""
    game: str = "Pong"
    """Game whose legal actions are used with random weights."""
    write: bool = False
    """Enter what was measured into benchmarks/planner.json, planner.png and RESULTS.md."""


@dataclass(frozen=True)
class Subject:
    """What is timed: a model, its tokenizer and contexts to plan from."""

    name: str
    model: WorldActionModel
    tokenizer: Tokenizer
    context: Callable[[int, int, int], TokenContext]
    """Context of a round: round, frames, batch."""


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
        for case in cases(config, subject.model):
            measurements.append(measure(config, subject, case, rates))
            print(measurements[-1].line(), flush=True)
    print(f"peak memory of the run: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if config.write:
        update_results(measurements, rates)


def subjects(config: PlannerBenchmark) -> Iterator[Subject]:
    """The models of a run, one at a time.

    Raises:
        UserError: `trained` is not made of pairs.
    """
    if len(config.trained) % 2:
        raise UserError("trained takes pairs of a run and a store; the last one has no store")
    for size in config.sizes:
        torch.manual_seed(0)
        model = WorldActionModel(SIZES[size]).to(config.device).eval()
        tokenizer = Tokenizer(TOKENIZERS["published"]).to(config.device).eval()
        game = find_game(config.game)
        task_id, legal_mask = game.task_id, torch.from_numpy(game.legal_mask)

        def random(
            number: int,
            frames: int,
            batch: int,
            model: WorldActionModel = model,
            task_id: int = task_id,
            legal_mask: torch.Tensor = legal_mask,
        ) -> TokenContext:
            generator = torch.Generator().manual_seed(number)
            length = frames * model.config.block_tokens - 1
            tokens = torch.randint(model.config.vocab_size, (batch, length), generator=generator)
            places = torch.arange(length) % model.config.block_tokens == model.config.tokens_per_frame
            tokens[:, places] %= model.config.num_actions
            return make_context(tokens, task_id, legal_mask, config.device)

        yield Subject(f"{size}, random", model, tokenizer, random)
    for run, store in zip(config.trained[::2], config.trained[1::2], strict=True):
        yield trained_subject(run, store, config.device, config.published_drawing)


def trained_subject(run: Path, store_path: Path, device: str, published_drawing: bool) -> Subject:
    """A trained model that follows the first episode of a store, as an agent would."""
    checkpoint = load_checkpoint(run, device)
    if checkpoint.model is None:
        raise UserError(f"{run} holds no world-action model yet")
    model, tokenizer = checkpoint.model.eval(), checkpoint.tokenizer.eval()
    store = EpisodeStore(store_path)
    episode = store.episodes[0]
    game = find_game(episode.game)
    frames = torch.from_numpy(store.frames(episode.key, 0, episode.length)).to(device)
    actions = torch.from_numpy(store.actions(episode.key).astype(np.int64)).to(device)
    with torch.inference_mode():
        tokens = tokenizer.encode(frames, torch.full((len(frames),), game.task_id, device=device))
    blocks = torch.cat([tokens, actions[:, None]], dim=1)

    def follow(number: int, frames: int, batch: int) -> TokenContext:
        spacing = max(1, (len(blocks) - frames) // batch)
        starts = [(place * spacing + 40 + number) % (len(blocks) - frames) for place in range(batch)]
        rows = torch.stack([blocks[start : start + frames].flatten()[:-1] for start in starts])
        return make_context(rows, game.task_id, torch.from_numpy(game.legal_mask), device)

    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    name = f"{millions:.1f}M, trained on {game.name} for {checkpoint.step} steps"
    if published_drawing:
        drawing = Tokenizer(TOKENIZERS["published"]).to(device).eval()
        return Subject(f"{name}, frames drawn by the published tokenizer", model, drawing, follow)
    return Subject(name, model, tokenizer, follow)


def make_context(tokens: torch.Tensor, task_id: int, legal_mask: torch.Tensor, device: str) -> TokenContext:
    """Contexts of one game that are all equally long."""
    batch, length = tokens.shape
    return TokenContext(
        tokens=tokens.to(device),
        length=torch.full((batch,), length, device=device),
        task_id=torch.full((batch,), task_id, device=device),
        legal_mask=legal_mask.expand(batch, -1).to(device),
    )


def cases(config: PlannerBenchmark, model: WorldActionModel) -> Iterator[Case]:
    """All combinations; contexts are cut to what the horizon leaves room for."""
    for threads, width, horizon, frames, batch in product(
        config.threads, config.widths, config.horizons, config.contexts, config.batches
    ):
        yield Case(width, horizon, min(frames, model.config.max_blocks - horizon), batch, threads)


def measure(config: PlannerBenchmark, subject: Subject, case: Case, rates: Rates) -> Measurement:
    """Run one case round after round."""
    torch.set_num_threads(case.threads)
    models = [
        WorldActionPlanningModel(subject.model, published_semantics=True, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    ]
    seconds: list[list[float]] = []
    agreement: list[list[float]] = []
    largest_error = 0.0
    for number in range(-config.warm_up, config.rounds):
        context = subject.context(number + config.warm_up, case.frames, case.batch)
        for model in models if number == 0 else ():
            model.reset_counts()
        plain, plain_time = [], float("nan")
        if config.published and number >= -1:
            plain, plain_time = timed(lambda c=context: plain_searches(subject, c, case), config.device)
        ours = [
            timed(
                lambda c=context, m=model: beam_search(m, c, beam_width=case.width, horizon=case.horizon),
                config.device,
            )
            for model in models
        ]
        if number < 0:
            continue
        seconds.append([plain_time, ours[0][1], ours[1][1]])
        single, half = ours[0][0], ours[1][0]
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
        seconds=np.array(seconds) / case.batch,
        agreement=np.array(agreement).mean(axis=0),
        largest_error=largest_error,
        imagined=nodes_per_decision(single) * subject.model.config.block_tokens,
        counts=(models[0].counts.passes / config.rounds, models[0].counts.tokens_fed / decisions),
        node_bytes=[models[0].bytes_per_node, plain[0].cache_bytes if plain else 0],
        weights=sum(p.numel() for p in subject.model.transformer.parameters()),
        rates=rates,
    )


def plain_searches(subject: Subject, context: TokenContext, case: Case) -> list[PlainSearch]:
    """The published way, one row after the other."""
    width, horizon = case.width, case.horizon
    rows = [row_of(context, row) for row in range(len(context.tokens))]
    return [
        plain_beam_search(subject.model, subject.tokenizer, row, beam_width=width, horizon=horizon)
        for row in rows
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
