"""What each phase of training minimises: the tokenizer's loss, or the world-action model's.

Letters: B rows, L steps of a segment, K tokens a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.errors import UserError
from datasets.sampling import FrameSampler, SegmentSampler, batches
from datasets.segments import Batch, FrameBatch
from world_model.dreams import dream_strip, reconstruction_strip
from world_model.imagination import ImaginationConfig, imagine
from world_model.lora import has_adapters, plain_model
from world_model.losses import LossConfig, compute_loss
from world_model.token_statistics import TokenStatistics, token_statistics
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_losses import tokenizer_loss
from world_model.training import evaluating
from world_model.world_action_model import WorldActionModel

HELD_OUT_BATCHES = 4
"""Held-out batches per measurement: the same ones every time, so the curve has no sampling noise."""
SHOWN_FRAMES = 8
"""Frames in a picture of reconstructions."""


class TokenizerLearner:
    """Trains the tokenizer to redraw single frames."""

    module: Tokenizer

    def __init__(
        self, tokenizer: Tokenizer, train: FrameSampler, held_out: FrameSampler | None, num_workers: int
    ) -> None:
        self.module = tokenizer
        self._train, self._held_out, self._num_workers = train, held_out, num_workers
        self._device = tokenizer.device

    def batches(self, start: int, stop: int) -> Iterator[FrameBatch]:
        """Frames of the steps `start` to `stop`."""
        return batches(self._train, start, stop, self._num_workers)

    def loss(
        self, batch: FrameBatch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float], int]:
        """Reconstruction and commitment; see `tokenizer_loss`."""
        batch = batch.to(self._device)
        output = tokenizer_loss(self.module, batch.frames, batch.task_id, generator=generator)
        scalars = {name: term.item() for name, term in output.terms.items()}
        return output.total, scalars, len(batch.frames) * self.module.config.tokens_per_frame

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def statistics(self) -> TokenStatistics:
        """Code usage and foreground error, on held-out frames if there are any."""
        batch = (self._held_out or self._train).batch(0).to(self._device)
        return token_statistics(self.module, batch.frames, batch.task_id)

    def held_out(self) -> Mapping[str, float]:
        """Code usage and foreground error."""
        return self.statistics().scalars()

    def images(self) -> Mapping[str, NDArray[np.uint8]]:
        """Real frames above the same frames redrawn from their tokens."""
        batch = (self._held_out or self._train).batch(0).to(self._device)
        strip = reconstruction_strip(self.module, batch.frames[:SHOWN_FRAMES], batch.task_id[:SHOWN_FRAMES])
        return {"reconstruction": strip}

    def finish(self, allow_collapse: bool) -> None:
        """Say how good the tokens are.

        Raises:
            UserError: the tokenizer has collapsed and `allow_collapse` is not set.
        """
        with evaluating(self.module):
            statistics = self.statistics()
        print(f"tokenizer: {statistics.describe()}")
        if statistics.collapsed:
            if not allow_collapse:
                raise UserError(f"the tokenizer has collapsed: {statistics.advice()}")
            print(f"WARNING: the tokenizer has collapsed: {statistics.advice()}")


class WorldLearner:
    """Trains the world-action model on segments of tokens, with or without its Q head.

    From the step `imagine_from` on, the model continues some segments itself, for its Q head to learn from.
    """

    module: WorldActionModel

    def __init__(
        self,
        model: WorldActionModel,
        tokenizer: Tokenizer,
        train: SegmentSampler,
        held_out: SegmentSampler | None,
        config: LossConfig,
        *,
        train_q: bool,
        imagination: ImaginationConfig,
        imagine_from: int,
        target_update_every: int,
        first_step: int,
        num_workers: int,
    ) -> None:
        self.module = model
        self._tokenizer, self._train, self._held_out = tokenizer, train, held_out
        self._config, self._train_q, self._num_workers = config, train_q, num_workers
        self._imagination, self._imagine_from = imagination, imagine_from
        self._merged = plain_model(model) if has_adapters(model) else None
        self._target_update_every, self._first_step = target_update_every, first_step
        self._device = model.position_embedding.weight.device

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Segments of the steps `start` to `stop`."""
        return batches(self._train, start, stop, self._num_workers)

    def loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float], int]:
        """World part, and with `train_q` the temporal difference and the conservative penalty."""
        batch = batch.to(self._device)
        return self._loss(batch, self._imagined(batch, step), generator)

    def _loss(
        self, batch: Batch, imagined: Batch | None, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float], int]:
        output = compute_loss(
            self.module, batch, self._config, train_q=self._train_q, imagined=imagined, generator=generator
        )
        tokens = batch.actions.numel() * (self.module.config.tokens_per_frame + 1)
        scalars = output.scalars()
        if imagined is not None:
            scalars["imagined_segments"] = len(imagined.mask)
        return output.total, scalars, tokens

    def _imagined(self, batch: Batch, step: int) -> Batch | None:
        """The first segments of a batch, continued in the model; a batch is drawn at random, so any are."""
        count = round(self._imagination.share * len(batch.mask))
        if not (self._train_q and count) or step < self._imagine_from:
            return None
        return imagine(
            self._plain_model(),
            Batch(*(getattr(batch, field.name)[:count] for field in fields(Batch))),
            self._imagination,
            discount=self._config.discount,
            published_semantics=self._config.published_semantics,
        )

    def _plain_model(self) -> WorldActionModel:
        """The model as planners take it, without adapters."""
        return plain_model(self.module, into=self._merged)

    def after_step(self, step: int) -> None:
        """Copy the Q head into the target head every so many steps of the phase."""
        if self._train_q and (step + 1 - self._first_step) % self._target_update_every == 0:
            self.module.update_target()

    def held_out(self) -> Mapping[str, float]:
        """The losses, averaged over a fixed set of held-out segments."""
        if self._held_out is None:
            return {}
        found: dict[str, list[float]] = {}
        for step in range(HELD_OUT_BATCHES):
            generator = torch.Generator().manual_seed(step)
            _, scalars, _ = self._loss(self._held_out.batch(step).to(self._device), None, generator)
            for name, value in scalars.items():
                found.setdefault(name, []).append(value)
        # A statistic of something rare is missing where a batch holds none of it.
        return {name: sum(values) / len(values) for name, values in found.items()}

    def images(self) -> Mapping[str, NDArray[np.uint8]]:
        """A held-out segment above what the model imagines of it from its first half on."""
        sampler = self._held_out or self._train
        batch = sampler.batch(0)
        whole = batch.mask.all(dim=1).nonzero()
        if not len(whole):
            return {}  # every episode is shorter than a segment
        strip = dream_strip(self._plain_model(), self._tokenizer, batch.to(self._device), int(whole[0]))
        return {"imagination": strip}

    def finish(self, allow_collapse: bool) -> None:
        """Nothing is left to say."""
