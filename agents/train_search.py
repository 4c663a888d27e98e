"""Train the search agent on a game, by playing it against its own best plans.

    python -m agents.train_search --game job-shop --run runs/shops
    python -m agents.train_search --game job-shop --run runs/shops --resume      go on after a kill
    python -m agents.train_search --game job-shop --run runs/mine --instances shop.json --from runs/shops

In each round some games are played side by side on one instance, every move chosen by a Gumbel search that
the network guides; then the network learns from the games held. Watch it with `tensorboard --logdir runs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from agents.games.jobshop import instance as jobshop
from agents.games.memory.program_file import read_program
from agents.games.memory.programs import packaged_programs
from agents.games.packing import instance as packing
from agents.search_agent.games import SearchGame
from agents.search_agent.job_shop import JobShopSearchGame, random_shops
from agents.search_agent.memory_mapping import MemorySearchGame, random_programs, varied_programs
from agents.search_agent.packing import PackingSearchGame, random_packings
from agents.search_agent.train_config import SearchTrainConfig
from agents.search_agent.training import train_search
from datasets.errors import run_command

NUM_VARIED = 60
"""Variants of the programs to learn from: other clocks, other sizes and speeds of memory."""
NUM_RANDOM = 400
"""Random instances to learn from where no files are given."""


def main() -> None:
    """Read the command line and train."""
    config = tyro.cli(SearchTrainConfig, description=__doc__)
    train_search(config, training_games(config), held_out_games(config))


def training_games(config: SearchTrainConfig) -> Sequence[SearchGame]:
    """The instances of a run.

    Raises:
        UserError: a file cannot be read.
    """
    if config.game == "memory-mapping":
        programs = [read_program(path) for path in config.instances]
        if not programs:
            packaged = packaged_programs()
            programs = [*packaged, *random_programs(NUM_VARIED - len(packaged), config.seed)]
        return varied_programs(programs, NUM_VARIED, config.seed)
    if config.game == "packing":
        packings = [packing.read_instance(path) for path in config.instances]
        return [PackingSearchGame(one) for one in packings or random_packings(NUM_RANDOM, config.seed)]
    shops = [jobshop.read_instance(path) for path in config.instances]
    return [JobShopSearchGame(one) for one in shops or random_shops(NUM_RANDOM, config.seed)]


def held_out_games(config: SearchTrainConfig) -> Sequence[SearchGame]:
    """The instances that a run only looks at.

    Raises:
        UserError: a file cannot be read.
    """
    if config.game == "memory-mapping":
        return [MemorySearchGame(read_program(path)) for path in config.held_out]
    if config.game == "packing":
        return [PackingSearchGame(packing.read_instance(path)) for path in config.held_out]
    return [JobShopSearchGame(jobshop.read_instance(path)) for path in config.held_out]


if __name__ == "__main__":
    run_command(main)
