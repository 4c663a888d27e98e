"""What the learned network adds to a search, at equal numbers of simulations on instances it never saw.

    python -m benchmarks.ablation job-shop --instances ../shared/games/jobshop/la16.json ...
    python -m benchmarks.ablation packing --instances ../shared/games/packing/A.1048576.csv ...
    python -m benchmarks.ablation memory-mapping --instances strassen2_matmul.json --best 35.1

Every arm plays each instance a few times by the same Gumbel search with the same seeds. The gap is how far
the mean and the best of these games are above the best known plan, in percent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from agents.games.guides import Guide
from agents.games.jobshop import instance as jobshop
from agents.games.memory.program_file import read_program
from agents.games.packing import instance as packing
from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.games import SearchGame
from agents.search_agent.guide import NetworkGuide
from agents.search_agent.job_shop import JobShopSearchGame
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.network import SearchNetwork
from agents.search_agent.packing import PackingSearchGame
from agents.search_agent.released import checkpoint_for
from agents.search_agent.train_config import GameName
from datasets.errors import UserError, run_command
from planning.gumbel_muzero import gumbel_muzero
from planning.options import TreeOptions

ARMS = ("uniform", "prior", "prior and value", "prior and value, merged")
"""Nothing learned; the learned policy; the learned value too; equal states sharing what is known of them."""


@dataclass(frozen=True)
class AblationConfig:
    """Search with and without what was learned."""

    game: Annotated[GameName, tyro.conf.Positional]
    """What is played."""
    instances: tuple[Path, ...]
    """Files of instances that were not learned from."""
    best: tuple[float, ...] = ()
    """The best known score of each, for games whose files do not say it."""
    simulations: int = 16
    """Positions that every search looks at."""
    games: int = 4
    """Games of each arm on each instance."""
    checkpoint: Path | None = None
    """The network; by default the one that comes with the project."""
    seed: int = 0
    """Seed of the noise."""


def main() -> None:
    """Play and print a table in markdown."""
    config = tyro.cli(AblationConfig, description=__doc__)
    torch.set_num_threads(1)
    network = load_search_checkpoint(checkpoint_for(config.game, config.checkpoint)).network
    print("| instance | best known | " + " | ".join(ARMS) + " | seconds |")
    print("| --- " * (len(ARMS) + 3) + "|")
    gaps = []
    for number, path in enumerate(config.instances):
        game, best = open_game(config, path, number)
        started = time.perf_counter()
        scores = [play_arm(config, game, network, arm) for arm in ARMS]
        gaps.append([(100 * (np.mean(s) / best - 1), 100 * (np.min(s) / best - 1)) for s in scores])
        cells = " | ".join(f"{mean:.1f} ({least:.1f})" for mean, least in gaps[-1])
        print(f"| {game.name} | {best:g} | {cells} | {time.perf_counter() - started:.0f} |", flush=True)
    means = np.mean(gaps, axis=0)
    print("| mean | | " + " | ".join(f"{mean:.1f} ({least:.1f})" for mean, least in means) + " | |")
    print("| of uniform | | " + " | ".join(f"{mean / means[0, 0]:.2f}" for mean, _ in means) + " | |")


def open_game(config: AblationConfig, path: Path, number: int) -> tuple[SearchGame, float]:
    """An instance and its best known score.

    Raises:
        UserError: no best score is known.
    """
    game: SearchGame
    if config.game == "job-shop":
        shop = jobshop.read_instance(path)
        game, best = JobShopSearchGame(shop), shop.best_known
    elif config.game == "packing":
        buffers = packing.read_instance(path)
        game, best = PackingSearchGame(buffers), buffers.capacity
    else:
        game, best = MemorySearchGame(read_program(path), 0.5), None
    if number < len(config.best):
        best = config.best[number]
    if best is None:
        raise UserError(f"{path}: no best score is known; give one for each instance by --best")
    return game, float(best)


def play_arm(config: AblationConfig, game: SearchGame, network: SearchNetwork, arm: str) -> list[float]:
    """Scores of the games of one arm."""
    positions = game.start(config.games)
    going, totals, turn = np.arange(config.games), np.zeros(config.games), 0
    guide: Guide | None = None
    if arm != "uniform":
        guide = NetworkGuide(network, game, use_value=arm != "prior")
    model = game.model(guide)
    options = TreeOptions(merge_equal_states=arm.endswith("merged"))
    while len(going):
        legal_mask = game.legal_mask(positions)
        actions = legal_mask.argmax(axis=1)
        choosing = legal_mask.sum(axis=1) > 1
        if choosing.any():
            seeds = config.seed + 1_000_003 * going[choosing] + turn
            actions[choosing] = gumbel_muzero(
                model,
                positions[choosing],
                num_simulations=config.simulations,
                max_num_considered_actions=8,
                seed=seeds,
                options=options,
            ).action
        positions, rewards, done = game.step(positions, actions)
        totals[going] += rewards
        positions, going, turn = positions[~done], going[~done], turn + 1
    return [game.score(total) for total in totals]


if __name__ == "__main__":
    run_command(main)
