"""What each phase of training minimises: the tokenizer's loss, or the world-action model's.

Letters: B rows, L steps of a segment, K tokens a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.errors import UserError
from datasets.sampling import FrameSampler, Parts, SegmentSampler, batches
from datasets.segments import Batch, FrameBatch
from world_model.distributed import Processes, whole_model
from world_model.dreams import dream_strip, reconstruction_strip
from world_model.imagination import ImaginationConfig, imagine
from world_model.lora import plain_model
from world_model.loss_counts import LossCounts
from world_model.losses import LossConfig, compute_loss, count_losses, counted
from world_model.token_statistics import TokenStatistics, token_statistics
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_losses import tokenizer_loss
from world_model.training import evaluating
from world_model.world_action_model import WorldActionModel

HELD_OUT_BATCHES = 4
"""Held-out batches per measurement: the same ones every time, so the curve has no sampling noise."""
SHOWN_FRAMES = 8
"""Frames in a picture of reconstructions."""


@dataclass(frozen=True, eq=False)
class FramePart:
    """A part of a batch of frames, as the objective takes it."""

    batch: FrameBatch
    """On the training device."""
    rows: range
    """Which frames of the batch they are."""
    share: float
    """Frames of this part for each that a process computes on average."""


class TokenizerObjective(nn.Module):
    """Reconstruction and commitment; see `tokenizer_loss`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    @property
    def all_used(self) -> bool:
        """Whether the loss depends on all weights."""
        return True

    def forward(self, part: FramePart, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a part, and scalars to log."""
        output = tokenizer_loss(
            self.tokenizer, part.batch.frames, part.batch.task_id, generator=generator, rows=part.rows
        )
        return output.total * part.share, {name: term * part.share for name, term in output.terms.items()}


class TokenizerLearner:
    """Trains the tokenizer to redraw single frames."""

    module: Tokenizer

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: FrameSampler,
        held_out: FrameSampler | None,
        num_workers: int,
        parts: tuple[range, ...],
        processes: Processes,
    ) -> None:
        self.module = tokenizer
        self.objective = TokenizerObjective(tokenizer)
        self.tokens_per_step = parts[0].stop * tokenizer.config.tokens_per_frame
        self._train, self._held_out, self._num_workers = train, held_out, num_workers
        self.parts, self._processes = parts, processes
        self._device = tokenizer.device

    def batches(self, start: int, stop: int) -> Iterator[tuple[FrameBatch, ...]]:
        """Frames of the steps `start` to `stop`."""
        pinned = self._device.type == "cuda"
        return batches(Parts(self._train, self.parts), start, stop, self._num_workers, pinned)

    def prepare(self, parts: Sequence[FrameBatch], step: int) -> list[FramePart]:
        """The frames on their device, with their weight in the mean."""
        return [
            FramePart(
                batch.to(self._device, non_blocking=True),
                rows,
                len(rows) * self._processes.size / rows.stop,
            )
            for rows, batch in zip(self.parts, parts, strict=True)
        ]

    judged_by = "loss/total"

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


def _judge(config: LossConfig) -> str:
    """The held-out loss by which checkpoints are compared while the Q head is trained, for it is what acts.

    A target that bootstraps moves with the weights, so its distance tells nothing across time; then the
    penalty alone judges, which is how far the data's actions are from being the best.
    """
    moves = config.td_target != "monte_carlo"
    return "loss/penalty" if moves and config.penalty != "none" else "loss/action"


@dataclass(frozen=True, eq=False)
class SegmentPart:
    """A part of a batch of segments, as the objective takes it."""

    batch: Batch
    """Real segments, on the training device."""
    imagined: Batch | None
    """Some of them continued by the model, for its Q head to learn from."""
    counts: LossCounts | None
    """What to divide by; None if the part is the whole batch."""
    scalars: Mapping[str, Tensor]
    """What is known before the loss, to log with it."""


class WorldObjective(nn.Module):
    """World part, and with `train_q` the temporal difference and the conservative penalty."""

    def __init__(self, model: WorldActionModel, config: LossConfig, *, train_q: bool) -> None:
        super().__init__()
        self.model, self.config, self.train_q = model, config, train_q

    @property
    def all_used(self) -> bool:
        """Whether the loss depends on all weights."""
        return self.train_q and self.model.config.use_task_embedding

    def forward(self, part: SegmentPart, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a part, and scalars to log."""
        output = compute_loss(
            self.model,
            part.batch,
            self.config,
            train_q=self.train_q,
            imagined=part.imagined,
            generator=generator,
            counts=part.counts,
        )
        return output.total, {**output.named(), **part.scalars}


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
        parts: tuple[range, ...],
        processes: Processes,
    ) -> None:
        self.module = model
        self.objective = WorldObjective(model, config, train_q=train_q)
        self.tokens_per_step = parts[0].stop * train.segments.segment_length * model.config.block_tokens
        self._tokenizer, self._train, self._held_out = tokenizer, train, held_out
        self._config, self._train_q, self._num_workers = config, train_q, num_workers
        self._imagination, self._imagine_from = imagination, imagine_from
        self.parts, self._processes = parts, processes
        self._copy: WorldActionModel | None = None
        self._target_update_every, self._first_step = target_update_every, first_step
        self.judged_by = _judge(config) if train_q else "loss/total"
        self._device = model.position_embedding.weight.device

    def batches(self, start: int, stop: int) -> Iterator[tuple[Batch, ...]]:
        """Segments of the steps `start` to `stop`."""
        pinned = self._device.type == "cuda"
        return batches(Parts(self._train, self.parts), start, stop, self._num_workers, pinned)

    def prepare(self, parts: Sequence[Batch], step: int) -> list[SegmentPart]:
        """The segments on their device, some continued, with the counts of all processes."""
        real = [batch.to(self._device, non_blocking=True) for batch in parts]
        imagines = self._train_q and self._imagination.share > 0 and step >= self._imagine_from
        imagined = self._imagine(real) if imagines else [None] * len(real)
        each = [count_losses(*pair, self._config).stacked() for pair in zip(real, imagined, strict=True)]
        own = torch.stack(each).sum(0)
        counts = LossCounts(*self._processes.total(own) / self._processes.size)
        return [
            SegmentPart(batch, more, counts, self._scalars(more) if imagines else {})
            for batch, more in zip(real, imagined, strict=True)
        ]

    def _scalars(self, imagined: Batch | None) -> dict[str, Tensor]:
        number = 0 if imagined is None else len(imagined.mask)
        # Numbers are averaged over the processes, and this one is of all of them together.
        return {"imagined_segments": torch.tensor(float(number * self._processes.size), device=self._device)}

    def _imagine(self, parts: Sequence[Batch]) -> list[Batch | None]:
        """The first segments of a batch, continued in the model; a batch is drawn at random, so any are."""
        model = self._plain_model()
        found: list[Batch | None] = []
        for rows, batch in zip(self.parts, parts, strict=True):
            chosen = range(rows.start, round(self._imagination.share * rows.stop), rows.step)
            first = Batch(*(getattr(batch, field.name)[: len(chosen)] for field in fields(Batch)))
            found.append(
                imagine(
                    model,
                    first,
                    self._imagination,
                    discount=self._config.discount,
                    published_semantics=self._config.published_semantics,
                )
                if chosen
                else None
            )
        return found

    def _plain_model(self) -> WorldActionModel:
        """The model as planners take it, without shards or adapters."""
        model = plain_model(whole_model(self.module, into=self._copy), into=self._copy)
        self._copy = None if model is self.module else model
        return model

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
            batch = self._held_out.batch(step).to(self._device)
            _, scalars = self.objective(SegmentPart(batch, None, None, {}), generator)
            for name, value in counted({name: value.item() for name, value in scalars.items()}).items():
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
