"""What a tokenizer costs a player: a Nature-CNN that sees frames as they are, or redrawn from their tokens.

    python benchmarks/learning.py --game Breakout --minutes 40 --only "train ours" "train clone"
    python -m benchmarks.redrawn --folder runs/learning/breakout_40_0 --game Breakout

The network has learned from frames as they are, and is not trained again. Where it scores less with redrawn
frames, something that decides has no token, and the world-action model, which sees tokens alone, lacks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import UInt8

from agents.rollout import RolloutConfig, Seat, play_episodes
from benchmarks.learning import EVALUATION_SEED, weights_of
from benchmarks.learning_baselines import Baseline, BaselineConfig, BaselinePlayer
from benchmarks.learning_games import EPSILON
from benchmarks.perfect_model import scores
from datasets.errors import UserError, run_command
from datasets.games import Game, find_game
from world_model.checkpoint import load_checkpoint
from world_model.tokenizer import Tokenizer


@dataclass(frozen=True)
class RedrawnConfig:
    """Compare what a baseline scores with frames as they are and with frames redrawn from tokens."""

    folder: Path
    """A seed's folder of `benchmarks.learning`, with a trained baseline in it."""
    game: str
    """Game to play."""
    checkpoints: tuple[Path, ...] = ()
    """Runs or checkpoints whose tokenizers to try; by default the run in that folder."""
    kind: Baseline = "clone"
    """Which baseline plays."""
    episodes: int = 20
    """Whole games with each, side by side."""
    seed: int = 0
    """Of no-ops and random actions, as that of `benchmarks.learning`."""


class RedrawnPlayer(BaselinePlayer):
    """A baseline that sees what a tokenizer keeps of each frame."""

    def __init__(
        self, tokenizer: Tokenizer, config: BaselineConfig, weights: Path, game: Game, seed: int
    ) -> None:
        """Let a baseline play with a tokenizer, in evaluation mode, between it and the game."""
        super().__init__(config, weights, game, epsilon=EPSILON, seed=seed)
        self._tokenizer, self._task_id = tokenizer, game.task_id

    @torch.inference_mode()
    def seen(self, seats: Sequence[Seat]) -> UInt8[np.ndarray, "E 84 84"]:
        """What is drawn of the tokens of each seat's frame."""
        tasks = torch.full((len(seats),), self._task_id)
        tokens = self._tokenizer.encode(torch.from_numpy(super().seen(seats)), tasks)
        return self._tokenizer.decode(tokens, tasks).numpy()


def main() -> None:
    """Play with each tokenizer and print a table in markdown."""
    config = tyro.cli(RedrawnConfig, description=__doc__)
    torch.set_num_threads(1)
    game, seed = find_game(config.game), config.seed + EVALUATION_SEED
    trained = BaselineConfig(config.kind, config.folder / "play.h5", steps=1)
    weights = weights_of(config.folder, config.kind)
    if not weights.exists():
        raise UserError(
            f"{weights}: there is no trained baseline; "
            f"benchmarks/learning.py --only 'train {config.kind}' makes it"
        )
    rollout = RolloutConfig(config.episodes, config.episodes)

    def row(name: str, player: BaselinePlayer) -> None:
        played = play_episodes(player, game, rollout, seed=seed)
        print(f"| {name} | {scores([result.score for result in played])} |", flush=True)

    print("| frames | score |\n|---|---|")
    row("as they are", BaselinePlayer(trained, weights, game, epsilon=EPSILON, seed=seed))
    for path in config.checkpoints or (config.folder / "run",):
        tokenizer = load_checkpoint(path).tokenizer
        codes = tokenizer.config.vocab_size
        row(f"redrawn, {codes} codes", RedrawnPlayer(tokenizer, trained, weights, game, seed))


if __name__ == "__main__":
    run_command(main)
