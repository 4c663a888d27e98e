"""One optimisation step, and the loop that repeats it until a phase of training is done.

A phase is a range of step numbers in which one module is trained. Everything random in step s is
drawn from generators seeded by (seed, s), so the step number is the whole random state: a run that
is killed and resumed repeats the undisturbed run bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from datasets.files import replace_file
from world_model.distributed import Processes, whole
from world_model.losses import counted
from world_model.optimizers import Optimizer, OptimizerConfig, set_learning_rate
from world_model.run_log import RunLog


@dataclass(frozen=True)
class Phase:
    """Steps `start` to `stop - 1` of a run, in which one thing is trained."""

    name: Literal["tokenizer", "world", "joint"]
    """`tokenizer` and `world` are the published stage 1, `joint` is stage 2."""
    start: int
    """First step."""
    stop: int
    """One past the last step."""


@runtime_checkable
class Learner(Protocol):
    """What a phase trains: where its batches come from and what is minimised."""

    @property
    def module(self) -> nn.Module:
        """What is optimised, on its device."""
        ...

    @property
    def objective(self) -> nn.Module:
        """Turns one of the parts that `prepare` gives, and a generator, into its loss and scalars to log.

        Over all parts of all processes, the means over processes of the sums of both are those of the batch.
        """
        ...

    @property
    def parts(self) -> tuple[range, ...]:
        """The rows of each batch that this process computes, part by part."""
        ...

    @property
    def tokens_per_step(self) -> int:
        """Tokens (or patches) in the batches of all processes."""
        ...

    def batches(self, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """Parts of this process of the batches of the steps `start` to `stop`: dataclasses of tensors.

        Each is a function of the run's seed, its step and its rows alone.
        """
        ...

    def prepare(self, parts: Sequence[Any], step: int) -> Sequence[Any]:
        """What the objective takes of each part; all processes must ask for it together."""
        ...

    def after_step(self, step: int) -> None:
        """What follows an optimiser step, such as a target update."""
        ...

    def held_out(self) -> Mapping[str, float]:
        """Scalars on data that is never trained on; empty if there is none."""
        ...

    @property
    def judged_by(self) -> str:
        """Which of these scalars tells the best checkpoint."""
        ...

    def images(self) -> Mapping[str, NDArray[np.uint8]]:
        """Pictures [height, width] that show how well the module does."""
        ...


@dataclass(frozen=True)
class LoopConfig:
    """How often a run logs, looks and saves."""

    log_every: int = 10
    """Steps between entries in TensorBoard; `metrics.jsonl` has every step."""
    held_out_every: int = 100
    """Steps between measurements on held-out episodes."""
    image_every: int = 500
    """Steps between pictures in TensorBoard."""
    save_every: int = 500
    """Steps between checkpoints; every phase also ends with one."""


def learning_rate(config: OptimizerConfig, step: int, phase: Phase) -> float:
    """Learning rate of a step: linear warm-up, then constant or half a cosine to 0."""
    done = step - phase.start
    if done < config.warmup_steps:
        return config.learning_rate * (done + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    decaying = max(1, phase.stop - phase.start - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (done - config.warmup_steps) / decaying))


def step_seeds(seed: int, step: int, part: int = 0) -> tuple[int, int]:
    """Two independent 63-bit seeds for everything drawn in one step: dropout of a part, and all else."""
    key = (seed, step, part) if part else (seed, step)
    first, second = np.random.SeedSequence(key).generate_state(2, np.uint64) >> np.uint64(1)
    return int(first), int(second)


@dataclass(frozen=True)
class Optimisation:
    """How a phase is optimised; the same in all processes."""

    processes: Processes
    """Who takes part."""
    optimizer: OptimizerConfig
    """The optimiser and its learning rate."""
    loop: LoopConfig
    """How often to log, look and save."""
    seed: int
    """Of everything drawn."""
    bf16: bool
    """Compute in bfloat16 where that is safe."""


def train_phase(
    learner: Learner,
    objective: nn.Module,
    optimizer: Optimizer,
    phase: Phase,
    how: Optimisation,
    *,
    first_step: int,
    last_step: int,
    log: RunLog,
    save: Callable[[int, float | None], None],
) -> None:
    """Train from `first_step` until `last_step` (exclusive) of a phase, saving as it goes.

    Args:
        learner: what is trained on what.
        objective: the learner's, as the processes have wrapped it.
        optimizer: of the learner's module.
        phase: the phase.
        how: everything else that decides the result.
        first_step: of this invocation.
        last_step: one past its last step.
        log: of the run; that of the first process writes.
        save: told the steps done and the held-out loss, if it has just been measured.

    Raises:
        UserError: a loss or gradient is not finite; the batch is kept under `<run>/non_finite`.
        StoppedElsewhere: that happened in another process.
    """
    learner.module.train()
    started, steps_since = time.perf_counter(), 0
    bar = tqdm(
        range(first_step, last_step),
        initial=first_step - phase.start,
        total=phase.stop - phase.start,
        desc=phase.name,
        unit="step",
        dynamic_ncols=True,
        disable=not how.processes.is_first,
    )
    for step, parts in zip(bar, learner.batches(first_step, last_step), strict=True):
        rate = learning_rate(how.optimizer, step, phase)
        losses, scalars = optimise(learner, objective, optimizer, parts, step, rate, how)
        if not all(map(math.isfinite, (*losses, scalars["gradient_norm"]))):
            _stop_non_finite(parts, losses, step, log, how.processes)
        total = sum(losses) / len(losses)
        learner.after_step(step)
        log.trace(step, phase.name, total, scalars)
        bar.set_postfix(loss=f"{total:.3f}", refresh=False)
        steps_since += 1
        if due(step, how.loop.log_every):
            seconds = time.perf_counter() - started
            tokens = steps_since * learner.tokens_per_step
            log.scalars(
                step,
                phase.name,
                {**scalars, "learning_rate": rate, "tokens_per_second": tokens / seconds},
            )
            started, steps_since = time.perf_counter(), 0
        look = step + 1 == phase.stop
        held_out: Mapping[str, float] = {}
        if look or step == phase.start or due(step, how.loop.held_out_every):
            with evaluating(learner.module):
                held_out = learner.held_out()
            log.held_out(step, phase.name, held_out)
        if look or due(step, how.loop.image_every):
            with evaluating(learner.module):
                log.images(step, phase.name, learner.images())
        if step + 1 == last_step or due(step, how.loop.save_every):
            save(step + 1, held_out.get(learner.judged_by))


def due(step: int, every: int) -> bool:
    """Whether something done every so many steps is due after `step`."""
    return (step + 1) % every == 0


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside a `with`; the mode it was in again after it."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def optimise(
    learner: Learner,
    objective: nn.Module,
    optimizer: Optimizer,
    parts: Sequence[Any],
    step: int,
    rate: float,
    how: Optimisation,
) -> tuple[list[float], dict[str, float]]:
    """Take one step; the weights stay where they are if a loss or the gradient is not finite.

    Returns:
        The loss of each process, whose mean is that of the batch, and scalars of the batch to log.
    """
    device = next(learner.module.parameters()).device
    set_learning_rate(optimizer, rate)
    prepared = learner.prepare(parts, step)
    optimizer.zero_grad(set_to_none=True)
    names: list[str] = []
    sums: Tensor | None = None
    for number, (rows, part) in enumerate(zip(learner.parts, prepared, strict=True)):
        torch.manual_seed(step_seeds(how.seed, step, rows.start)[0])
        generator = torch.Generator().manual_seed(step_seeds(how.seed, step)[1])
        with how.processes.gradients(objective, complete=number + 1 == len(prepared)):
            with torch.autocast(device.type, torch.bfloat16, enabled=how.bf16):
                total, scalars = objective(part, generator)
            total.backward()
        names = list(scalars)
        values = torch.stack([total.detach().float(), *(value.float() for value in scalars.values())])
        sums = values if sums is None else sums + values
    assert sums is not None  # there is at least one part
    norm = whole(nn.utils.clip_grad_norm_(learner.module.parameters(), how.optimizer.gradient_clip)).item()
    rows_of_values = how.processes.gather(sums)
    losses = rows_of_values[:, 0].tolist()
    if math.isfinite(norm) and all(map(math.isfinite, losses)):
        optimizer.step()
    means = dict(zip(names, rows_of_values.mean(0)[1:].tolist(), strict=True))
    return losses, {**counted(means), "gradient_norm": norm}


def _stop_non_finite(
    parts: Sequence[Any], losses: Sequence[float], step: int, log: RunLog, processes: Processes
) -> None:
    """Keep the batch where the loss is not finite, and stop the run; there, if only the gradient is not."""
    culprits = [rank for rank, loss in enumerate(losses) if not math.isfinite(loss)] or [0]
    whose = "" if processes.parallel is None else f"_rank_{processes.rank}"
    kept: Path = log.run / "non_finite" / f"step_{step:08d}{whose}.safetensors"
    if processes.rank in culprits:
        tensors = {
            field.name: torch.cat([getattr(part, field.name) for part in parts]).contiguous()
            for field in fields(parts[0])
        }
        with replace_file(kept) as temporary:
            save_file(tensors, temporary)
    processes.stop(
        culprits[0],
        f"step {step}: the loss or its gradient is not finite; earlier checkpoints are kept and the batch "
        f"is in {kept}; start again --from the last checkpoint with a lower learning rate",
    )
