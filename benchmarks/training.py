"""How fast training is, how much it holds in memory, and how long it stands still to save.

    python -m benchmarks.training                                     every size, float32 and bfloat16
    python -m benchmarks.training --device cuda --batch-size 64 --compile
    torchrun --standalone --nproc-per-node 2 -m benchmarks.training -- --sizes 40M
    torchrun --standalone --nproc-per-node 1 -m benchmarks.training -- --sizes 150M --saves 3

Segments are random tokens, so no data is needed and none is waited for. Floating point operations are those
of the matrix products alone, twice as many backward as forward. A share of peak is of the product of two
square matrices on the same device at the same time; utilisation is the share of what the GPU's vendor
promises for dense bfloat16.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import nn

from datasets.segments import Batch, SegmentConfig
from world_model.distributed import Processes, joined
from world_model.heads import StackedLinear
from world_model.imagination import ImaginationConfig
from world_model.learners import WorldLearner
from world_model.linear import Linear
from world_model.losses import LossConfig
from world_model.optimizer_state import optimizer_tensors
from world_model.optimizers import OptimizerConfig, make_optimizer
from world_model.saving import open_saver
from world_model.sizes import SIZES
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS
from world_model.training import LoopConfig, Optimisation, optimise
from world_model.world_action_model import WorldActionModel

WARM_UP = 2
PROMISED = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Operations a second in dense bfloat16, as vendors state them, by a part of the GPU's name (SXM models)."""


@dataclass(frozen=True)
class TrainingBenchmark:
    """Time training steps and saves."""

    sizes: tuple[str, ...] = ("tiny", "40M", "70M", "150M")
    """Sizes of the world-action model."""
    precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """What products are computed in."""
    stage: Literal["world", "joint"] = "joint"
    """World part alone, or with the Q head."""
    batch_size: int = 4
    """Segments of 8 frames in a step, of all processes together."""
    steps: int = 5
    """Steps timed, after two that are not (buffers, compilation); the median counts."""
    saves: int = 0
    """Time so many saves instead: how long until training goes on, and until all is on disk."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How processes share the work."""
    micro_batches: int | None = None
    """Parts of a step, of all processes together."""
    recompute: bool = False
    """Compute activations again for the gradient."""
    compile: bool = False
    """Compile the transformer's blocks."""
    device: str = "cpu"
    """cpu or cuda."""
    out: Path = Path("runs/training_benchmark")
    """Folder for what is saved; emptied."""


class RandomSegments:
    """Stands for a sampler, and draws full segments of tokens at random."""

    def __init__(self, rows: int, vocab_size: int) -> None:
        self.segments = SegmentConfig()
        self._rows, self._vocab_size = rows, vocab_size

    def indices(self, step: int) -> np.ndarray:
        return step * self._rows + np.arange(self._rows)

    def load(self, indices: np.ndarray) -> Batch:
        generator = torch.Generator().manual_seed(int(indices[0]))
        shape = (len(indices), self.segments.segment_length)
        return Batch(
            tokens=torch.randint(0, self._vocab_size, (*shape, 36), generator=generator),
            actions=torch.randint(0, 18, shape, generator=generator),
            rewards=torch.randint(-1, 2, shape, generator=generator).float(),
            ends=torch.zeros(shape, dtype=torch.int64),
            returns=torch.zeros(shape),
            value_returns=torch.zeros(shape),
            mask=torch.ones(shape, dtype=torch.bool),
            task_id=torch.zeros(len(indices), dtype=torch.int64),
            legal_mask=torch.ones(len(indices), 18, dtype=torch.bool),
        )


