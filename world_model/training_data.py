"""The data of a training run, and the learner of each of its phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from datasets.errors import UserError
from datasets.games import find_game, legal_mask_table
from datasets.mixture import SamplingConfig, select_games
from datasets.sampling import FrameSampler, SegmentSampler
from datasets.segments import held_out_mask
from datasets.store import EpisodeStore
from datasets.subset import write_first
from datasets.tokens import build_token_cache
from world_model.distributed import Processes
from world_model.frames import median_frame
from world_model.learners import TokenizerLearner, WorldLearner
from world_model.tokenizer import Tokenizer
from world_model.train_config import TrainConfig
from world_model.training import Phase
from world_model.training_state import TrainingState
from world_model.world_action_model import WorldActionModel

BACKGROUND_FRAMES = 512
"""Frames of a game whose median is its background."""
DICTIONARY_FRAMES = 16_384
"""Frames whose patches a dictionary starts from."""
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


def open_data(config: TrainConfig, processes: Processes) -> TrainingData:
    """Open and verify the stores; of `transitions`, a copy is made in the run's folder.

    Raises:
        UserError: a file is missing, damaged or foreign, or holds none of the games asked for.
    """
    stores = tuple(EpisodeStore(path) for path in config.data)
    if config.transitions is not None:
        with processes.first():
            stores = (_first_transitions(config, stores, config.transitions, processes),)
    episodes = [info for store in stores for info in store.episodes]
    held = [info.game for info in episodes]
    aside = held_out_mask([info.digest for info in episodes], held, config.held_out_fraction)
    return TrainingData(
        stores=stores,
        games=_games(config, stores),
        sampling=SamplingConfig(
            batch_size=config.batch_size,
            games=config.games,
            held_out_fraction=config.held_out_fraction,
            seed=config.seed,
        ),
        has_held_out=bool(aside.any()),
    )


def _games(config: TrainConfig, stores: Sequence[EpisodeStore]) -> tuple[str, ...]:
    held = [game for store in stores for game in store.games]
    return tuple(select_games(config.games, held, ", ".join(str(path) for path in config.data)))


def _first_transitions(
    config: TrainConfig, stores: Sequence[EpisodeStore], count: int, processes: Processes
) -> EpisodeStore:
    """The copy of the first transitions of each game; a resumed run keeps its own, though the stores grew."""
    path = config.run / "data" / f"first_{count}.h5"
    if processes.is_first and not (config.resume and path.exists()):
        write_first(stores, _games(config, stores), count, path)
    return EpisodeStore(path)


def check_games(games: Sequence[str], model: WorldActionModel) -> None:
    """Refuse to train a model on games that it has no place for.

    Raises:
        UserError: a game's number, or the vocabulary of actions, is beyond the model.
    """
    num_actions = legal_mask_table().shape[1]
    if model.config.num_actions != num_actions:
        raise UserError(
            f"the model has {model.config.num_actions} actions, not the {num_actions} that all games share "
            "here; start from another checkpoint"
        )
    unknown = [game for game in games if find_game(game).task_id >= model.config.num_tasks]
    if unknown:
        raise UserError(
            f"the model tells {model.config.num_tasks} games apart, and {', '.join(unknown)} "
            "has a number beyond; name other --games, or start from a checkpoint that knows all 60"
        )


def make_learner(
    config: TrainConfig, data: TrainingData, state: TrainingState, phase: Phase, processes: Processes
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
        parts = processes.parts(config.tokenizer_batch, config.micro_batches)
        return TokenizerLearner(state.tokenizer, train, held_out, config.loader_workers, parts, processes)
    with processes.first():
        caches = [
            build_token_cache(
                store, state.tokenizer.eval(), device=processes.device, progress=processes.is_first
            )
            for store in data.stores
        ]
    segments = config.segments()
    train_q = phase.name == "joint"
    sampling = replace(data.sampling, best_share=config.best_share) if train_q else data.sampling
    held_out = None
    if data.has_held_out:
        held_out = SegmentSampler(data.stores, caches, sampling, segments, split="held_out")
    state.model.transformer.recompute = config.recompute
    if config.compile:
        for block in state.model.transformer.blocks:
            block.compile()
    return WorldLearner(
        state.model,
        state.tokenizer,
        SegmentSampler(data.stores, caches, sampling, segments),
        held_out,
        config.loss,
        train_q=train_q,
        imagination=config.imagination,
        imagine_from=phase.start + round(config.imagination.after * (phase.stop - phase.start)),
        target_update_every=config.target_update_every,
        first_step=phase.start,
        num_workers=config.loader_workers,
        parts=processes.parts(config.batch_size, config.micro_batches),
        processes=processes,
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
