"""What the learned network adds to a search, at equal numbers of simulations on instances it never saw.

    python -m benchmarks.ablation job-shop --instances ../shared/games/jobshop/la16.json ...
    python -m benchmarks.ablation packing --instances ../shared/games/packing/A.1048576.csv ...
    python -m benchmarks.ablation memory-mapping --instances strassen2_matmul.json --best 35.1

Every arm plays each instance a few times with the same seeds, and every search of an arm looks at as many
positions, which are counted. The gap is how far the mean and the best of these games are above the best known
plan, in percent. Results are kept in a JSON file after each arm, from which a run that was stopped goes on; a
plot lies beside it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

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
from agents.search_agent.self_play import PlayConfig, search
from agents.search_agent.train_config import GameName, SearchTrainConfig
from agents.search_agent.training import train_search
from benchmarks.game_tables import Results, draw_bars, markdown, pick
from datasets.errors import UserError, run_command

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Arm:
    """One way to play."""

    use_policy: bool = True
    """Search by the learned policy, instead of all actions alike."""
    use_value: bool = True
    """Judge positions by the learned value, instead of by rewards alone."""
    fine_tuned: bool = False
    """Learn from the instance first."""
    larger: bool = False
    """Look at `larger_simulations` positions, enough for equal states to meet."""
    play: PlayConfig = field(default_factory=PlayConfig)
    """Planner, width of the beam, merging; the rest is the same for all."""


ARMS = {
    "uniform": Arm(use_policy=False, use_value=False),
    "prior": Arm(use_value=False),
    "prior, value": Arm(),
    "fine-tuned": Arm(fine_tuned=True),
    "beam of 2": Arm(play=PlayConfig(planner="beam", beam_width=2)),
    "beam of 4": Arm(play=PlayConfig(planner="beam", beam_width=4)),
    "larger": Arm(larger=True),
    "larger, merged": Arm(larger=True, play=PlayConfig(merge_equal_states=True)),
    "larger, beam of 4": Arm(larger=True, play=PlayConfig(planner="beam", beam_width=4)),
}


@dataclass(frozen=True)
class AblationConfig:
    """Search with and without what was learned."""

    game: Annotated[GameName, tyro.conf.Positional]
    """What is played."""
    instances: tuple[Path, ...]
    """Files of instances that were not learned from."""
    best: tuple[float, ...] = ()
    """The best known score of each, for games whose files do not say it."""
    arms: tuple[str, ...] = ()
    """Names of the arms, as in the table; all by default."""
    simulations: int = 16
    """Positions that every search looks at."""
    larger_simulations: int = 64
    """The same for the arms that are called larger."""
    games: int = 4
    """Games of each arm on each instance."""
    fine_tuning_rounds: int = 10
    """Rounds of training on each instance for the arm that is fine-tuned, `games` games in each."""
    checkpoint: Path | None = None
    """The network; by default the one that comes with the project."""
    seed: int = 0
    """Seed of the noise."""
    out: Path = FOLDER / "ablation.json"
    """Where results are kept; the plot lies beside it."""


def main() -> None:
    """Play what is not in the file yet, print a table in markdown, draw the plot."""
    config = tyro.cli(AblationConfig, description=__doc__)
    torch.set_num_threads(1)
    checkpoint = checkpoint_for(config.game, config.checkpoint)
    run = f"{config.game} {config.simulations} {config.larger_simulations} {config.games} {checkpoint.name}"
    arms, results = pick(ARMS, config.arms, "arms"), Results(config.out, run)
    best = {}
    for number, path in enumerate(config.instances):
        game, best[game_name(path)] = open_game(config, path, number)
        row = results.row(game_name(path))
        for name, arm in arms.items():
            if name not in row:
                row[name] = play_arm(config, game, checkpoint, arm)
                results.save()
                print(f"{path.name}, {name}: {row[name]}", flush=True)
    rows = {name: results.rows[name] for name in best}
    print(table(config, rows, best, list(arms)))
    draw(config, rows, best, list(arms))


def game_name(path: Path) -> str:
    """What an instance is called in the table."""
    return path.name.split(".")[0]


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


def play_arm(config: AblationConfig, game: SearchGame, checkpoint: Path, arm: Arm) -> dict[str, Any]:
    """Games of one arm: their scores, positions looked at by each search, processor time."""
    started = time.process_time()
    network = fine_tuned(config, game, checkpoint) if arm.fine_tuned else None
    learned = time.process_time()
    if network is None:
        network = load_search_checkpoint(checkpoint).network
    guide: Guide | None = None
    if arm.use_policy or arm.use_value:
        guide = NetworkGuide(network, game, use_policy=arm.use_policy, use_value=arm.use_value)
    simulations = config.larger_simulations if arm.larger else config.simulations
    settings = replace(arm.play, num_simulations=simulations, horizon=simulations)
    positions = game.start(config.games)
    going, totals, turn = np.arange(config.games), np.zeros(config.games), 0
    model, looked_at, searches = game.model(guide), 0, 0
    while len(going):
        legal_mask = game.legal_mask(positions)
        actions = legal_mask.argmax(axis=1)
        choosing = legal_mask.sum(axis=1) > 1
        if choosing.any():
            seeds = config.seed + 1_000_003 * going[choosing] + turn
            result = search(game, model, positions[choosing], settings, seeds)
            actions[choosing] = result.action
            looked_at, searches = looked_at + int(result.visit_counts.sum()), searches + len(seeds)
        positions, rewards, done = game.step(positions, actions)
        totals[going] += rewards
        positions, going, turn = positions[~done], going[~done], turn + 1
    return {
        "scores": [float(game.score(total)) for total in totals],
        "looked at": round(looked_at / max(searches, 1), 2),
        "seconds": round(time.process_time() - learned, 1),
        "seconds of learning": round(learned - started, 1),
    }


def fine_tuned(config: AblationConfig, game: SearchGame, checkpoint: Path) -> SearchNetwork:
    """The network after some rounds on the instance: `train_search --from`."""
    with tempfile.TemporaryDirectory() as folder:
        training = SearchTrainConfig(
            game=config.game,
            run=Path(folder) / "run",
            from_checkpoint=checkpoint,
            iterations=config.fine_tuning_rounds,
            games_per_iteration=config.games,
            play=PlayConfig(num_simulations=config.simulations),
            learning_rate=1e-3,
            save_every=config.fine_tuning_rounds,
            seed=config.seed + 1,
        )
        return train_search(training, [game]).eval()


def gaps(rows: dict[str, dict], best: dict[str, float], arm: str) -> list[tuple[float, float]]:
    """Of each instance, the gaps of the mean and of the best game in percent."""
    scores = [(rows[name][arm]["scores"], best[name]) for name in rows]
    return [(100 * (np.mean(s) / known - 1), 100 * (np.min(s) / known - 1)) for s, known in scores]


def table(config: AblationConfig, rows: dict[str, dict], best: dict[str, float], arms: Sequence[str]) -> str:
    """Gaps by instance and arm, their means, and what they cost."""
    columns = [gaps(rows, best, arm) for arm in arms]
    means = [np.mean(column, axis=0) for column in columns]
    lines = [
        [name, f"{best[name]:g}", *(f"{column[place][0]:.1f} ({column[place][1]:.1f})" for column in columns)]
        for place, name in enumerate(rows)
    ]
    lines.append(["mean", "", *(f"{mean:.1f} ({least:.1f})" for mean, least in means)])
    if "uniform" in arms:
        uniform = means[arms.index("uniform")][0]
        lines.append(["of uniform", "", *(f"{mean / uniform:.2f}" for mean, _ in means)])
    for what, digits in (("looked at", 1), ("seconds", 0), ("seconds of learning", 0)):
        cells = [np.mean([row[arm][what] for row in rows.values()]) for arm in arms]
        lines.append([f"{what}, mean", "", *(f"{cell:.{digits}f}" for cell in cells)])
    return markdown(["instance", "best known", *(shown(config, arm) for arm in arms)], lines)


def shown(config: AblationConfig, arm: str) -> str:
    """What an arm is called in tables and plots."""
    return arm.replace("larger", f"{config.larger_simulations} positions")


def draw(config: AblationConfig, rows: dict[str, dict], best: dict[str, float], arms: Sequence[str]) -> None:
    """Bars of the mean gaps."""
    bars = {arm: [mean for mean, _ in gaps(rows, best, arm)] for arm in arms}
    bars = {shown(config, arm): [*heights, float(np.mean(heights))] for arm, heights in bars.items()}
    title = f"{config.game}, {config.simulations} positions a search where nothing is said"
    path = config.out.parent / f"ablation_{config.game}.png"
    draw_bars(path, [*rows, "mean"], bars, "mean gap to the best known plan, %", title)


if __name__ == "__main__":
    run_command(main)
