"""All methods of the games on all instances under equal time: tables and plots.

    python -m benchmarks.games all --seconds 60
    python -m benchmarks.games memory-mapping --seconds 600 --instances mlp3_train resnet18_train
    python -m benchmarks.games packing --seconds 120 --methods skyline search "agent alone" solve CP-SAT
    python -m benchmarks.games job-shop --task episodes

Methods are the known heuristics, searches that learn nothing, the agent alone (games of its network and
nothing else), `agents.solve` (the network's games and the game's own search), and CP-SAT. Every plan is
validated. Results are kept in a JSON file after each plan, from which a run that was stopped goes on. What
learning adds at equal simulations is measured by `benchmarks.ablation`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from benchmarks import job_shop, memory_mapping, packing
from benchmarks.game_comparison import GameConfig
from datasets.errors import UserError, run_command

GAMES = {"memory-mapping": memory_mapping, "packing": packing, "job-shop": job_shop}
Game = Literal["memory-mapping", "packing", "job-shop", "all"]


def games(game: Annotated[Game, tyro.conf.Positional], config: Annotated[GameConfig, tyro.conf.arg(name="")]):
    """Measure one game, or all of them one after another.

    Args:
        game: which.
        config: what is measured, and how long.

    Raises:
        UserError: instances, methods or files that cannot be.
    """
    if game != "all":
        GAMES[game].run(config)
        return
    if config.instances or config.methods or config.out is not None:
        raise UserError("all: --instances, --methods and --out are for one game; name it")
    for module in GAMES.values():
        module.run(config)


if __name__ == "__main__":
    run_command(lambda: tyro.cli(games, description=__doc__))
