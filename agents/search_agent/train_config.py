"""What training of the search agent is configured by."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from agents.search_agent.self_play import PlayConfig
from datasets.errors import UserError

GameName = Literal["memory-mapping", "packing", "job-shop"]


@dataclass(frozen=True)
class SearchTrainConfig:
    """Train a search agent on instances of a game, by playing them."""

    game: GameName
    """What is played."""
    run: Path
    """Folder of the run: checkpoints, TensorBoard."""
    instances: tuple[str, ...] = ()
    """Files of instances; by default the ones in the package, or drawn at random where a game offers that."""
    from_checkpoint: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Run or file whose network to start from: fine-tuning."""
    resume: bool = False
    """Go on with the run in `--run` from its newest checkpoint, exactly as if it had not stopped."""
    iterations: int = 200
    """Rounds of playing and learning."""
    max_iterations: int | None = None
    """Stop, with a checkpoint, after so many iterations of this invocation; --resume goes on."""
    games_per_iteration: int = 8
    """Games played side by side on one instance in each round."""
    demonstrations: int = 0
    """Rounds at the start that learn from a game found by local search, not from own play."""
    play: PlayConfig = PlayConfig()
    """How moves are chosen."""
    unroll: int = 0
    """Moves of learned dynamics trained behind each position; needs to be above 0 with learned dynamics."""
    reanalysed: int = 1
    """Games held that are searched again in each round, for policies of the network as it is now."""
    steps_per_iteration: int = 20
    """Optimisation steps in each round."""
    batch_size: int = 128
    """Positions in a step."""
    replay_positions: int = 50_000
    """Positions held; the oldest games go first."""
    learning_rate: float = 2e-3
    """Of AdamW, falling to 0 along half a cosine."""
    width: int = 64
    """Width of the network."""
    held_out: tuple[str, ...] = ()
    """Files of instances that are only played, by the policy alone, to see what was learned."""
    held_out_every: int = 20
    """Rounds between these plays."""
    save_every: int = 20
    """Rounds between checkpoints; the last one always ends with one."""
    release: Path | None = None
    """Write the network alone to this file in the end; with all iterations done and --resume, only that."""
    workers: int = 0
    """Processes that share the games of a round, 0 for none; they take seconds to start: for long rounds."""
    ray: str | None = None
    """Play on a Ray cluster instead (extra `ray`): its address, or auto."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        if self.play.dynamics == "learned" and self.unroll < 1:
            raise UserError("unroll is 0, so no dynamics are trained to play by; give --unroll 5")
        if self.demonstrations and self.game != "memory-mapping":
            raise UserError(f"demonstrations: there are none of {self.game}; leave the option out")
        for name in (
            "iterations",
            "games_per_iteration",
            "batch_size",
            "replay_positions",
            "held_out_every",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return json.loads(json.dumps(asdict(self), default=str))
