"""What planning for several environments in one batch saves: time per decision against batch size.

    python -m benchmarks.planner                        tiny and 40M, beam of width 2 and horizon 2
    python -m benchmarks.planner --sizes 150M --batches 1 8 --threads 2

Weights are random: the cost of a decision does not depend on them. Every batch is timed in turn, again
and again, and the ratio is taken round by round, so that a machine that is busy with other things slows
all of them alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
import tyro

from agents.report import text_table
from datasets.games import find_game
from planning.beam import beam_search
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.sizes import SIZES
from world_model.world_action_model import WorldActionModel


@dataclass(frozen=True)
class PlannerBenchmark:
    """Time decisions of the beam planner."""

    sizes: tuple[str, ...] = ("tiny", "40M")
    """Model sizes."""
    batches: tuple[int, ...] = (1, 4, 8, 16)
    """Environments planned for at once; the first is what the others are compared with."""
    beam_width: int = 2
    """Paths kept."""
    horizon: int = 2
    """Steps looked ahead."""
    rounds: int = 5
    """Times that every batch is measured."""
    threads: int = 1
    """CPU threads."""
    game: str = "Pong"
    """Game whose legal actions are used."""


def main() -> None:
    """Time and print."""
    config = tyro.cli(PlannerBenchmark, description=__doc__)
    torch.set_num_threads(config.threads)
    rows = []
    for size in config.sizes:
        seconds = time_size(config, size)
        for place, batch in enumerate(config.batches):
            ratio = np.median(seconds[:, place] / seconds[:, 0])
            milliseconds = 1000 * np.median(seconds[:, place])
            rows.append([size, str(batch), f"{milliseconds:.1f}", f"{ratio:.2f}"])
    print(text_table(["size", "batch", "ms per decision", "of a batch of " + str(config.batches[0])], rows))


def time_size(config: PlannerBenchmark, size: str) -> np.ndarray:
    """Seconds per decision, [rounds, batches], of one size."""
    torch.manual_seed(0)
    model = WorldActionModel(SIZES[size]).eval()
    planning_model = WorldActionPlanningModel(model)
    contexts = [random_context(model, config, batch) for batch in config.batches]
    seconds = np.zeros((config.rounds, len(contexts)))
    for context in contexts:
        beam_search(planning_model, context, beam_width=config.beam_width, horizon=config.horizon)
    for row in seconds:
        for place, (batch, context) in enumerate(zip(config.batches, contexts, strict=True)):
            started = time.perf_counter()
            beam_search(planning_model, context, beam_width=config.beam_width, horizon=config.horizon)
            row[place] = (time.perf_counter() - started) / batch
    return seconds


def random_context(model: WorldActionModel, config: PlannerBenchmark, batch: int) -> TokenContext:
    """As many frames as leave room for the horizon, of random tokens."""
    game = find_game(config.game)
    blocks = model.config.max_blocks - config.horizon
    length = blocks * model.config.block_tokens - 1
    tokens = torch.randint(model.config.vocab_size, (batch, length))
    places = torch.arange(length) % model.config.block_tokens == model.config.tokens_per_frame
    tokens[:, places] %= model.config.num_actions
    return TokenContext(
        tokens=tokens,
        length=torch.full((batch,), length),
        task_id=torch.full((batch,), game.task_id),
        legal_mask=torch.from_numpy(game.legal_mask).expand(batch, -1),
    )


if __name__ == "__main__":
    main()