def main() -> None:
    """Measure and print a table."""
    config = tyro.cli(TrainingBenchmark, description=__doc__)
    with joined(config.parallel, config.device) as processes:
        print(
            f"{processes.size} processes, {torch.get_num_threads()} threads each, torch {torch.__version__}"
        )
        if config.saves:
            time_saves(config, processes)
            return
        print(
            "| size | precision | s a step | CPU s a step | tokens/s | GFLOP/s | share of peak | utilisation "
            "| memory |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for size in config.sizes:
            for precision in config.precisions:
                print(time_steps(config, processes, size, precision), flush=True)


def build(config: TrainingBenchmark, processes: Processes, size: str) -> tuple[WorldLearner, nn.Module]:
    """A learner on random segments, and its objective as the processes wrap it."""
    torch.manual_seed(0)
    model = WorldActionModel(replace(SIZES[size], vocab_size=2048)).to(processes.device)
    model.transformer.recompute = config.recompute
    if config.compile:
        for block in model.transformer.blocks:
            block.compile()
    tokenizer = Tokenizer(TOKENIZERS["tiny"]).to(processes.device)
    sampler = RandomSegments(config.batch_size, 2048)
    learner = WorldLearner(
        model,
        tokenizer,
        sampler,
        None,
        LossConfig(),
        train_q=config.stage == "joint",
        imagination=ImaginationConfig(),
        imagine_from=0,
        target_update_every=1000,
        first_step=0,
        num_workers=0,
        parts=processes.parts(config.batch_size, config.micro_batches),
        processes=processes,
    )
    return learner, processes.wrap(learner.objective, all_used=learner.objective.all_used)


def time_steps(config: TrainingBenchmark, processes: Processes, size: str, precision: str) -> str:
    """One row of the table."""
    learner, objective = build(config, processes, size)
    flops = step_flops(learner.module, config.batch_size, config.stage == "joint")
    optimizer = make_optimizer(learner.module, OptimizerConfig())
    how = Optimisation(processes, OptimizerConfig(), LoopConfig(), 0, bf16=precision == "bfloat16")
    learner.module.train()
    wall, cpu, peaks = [], [], []
    for step, parts in enumerate(learner.batches(0, config.steps + WARM_UP)):
        peaks.append(matrix_flops(processes.device, precision))
        if processes.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        synchronise(processes)
        started, cpu_started = time.perf_counter(), time.process_time()
        optimise(learner, objective, optimizer, parts, step, 1e-4, how)
        synchronise(processes, barrier=False)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - cpu_started)
    seconds, cpu_seconds = statistics.median(wall[WARM_UP:]), statistics.median(cpu[WARM_UP:])
    rate = flops / seconds / processes.size
    tokens = learner.tokens_per_step / seconds
    promised = promised_flops(processes.device) if precision == "bfloat16" else None
    utilisation = "" if promised is None else f"{rate / promised:.0%}"
    return (
        f"| {size} | {precision} | {seconds:.3f} | {cpu_seconds:.3f} | {tokens:.0f} | "
        f"{rate * processes.size / 1e9:.0f} | {rate / statistics.median(peaks):.0%} | {utilisation} | "
        f"{memory(processes.device) / 2**30:.2f} GiB |"
    )


def synchronise(processes: Processes, barrier: bool = True) -> None:
    """Wait for what the device has been given, and for the other processes."""
    if processes.device.type == "cuda":
        torch.cuda.synchronize()
    if barrier:
        processes.barrier()


def step_flops(model: WorldActionModel, rows: int, train_q: bool) -> float:
    """Floating point operations of a step's matrix products, backward included (3 times forward).

    Of a weight matrix 2 a parameter and a token that goes through it; of causal attention 2 T^2 D a layer and
    segment, half of what full attention takes for its two products.
    """
    config = model.config
    tokens, frames = config.max_tokens, config.max_blocks
    uses = {"transformer": tokens, "head_observations": frames * config.tokens_per_frame}
    uses |= {"head_rewards": frames, "head_ends": frames}
    # The target head runs forward alone: a third.
    uses |= {"head_q": frames, "head_q_target": frames / 3} if train_q else {}
    products = 0.0
    for part, count in uses.items():
        for module in model.get_submodule(part).modules():
            if isinstance(module, nn.Linear | StackedLinear):
                products += 2 * module.weight.numel() * count
    products += 2 * config.transformer.layers * tokens**2 * config.transformer.width
    return 3 * rows * products


def matrix_flops(device: torch.device, precision: str) -> float:
    """Floating point operations a second of a product of square matrices, now, as layers compute it."""
    width = 8192 if device.type == "cuda" else 1024
    layer = Linear(width, width, bias=False, device=device, dtype=getattr(torch, precision))
    x = torch.randn(width, width, device=device, dtype=layer.weight.dtype)
    with torch.no_grad():
        layer(x)[0, 0].item()
        started = time.perf_counter()
        for _ in range(3):
            y = layer(x)
        y[0, 0].item()
    return 3 * 2 * width**3 / (time.perf_counter() - started)


def promised_flops(device: torch.device) -> float | None:
    """What the vendor of a GPU promises, if it is one that is known here."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for part, flops in PROMISED.items() if part in name), None)


def memory(device: torch.device) -> float:
    """Most bytes held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def time_saves(config: TrainingBenchmark, processes: Processes) -> None:
    """Time how long training stands still for a save in the background, and for one that is waited for."""
    learner, objective = build(config, processes, config.sizes[0])
    optimizer = make_optimizer(learner.module, OptimizerConfig())
    how = Optimisation(processes, OptimizerConfig(), LoopConfig(), 0, bf16=False)
    for step, parts in enumerate(learner.batches(0, 1)):
        optimise(learner, objective, optimizer, parts, step, 1e-4, how)
    synchronise(processes)
    if processes.is_first:
        shutil.rmtree(config.out, ignore_errors=True)
    processes.barrier()
    saver = open_saver(config.out, 1, processes)
    tokenizer = Tokenizer(TOKENIZERS["tiny"])
    ratios = []
    for number in range(1, config.saves + 1):
        started = time.perf_counter()
        saver.save(
            number,
            tokenizer=tokenizer,
            model=learner.module,
            optimizer=optimizer_tensors(optimizer, learner.module),
            training={},
            phase="joint",
            held_out_loss=None,
        )
        returned = time.perf_counter() - started
        saver.finish()
        done = time.perf_counter() - started
        ratios.append(returned / done)
        print(
            f"save {number}: training stands still {returned:.2f} s; on disk after {done:.2f} s", flush=True
        )
    print(f"median share of the time that training stands still: {statistics.median(ratios):.1%}")
    if processes.is_first:
        shutil.rmtree(config.out)


if __name__ == "__main__":
    main()
