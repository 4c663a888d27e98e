"""Weights before the first step, and losses on play that nobody learned from: for benchmarks that compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from datasets.mixture import SamplingConfig
from datasets.sampling import SegmentSampler
from datasets.store import EpisodeStore
from datasets.tokens import build_token_cache
from world_model.checkpoint import load_checkpoint, save_checkpoint
from world_model.distributed import Processes
from world_model.losses import compute_loss
from world_model.starting_embeddings import start_embeddings
from world_model.train_config import TrainConfig
from world_model.training_data import open_data, set_backgrounds
from world_model.training_state import fresh_model

BATCHES, BATCH = 8, 32
"""Segments that losses are measured on."""


def write_untrained(path: Path, source: Path, settings: TrainConfig) -> None:
    """Write a checkpoint with the tokenizer of another and untrained weights, begun as `train.py` does."""
    tokenizer = load_checkpoint(source).tokenizer
    model = fresh_model(settings, tokenizer, torch.device("cpu"))
    start_embeddings(model, tokenizer, settings.seed)
    save_checkpoint(path, step=0, tokenizer=tokenizer, model=model, optimizer={}, training=settings.to_json())


@torch.no_grad()
def held_out_losses(path: Path, held_out: Path, recipe: TrainConfig) -> dict[str, float]:
    """Means of the parts of a checkpoint's loss over the same segments of a store, whoever asks.

    Args:
        path: the checkpoint.
        held_out: store of play that it has not seen.
        recipe: its losses, and how long the segments are.
    """
    checkpoint = load_checkpoint(path)
    assert checkpoint.model is not None
    store = EpisodeStore(held_out)
    data = open_data(replace(recipe, data=(held_out,), held_out_fraction=0.0), Processes())
    set_backgrounds(checkpoint.tokenizer, data)
    cache = build_token_cache(store, checkpoint.tokenizer, progress=False)
    sampling = SamplingConfig(batch_size=BATCH, held_out_fraction=0.0)
    sampler = SegmentSampler([store], [cache], sampling, recipe.segments(), split="all")
    outputs = [
        compute_loss(checkpoint.model, sampler.batch(step), recipe.loss, train_q=True).scalars()
        for step in range(BATCHES)
    ]
    names = set().union(*outputs)
    return {name: float(np.mean([out[name] for out in outputs if name in out])) for name in names}
