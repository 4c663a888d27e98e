"""What the planner's benchmark times: models, random or trained, and contexts to plan from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.errors import UserError
from datasets.games import find_game
from datasets.store import EpisodeStore
from world_model.checkpoint import load_checkpoint
from world_model.planning_model import TokenContext
from world_model.sizes import SIZES
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS
from world_model.world_action_model import WorldActionModel


@dataclass(frozen=True)
class Subject:
    """What is timed: a model, its tokenizer and contexts to plan from."""

    name: str
    model: WorldActionModel
    tokenizer: Tokenizer
    context: Callable[[int, int, int], TokenContext]
    """Context of a round: round, frames, batch."""


def random_subject(size: str, game_name: str, device: str) -> Subject:
    """Random weights of a size, with the published tokenizer, on random tokens."""
    torch.manual_seed(0)
    model = WorldActionModel(SIZES[size]).to(device).eval()
    tokenizer = Tokenizer(TOKENIZERS["published"]).to(device).eval()
    game = find_game(game_name)

    def random(number: int, frames: int, batch: int) -> TokenContext:
        generator = torch.Generator().manual_seed(number)
        length = frames * model.config.block_tokens - 1
        tokens = torch.randint(model.config.vocab_size, (batch, length), generator=generator)
        places = torch.arange(length) % model.config.block_tokens == model.config.tokens_per_frame
        tokens[:, places] %= model.config.num_actions
        return make_context(tokens, game.task_id, torch.from_numpy(game.legal_mask), device)

    return Subject(f"{size}, random", model, tokenizer, random)


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
