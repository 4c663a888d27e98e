"""What a training run is configured by.

Which values go together is told in `recipes.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from datasets.errors import UserError
from datasets.segments import SegmentConfig, ValueOf
from world_model.distributed import Parallel
from world_model.imagination import ImaginationConfig
from world_model.losses import LossConfig
from world_model.optimizers import OptimizerConfig
from world_model.training import LoopConfig, Phase


@dataclass(frozen=True)
class TrainConfig:
    """Train a world-action model on stored Atari play.

    Stage 1 trains the tokenizer for `tokenizer_steps`, then the world part of the model for
    `world_steps` on the frozen tokenizer's tokens. Stage 2 trains the model with its Q head for
    `joint_steps`. The defaults are the recipe of `--size` (or of fine-tuning, with `--from`).
    """

    run: Path
    """Folder of the run: checkpoints, TensorBoard, metrics.jsonl; with --from, named by source and games."""
    data: tuple[Path, ...] = ()
    """Episode stores made by datasets.collect, of one game or several."""
    games: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--game"])] = ()
    """Games to train on, with weights if wanted, such as Pong=2 Breakout=1; all in the stores if empty."""
    transitions: int | None = None
    """Train on no more than the first so many transitions of each game in the stores."""
    resume: bool = False
    """Go on with the run in `--run` from its newest checkpoint, exactly as if it had not stopped."""
    from_checkpoint: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Run or checkpoint whose weights to start from, with fresh optimisers: fine-tuning."""
    lora_rank: int = 0
    """With --from, rank of low-rank changes to train in place of linear layers (extra `lora`); 0 for none."""
    max_steps: int | None = None
    """Stop, with a checkpoint, after this many steps of this invocation; --resume goes on."""
    size: Literal["tiny", "40M", "70M", "150M"] = "tiny"
    """Size of the world-action model."""
    tokenizer: Literal["tiny", "dictionary", "dictionary_2048", "published"] = "tiny"
    """Kind of the tokenizer."""
    context_frames: int = 8
    """Frames of a training segment, and the longest context the model can act or plan in."""
    value_range: tuple[float, float] = (-10.0, 10.0)
    """Ends of the support of the return distribution; returns count each reward's sign, discounted."""
    value_head: bool = False
    """Learn the value of a state in a head of its own, for planners to read: for penalties so strong that Q
    tells little but whom to imitate. A checkpoint has it or not."""
    value_of: ValueOf = "returns"
    """What the value head learns: the returns that play earned, or failures, which are lives lost and rewards
    below 0: minus the discounted chance of the next one."""
    start_embeddings: bool = True
    """Start fresh embeddings from what the codes look like and where the tokens stand, not at random."""
    stride: int = 4
    """Steps between the starts of neighbouring segments of an episode."""
    padding: Literal["right", "left"] = "right"
    """The side on which a segment that reaches past its episode is filled up."""
    tokenizer_steps: int = 1000
    """Steps of training the tokenizer."""
    tokenizer_batch: int = 64
    """Frames in a step of the tokenizer."""
    tokenizer_optimizer: OptimizerConfig = OptimizerConfig(2e-3, warmup_steps=20, schedule="cosine")
    """Optimiser of the tokenizer."""
    world_steps: int = 500
    """Steps of training the world part alone."""
    world_optimizer: OptimizerConfig = OptimizerConfig(1e-3, warmup_steps=50)
    """Optimiser of the world part."""
    joint_steps: int = 1500
    """Steps of training world part and Q head together."""
    joint_optimizer: OptimizerConfig = OptimizerConfig(1e-3, warmup_steps=50, schedule="cosine")
    """Optimiser of the joint phase."""
    batch_size: int = 32
    """Segments in a step of the world-action model."""
    loss: LossConfig = LossConfig()
    """Losses and targets of the world-action model."""
    imagination: ImaginationConfig = ImaginationConfig()
    """Segments that the model continues by planning, for its Q head to learn from beside the real ones."""
    target_update_every: int = 1000
    """Steps between copies of the Q head into the target head."""
    held_out_fraction: float = 0.05
    """Share of whole episodes that is never trained on, and measured instead."""
    best_share: float = 1.0
    """In the joint phase, learn only from the episodes of highest score that hold this share of each game's
    steps: where recorded players differ, this says whom to imitate."""
    allow_collapse: bool = False
    """Go on with a collapsed tokenizer, on whose tokens nothing can learn to play; only of use for tests."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    loader_workers: int = 0
    """Processes that prepare batches ahead; 0 prepares each when it is needed."""
    bf16: bool = False
    """Compute in bfloat16 where that is safe; pays on GPUs and on CPUs with AVX-512 or AMX, from 40M up."""
    parallel: Parallel = "ddp"
    """How processes that torchrun starts share the work: copies of the model (ddp) or shards (fsdp)."""
    micro_batches: int | None = None
    """Equal parts that a batch is computed in, shared out among the processes; by default one for each."""
    recompute: bool = False
    """Compute activations again for the gradient in place of keeping them: less memory, a third more time."""
    compile: bool = False
    """Compile the transformer's blocks with torch.compile; needs a C++ compiler or a GPU."""
    keep_checkpoints: int = 3
    """Newest checkpoints to keep; the one of the phase with the lowest held-out loss is kept beside them."""
    loop: LoopConfig = LoopConfig()
    """How often to log, look and save."""

    def __post_init__(self) -> None:
        if self.transitions is not None and self.transitions < 1:
            raise UserError(f"transitions is {self.transitions}; it must be at least 1")
        if not 0.0 < self.best_share <= 1.0:
            raise UserError(f"best_share is {self.best_share}; it must be above 0 and at most 1")
        if self.lora_rank < 0:
            raise UserError(f"lora_rank is {self.lora_rank}; it must be 0 or more")
        if self.lora_rank and self.from_checkpoint is None:
            raise UserError(f"lora_rank is {self.lora_rank} without --from; fresh weights must train whole")
        if self.lora_rank and self.parallel == "fsdp":
            raise UserError("parallel fsdp does not take lora_rank: adapters are small; use parallel ddp")
        if self.micro_batches is not None and self.micro_batches < 1:
            raise UserError(f"micro_batches is {self.micro_batches}; it must be at least 1")
        if self.keep_checkpoints < 1:
            raise UserError(f"keep_checkpoints is {self.keep_checkpoints}; it must be at least 1")
        if self.loss.advantage_temperature is not None and not self.value_head:
            raise UserError(
                f"loss.advantage_temperature is {self.loss.advantage_temperature}, but no value head "
                "says what was expected; give --value-head too"
            )
        if self.value_of != "returns" and not self.value_head:
            raise UserError(
                f"value_of is {self.value_of}, but there is no value head to learn it; give --value-head too"
            )
        self._check_imagination()

    def _check_imagination(self) -> None:
        """Find out before the first step what would stop imagination after many."""
        if not self.imagination.share:
            return
        horizon = self.imagination.horizon
        if horizon >= self.context_frames:
            raise UserError(
                f"imagination.horizon is {horizon}, but segments have {self.context_frames} steps, of which "
                "one at least is real; lower it, or give --imagination.share 0"
            )
        if self.loss.discount <= 0:
            raise UserError(f"loss.discount is {self.loss.discount}; imagination needs it above 0")

    @property
    def total_steps(self) -> int:
        """Steps of all phases."""
        return self.tokenizer_steps + self.world_steps + self.joint_steps

    def phases(self) -> tuple[Phase, ...]:
        """The phases in order; one of no steps starts where it stops."""
        world = self.tokenizer_steps
        joint = world + self.world_steps
        return (
            Phase("tokenizer", 0, world),
            Phase("world", world, joint),
            Phase("joint", joint, self.total_steps),
        )

    def segments(self) -> SegmentConfig:
        """How segments of training are cut."""
        return SegmentConfig(
            segment_length=self.context_frames,
            stride=self.stride,
            padding=self.padding,
            discount=self.loss.discount,
            value_of=self.value_of,
        )

    def optimizer_of(self, phase: Phase) -> OptimizerConfig:
        """Optimiser of a phase."""
        return {
            "tokenizer": self.tokenizer_optimizer,
            "world": self.world_optimizer,
            "joint": self.joint_optimizer,
        }[phase.name]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, paths made absolute so that a run can be resumed from anywhere."""
        absolute = replace(
            self,
            data=tuple(path.absolute() for path in self.data),
            from_checkpoint=self.from_checkpoint and self.from_checkpoint.absolute(),
            run=self.run.absolute(),
            resume=False,
            max_steps=None,
        )
        return json.loads(json.dumps(asdict(absolute), default=str))
