"""The heads on the shared transformer: small classifiers, and an ensemble of Q heads in one.

Letters: Q ensemble members, K tokens of a frame, D width of the hidden states, I inputs of a Q head,
A actions, Z atoms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datasets.errors import UserError
from world_model.linear import Linear


@dataclass(frozen=True)
class QHeadConfig:
    """The action-value heads."""

    ensemble_size: int = 1
    """Independent Q heads whose predictions are averaged."""
    mlp_width: int = 768
    """Width of both hidden layers."""
    dropout: float = 0.01
    """Dropout in the hidden layers, while training."""
    distribution: Literal["c51", "mse"] = "c51"
    """Predict a categorical distribution of the return (c51) or its mean (mse)."""
    num_atoms: int = 51
    """Support points of the categorical distribution."""
    value_min: float = -10.0
    """Smallest support point."""
    value_max: float = 30.0
    """Largest support point."""
    reads: Literal["last_token", "frame"] = "last_token"
    """What of a frame the heads see: the hidden state of its last token, or those of all its tokens side by
    side, which tells where in the frame something is without the transformer having to carry it along."""

    def __post_init__(self) -> None:
        if self.ensemble_size < 1:
            raise UserError(f"ensemble_size is {self.ensemble_size}; it must be at least 1")
        if self.num_atoms < 2 or self.value_min >= self.value_max:
            raise UserError(
                f"num_atoms {self.num_atoms} on [{self.value_min}, {self.value_max}] is no support; "
                "use at least 2 atoms and value_min below value_max"
            )

    @property
    def outputs_per_action(self) -> int:
        """Numbers predicted for one action."""
        return self.num_atoms if self.distribution == "c51" else 1

    def inputs(self, tokens: int, width: int) -> int:
        """Numbers that the heads see of a frame of so many hidden states of this width."""
        return tokens * width if self.reads == "frame" else width

    def of_frames(self, hidden: Float[Tensor, "*rows K D"]) -> Float[Tensor, "*rows I"]:
        """What the heads see of frames of K hidden states."""
        return hidden.flatten(-2) if self.reads == "frame" else hidden[..., -1, :]


def classifier_head(width: int, classes: int) -> nn.Sequential:
    """A head of one hidden ReLU layer: [... D] to [... classes] logits."""
    return nn.Sequential(Linear(width, width), nn.ReLU(), Linear(width, classes))


class StackedLinear(nn.Module):
    """One linear layer per ensemble member, applied in one product."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(members, outputs))
        bound = 1 / math.sqrt(inputs)  # as each of torch's own linear layers would start
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "Q R inputs"]) -> Float[Tensor, "Q R outputs"]:
        """Map each member's R rows by its own weights."""
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class StackedLayerNorm(nn.Module):
    """One layer normalisation per ensemble member."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, width))
        self.bias = nn.Parameter(torch.zeros(members, width))

    def forward(self, x: Float[Tensor, "Q R width"]) -> Float[Tensor, "Q R width"]:
        """Normalise each row over its width, then scale and shift as its member says."""
        return F.layer_norm(x, x.shape[-1:]) * self.weight[:, None] + self.bias[:, None]


class QHead(nn.Module):
    """An ensemble of MLPs on the same hidden states: linear, dropout, norm and Mish, twice.

    Dropout stands between the linear layer and the normalisation, as in Hiraoka et al. 2022,
    "Dropout Q-Functions for Doubly Efficient Reinforcement Learning" (arXiv 2110.02034).
    """

    def __init__(self, config: QHeadConfig, inputs: int, num_actions: int) -> None:
        super().__init__()
        members, hidden = config.ensemble_size, config.mlp_width
        self.members = members
        self.linear1 = StackedLinear(members, inputs, hidden)
        self.norm1 = StackedLayerNorm(members, hidden)
        self.linear2 = StackedLinear(members, hidden, hidden)
        self.norm2 = StackedLayerNorm(members, hidden)
        self.linear3 = StackedLinear(members, hidden, num_actions * config.outputs_per_action)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, seen: Float[Tensor, "*rows I"]) -> Float[Tensor, "Q *rows AZ"]:
        """Logits of each member; the outputs of one action stand together."""
        x = seen.reshape(-1, seen.shape[-1]).expand(self.members, -1, -1)
        x = F.mish(self.norm1(self.dropout(self.linear1(x))))
        x = F.mish(self.norm2(self.dropout(self.linear2(x))))
        return self.linear3(x).unflatten(1, seen.shape[:-1])
