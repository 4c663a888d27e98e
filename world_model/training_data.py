"""The data of a training run, and the learner of each of its phases."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from datasets.games import find_game
from datasets.mixture import SamplingConfig, select_games
from datasets.sampling import FrameSampler, SegmentSampler
from datasets.segments import SegmentConfig, held_out_mask
from datasets.store import EpisodeStore
from datasets.tokens import build_token_cache
from world_model.frames import median_frame
from world_model.learners import TokenizerLearner, WorldLearner
from world_model.recipes import TrainConfig
from world_model.tokenizer import Tokenizer
from world_model.training import Phase
from world_model.training_state import TrainingState

BACKGROUND_FRAMES = 512
"""Frames of a game whose median is its background."""
DICTIONARY_FRAMES = 4096
"""Frames whose commonest patches a dictionary starts from."""
HELD_OUT_FRAMES = 512
"""Held-out frames on which the tokenizer is measured."""


@dataclass(frozen=True)
class TrainingData:
    """Opened and verified stores."""

    stores: tuple[EpisodeStore, ...]
    """In the order given."""
    games: tuple[str, ...]
    """The games trained on."""
    sampling: SamplingConfig
    """How batches are drawn from them."""
    has_held_out: bool
    """False if no episode could be kept aside."""

    def describe(self) -> str:
        """What is in the stores, for people."""
        return "\n".join(store.summary() for store in self.stores)


def open_data(config: TrainConfig) -> TrainingData:
    """Open and verify the stores.

    Raises:
        UserError: a file is missing, damaged or foreign, or holds none of the games asked for.
    """
    stores = tuple(EpisodeStore(path) for path in config.data)
    episodes = [info for store in stores for info in store.episodes]
    held = [info.game for info in episodes]
    aside = held_out_mask([info.digest for info in episodes], held, config.held_out_fraction)
    return TrainingData(
        stores=stores,
        games=tuple(select_games(config.games, held, ", ".join(str(path) for path in config.data))),
        sampling=SamplingConfig(
            batch_size=config.batch_size,
            games=config.games,
            held_out_fraction=config.held_out_fraction,
            seed=config.seed,
        ),
        has_held_out=bool(aside.any()),
    )


def make_learner(
    config: TrainConfig, data: TrainingData, state: TrainingState, phase: Phase
) -> TokenizerLearner | WorldLearner:
    """What a phase trains, with its samplers; builds the token caches that it needs.

    A tokenizer with backgrounds gets those of games it has not seen, before it makes its first token.

    Raises:
        UserError: there is nothing to draw, or a cache cannot be written.
    """
    set_backgrounds(state.tokenizer, data)
    if phase.name == "tokenizer":
        sampling = replace(data.sampling, batch_size=config.tokenizer_batch)
        train = FrameSampler(data.stores, sampling)
        if state.tokenizer.config.network == "dictionary" and state.step == 0:
            batch = FrameSampler(data.stores, replace(sampling, batch_size=DICTIONARY_FRAMES)).batch(0)
            batch = batch.to(state.tokenizer.device)
            state.tokenizer.fill_codebook(batch.frames, batch.task_id)
        held_out = None
        if data.has_held_out:
            held_out = FrameSampler(
                data.stores, replace(sampling, batch_size=HELD_OUT_FRAMES), split="held_out"
            )
        return TokenizerLearner(state.tokenizer, train, held_out, config.loader_workers)
    device = state.tokenizer.device
    caches = [build_token_cache(store, state.tokenizer.eval(), device=device) for store in data.stores]
    segments = SegmentConfig(
        segment_length=config.context_frames,
        stride=config.stride,
        padding=config.padding,
        discount=config.loss.discount,
    )
    held_out = None
    if data.has_held_out:
        held_out = SegmentSampler(data.stores, caches, data.sampling, segments, split="held_out")
    return WorldLearner(
        state.model,
        state.tokenizer,
        SegmentSampler(data.stores, caches, data.sampling, segments),
        held_out,
        config.loss,
        train_q=phase.name == "joint",
        target_update_every=config.target_update_every,
        first_step=phase.start,
        num_workers=config.loader_workers,
    )


def set_backgrounds(tokenizer: Tokenizer, data: TrainingData) -> None:
    """Give the tokenizer the median frame of each game whose background it lacks."""
    if not tokenizer.config.use_background:
        return
    for game in data.games:
        task_id = find_game(game).task_id
        if not tokenizer.background[task_id].any():
            sampling = replace(data.sampling, games=(game,), batch_size=BACKGROUND_FRAMES)
            frames = FrameSampler(data.stores, sampling, memory_limit=0).batch(0).frames
            tokenizer.set_background(task_id, median_frame(frames))


def training_device(config: TrainConfig) -> torch.device:
    """The device asked for; `auto` takes a GPU if there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)
