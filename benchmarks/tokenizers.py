"""What kinds of tokenizers keep of the small things that a game is about, such as its ball.

    python -m datasets.collect --game Breakout --behaviour tracker@0..0.5 --steps 40000 --out breakout.h5
    python -m benchmarks.tokenizers --data breakout.h5

Each kind is trained as `train.py` trains it and measured on held-out episodes. A small thing is at most
8 pixels of a patch that differ from the background; it is left out where less than a third of its contrast is
drawn. "Changed" is how many tokens of a frame differ from the frame before: what a world model has to learn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from datasets.errors import UserError, run_command
from datasets.games import find_game
from datasets.mixture import SamplingConfig
from datasets.sampling import FrameSampler
from datasets.segments import held_out_mask
from datasets.store import EpisodeStore
from world_model.frames import median_frame
from world_model.token_statistics import token_statistics
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS, TokenizerConfig
from world_model.tokenizer_losses import tokenizer_loss

DICTIONARY, TINY = TOKENIZERS["dictionary"], TOKENIZERS["tiny"]
KINDS: dict[str, tuple[TokenizerConfig, int, float]] = {
    "dictionary, compared as they are": (replace(DICTIONARY, compare_blur=0.0), 100, 5e-4),
    "dictionary": (DICTIONARY, 100, 5e-4),
    "dictionary of 512": (replace(DICTIONARY, codebook_size=512), 100, 5e-4),
    "dictionary of 2048": (TOKENIZERS["dictionary_2048"], 100, 5e-4),
    "tiny": (TINY, 1000, 2e-3),
}
"""Configuration, training steps and learning rate."""
BATCH, FILLING, MEASURED = 64, 16_384, 1024


@dataclass(frozen=True)
class TokenizersConfig:
    """Compare kinds of tokenizers on one store."""

    data: Path
    """A store of one game with several episodes."""
    held_out_fraction: float = 0.1
    """Share of episodes to measure on."""
    seed: int = 0
    """Of weights and frames."""


def main() -> None:
    """Train and measure each kind, and print a table in markdown."""
    config = tyro.cli(TokenizersConfig, description=__doc__)
    torch.set_num_threads(1)
    store = EpisodeStore(config.data)
    if len(store.games) != 1:
        raise UserError(f"{config.data}: holds {', '.join(store.games)}; give a store of one game")
    game = store.games[0]
    task = find_game(game).task_id
    frames = held_out_run(store, config)
    tasks = torch.full((len(frames),), task)
    print(f"{game}, {store.num_steps} steps, content {store.content_id[:12]}")
    print("| tokenizer | codes used | left out | error | on small things | changed | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name, (kind, steps, rate) in KINDS.items():
        started = time.process_time()
        tokenizer = trained(store, kind, task, steps, rate, config)
        spent = time.process_time() - started
        found = token_statistics(tokenizer, frames, tasks)
        worst = found.worst
        tokens = tokenizer.encode(frames, tasks)
        changed = (tokens[1:] != tokens[:-1]).sum(1).float().mean()
        cells = [
            name,
            f"{found.codes_used} of {found.vocab_size}",
            f"{100 * worst.left_out:.1f}%",
            f"{worst.foreground_error:.2f}",
            f"{worst.rare_foreground_error:.2f}",
            f"{changed:.1f}",
            f"{spent:.0f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def held_out_run(store: EpisodeStore, config: TokenizersConfig) -> torch.Tensor:
    """Consecutive frames of held-out play, uint8 [N, 84, 84]."""
    games = [info.game for info in store.episodes]
    aside = held_out_mask([info.digest for info in store.episodes], games, config.held_out_fraction)
    chosen = [info for info, wanted in zip(store.episodes, aside, strict=True) if wanted]
    if not chosen:
        raise UserError(f"{config.data}: no episode is held out; raise --held-out-fraction")
    return torch.cat([torch.from_numpy(store.frames(info.key)) for info in chosen])[:MEASURED]


def trained(
    store: EpisodeStore, kind: TokenizerConfig, task: int, steps: int, rate: float, config: TokenizersConfig
) -> Tokenizer:
    """A tokenizer of a kind, trained on what is not held out."""
    torch.manual_seed(config.seed)
    sampling = SamplingConfig(BATCH, held_out_fraction=config.held_out_fraction, seed=config.seed)
    filling = FrameSampler([store], replace(sampling, batch_size=FILLING)).batch(0)
    tokenizer = Tokenizer(kind)
    tokenizer.set_background(task, median_frame(filling.frames[:512]))
    if kind.network == "dictionary":
        tokenizer.fill_codebook(filling.frames, filling.task_id)
    frames = FrameSampler([store], sampling)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(config.seed)
    for step in range(steps):
        batch = frames.batch(step)
        loss = tokenizer_loss(tokenizer, batch.frames, batch.task_id, generator=generator)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        schedule.step()
    return tokenizer.eval()


if __name__ == "__main__":
    run_command(main)
