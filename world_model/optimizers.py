"""The optimisers of a phase: AdamW, with Muon beside it for the matrices of the transformer's blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from world_model.heads import StackedLinear
from world_model.muon import Muon
from world_model.transformer import Block

DECAYED = (nn.Linear, nn.Conv2d, StackedLinear)


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its learning rate over one phase."""

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
    blocks: Literal["adamw", "muon"] = "adamw"
    """Optimiser of the matrices of the transformer's blocks; all else is AdamW's."""
    muon_rate: float = 3.0
    """Learning rate of Muon in units of `learning_rate`; at 1 its steps are as large as AdamW's."""


class Together:
    """Several optimisers of different weights of one module, to be used as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of all of them, in order; what is set in one takes effect."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> Mapping[Tensor, Mapping[str, Tensor]]:
        """The moments of each weight."""
        return {parameter: moments for part in self.parts for parameter, moments in part.state.items()}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """One step of each."""
        for part in self.parts:
            part.step()


Optimizer = torch.optim.Optimizer | Together


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> Optimizer:
    """AdamW that decays the weights of linear and convolutional layers, and Muon where the blocks take it.

    Args:
        module: those of its weights that require a gradient are optimised.
        config: rates and kinds.
    """
    by_muon = list(block_matrices(module)) if config.blocks == "muon" else []
    taken = {id(parameter) for parameter in by_muon}
    left = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
    matrices = {id(part.weight) for part in module.modules() if isinstance(part, DECAYED)}
    decayed = [parameter for parameter in left if id(parameter) in matrices]
    rest = [parameter for parameter in left if id(parameter) not in matrices]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    if not by_muon:
        return adamw
    groups = [{"params": by_muon, "relative_rate": config.muon_rate}]
    return Together(adamw, Muon(groups, lr=config.learning_rate, weight_decay=config.weight_decay))


def block_matrices(module: nn.Module) -> Iterator[Tensor]:
    """Weights of the linear layers of the transformer's blocks that require a gradient."""
    for block in module.modules():
        if isinstance(block, Block):
            for part in block.modules():
                if isinstance(part, nn.Linear) and part.weight.requires_grad:
                    yield part.weight


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all groups a learning rate, in the units of each."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("relative_rate", 1.0)
