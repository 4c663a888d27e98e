"""What the means of a loss are taken over, counted so that parts of a batch add up to the whole.

A loss is a sum of masked means. The mean of a whole batch is not the mean of the means of its parts, since
these hold different numbers of real steps; it is the sum of the parts' sums, each divided by the count of
the whole. So counts come first, are added up over all parts and processes, and are given to each part.

Letters: B segments, L steps of a segment, K tokens a frame, P = K + 1 tokens of a block.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from einops import rearrange
from jaxtyping import Bool, Shaped
from torch import Tensor
from torch.nn import functional

from datasets.segments import Batch


@dataclass(frozen=True)
class LossCounts:
    """The denominators of a loss; of W processes, each divides by a W-th of what all of them counted."""

    labels: Shaped[Tensor, ""]
    """Observation tokens predicted."""
    changed: Shaped[Tensor, ""]
    """Those of them that differ from the one at the same place of the frame before."""
    steps: Shaped[Tensor, ""]
    """Real steps."""
    all_steps: Shaped[Tensor, ""]
    """Real steps and those of imagined segments."""
    backups: Shaped[Tensor, ""]
    """Steps with a target of Q."""

    def stacked(self) -> Shaped[Tensor, "5"]:
        """All of them in order."""
        return torch.stack([getattr(self, field.name) for field in fields(self)])


def predicted_tokens(
    batch: Batch, *, published_semantics: bool
) -> tuple[Bool[Tensor, "B LP"], Bool[Tensor, "B LP"]]:
    """Which positions but the last, `LP = L P - 1`, predict a token that counts, and a changed one."""
    is_label = batch.mask.unsqueeze(-1).expand_as(batch.tokens).clone()
    # The first token of a frame is predicted from the step before, so that step must be real as well.
    if not published_semantics:
        is_label[:, 1:, 0] &= batch.mask[:, :-1]
    changed = functional.pad(batch.tokens[:, 1:] != batch.tokens[:, :-1], (0, 0, 1, 0))
    changed[:, 1:] &= (batch.mask[:, 1:] & batch.mask[:, :-1]).unsqueeze(-1)
    wanted = next_in_sequence(is_label)
    return wanted, next_in_sequence(changed) & wanted


def next_in_sequence(per_token: Shaped[Tensor, "B L K"]) -> Shaped[Tensor, "B LP"]:
    """What follows each position but the last of a sequence, `LP = L P - 1`; 0 for actions."""
    return rearrange(functional.pad(per_token, (0, 1)), "B L P -> B (L P)")[:, 1:]
