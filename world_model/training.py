"""One optimisation step, and the loop that repeats it until a phase of training is done.

A phase is a range of step numbers in which one module is trained. Everything random in step s is
drawn from generators seeded by (seed, s), so the step number is the whole random state: a run that
is killed and resumed repeats the undisturbed run bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
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

from datasets.errors import UserError
from datasets.files import replace_file
from world_model.heads import StackedLinear
from world_model.run_log import RunLog

DECAYED = (nn.Linear, nn.Conv2d, StackedLinear)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rate over one phase."""

    learning_rate: float = 1e-4
    """Highest learning rate of the phase."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Keep the learning rate, or let it fall to 0 along half a cosine by the end of the phase."""
    weight_decay: float = 0.01
    """Decoupled weight decay of weight matrices; biases, norms and embeddings have none."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; a larger one is scaled down to it."""


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

    def batches(self, start: int, stop: int) -> Iterator[Any]:
        """Batches of the steps `start` to `stop`, dataclasses of tensors on the CPU.

        Each is a function of the run's seed and its step alone.
        """
        ...

    def loss(
        self, batch: Any, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float], int]:
        """Loss of a step to differentiate, scalars to log, and the number of tokens (or patches) fed."""
        ...

    def after_step(self, step: int) -> None:
        """What follows an optimiser step, such as a target update."""
        ...

    def held_out(self) -> Mapping[str, float]:
        """Scalars on data that is never trained on; empty if there is none."""
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


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW that decays the weights of linear and convolutional layers, and nothing else."""
    decayed = [
        part.weight for part in module.modules() if isinstance(part, DECAYED) and part.weight.requires_grad
    ]
    chosen = {id(parameter) for parameter in decayed}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in chosen]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate(config: OptimizerConfig, step: int, phase: Phase) -> float:
    """Learning rate of a step: linear warm-up, then constant or half a cosine to 0."""
    done = step - phase.start
    if done < config.warmup_steps:
        return config.learning_rate * (done + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    decaying = max(1, phase.stop - phase.start - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (done - config.warmup_steps) / decaying))


def step_seeds(seed: int, step: int) -> tuple[int, int]:
    """Two independent 63-bit seeds for everything drawn in one step: dropout, and all else."""
    first, second = np.random.SeedSequence((seed, step)).generate_state(2, np.uint64) >> np.uint64(1)
    return int(first), int(second)


def train_phase(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    phase: Phase,
    *,
    first_step: int,
    last_step: int,
    seed: int,
    bf16: bool,
    optimizer_config: OptimizerConfig,
    loop: LoopConfig,
    log: RunLog,
    save: Callable[[int], None],
) -> None:
    """Train from `first_step` until `last_step` (exclusive) of a phase, saving as it goes.

    Raises:
        UserError: a loss or gradient is not finite; the batch is kept under `<run>/non_finite`.
    """
    learner.module.train()
    started, tokens_since = time.perf_counter(), 0
    bar = tqdm(
        range(first_step, last_step),
        initial=first_step - phase.start,
        total=phase.stop - phase.start,
        desc=phase.name,
        unit="step",
        dynamic_ncols=True,
    )
    for step, batch in zip(bar, learner.batches(first_step, last_step), strict=True):
        dropout_seed, other_seed = step_seeds(seed, step)
        torch.manual_seed(dropout_seed)
        generator = torch.Generator().manual_seed(other_seed)
        rate = learning_rate(optimizer_config, step, phase)
        total, scalars, tokens = _optimise(
            learner, optimizer, batch, step, generator, rate, bf16, optimizer_config
        )
        if not math.isfinite(total) or not math.isfinite(scalars["gradient_norm"]):
            _stop_non_finite(batch, step, log)
        learner.after_step(step)
        log.trace(step, phase.name, total, scalars)
        bar.set_postfix(loss=f"{total:.3f}", refresh=False)
        tokens_since += tokens
        if due(step, loop.log_every):
            seconds = time.perf_counter() - started
            speed = {"learning_rate": rate, "tokens_per_second": tokens_since / seconds}
            log.scalars(step, phase.name, {**scalars, **speed})
            started, tokens_since = time.perf_counter(), 0
        look = step + 1 == phase.stop
        if look or due(step, loop.held_out_every):
            with evaluating(learner.module):
                log.held_out(step, phase.name, learner.held_out())
        if look or due(step, loop.image_every):
            with evaluating(learner.module):
                log.images(step, phase.name, learner.images())
        if step + 1 == last_step or due(step, loop.save_every):
            save(step + 1)


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


def _optimise(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    step: int,
    generator: torch.Generator,
    rate: float,
    bf16: bool,
    config: OptimizerConfig,
) -> tuple[float, dict[str, float], int]:
    device = next(learner.module.parameters()).device
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        total, scalars, tokens = learner.loss(batch, step, generator)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(learner.module.parameters(), config.gradient_clip).item()
    value = total.item()
    if math.isfinite(value) and math.isfinite(norm):
        optimizer.step()
    return value, {**scalars, "gradient_norm": norm}, tokens


def _stop_non_finite(batch: Any, step: int, log: RunLog) -> None:
    kept: Path = log.run / "non_finite" / f"step_{step:08d}.safetensors"
    tensors = {field.name: getattr(batch, field.name).contiguous() for field in fields(batch)}
    with replace_file(kept) as temporary:
        save_file(tensors, temporary)
    raise UserError(
        f"step {step}: the loss or its gradient is not finite; earlier checkpoints are kept and the batch "
        f"is in {kept}; start again --from the last checkpoint with a lower learning rate"
    )
