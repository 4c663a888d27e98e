"""Pictures of what the models see: frames redrawn from tokens, and imagined roll-outs."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from datasets.segments import Batch
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel


def reconstruction_strip(
    tokenizer: Tokenizer, frames: UInt8[Tensor, "B 84 84"], task_id: Int[Tensor, "B"]
) -> NDArray[np.uint8]:
    """Frames in the upper row, their reconstructions below: uint8 [168, 84 B]."""
    redrawn = tokenizer.decode(tokenizer.encode(frames, task_id), task_id)
    return rearrange(torch.stack([frames, redrawn]), "R B H W -> (R H) (B W)").cpu().numpy()


def dream_strip(model: WorldActionModel, tokenizer: Tokenizer, batch: Batch, row: int) -> NDArray[np.uint8]:
    """One segment as it was, above how the model imagines its second half under the same actions.

    Args:
        model: in evaluation mode.
        tokenizer: draws the frames of both rows, so that only the model's errors differ.
        batch: on the model's device.
        row: a row of the batch without padding, of L steps.

    Returns:
        uint8 [168, 84 L]; the lower row begins with the real frames that the model was shown.
    """
    tokens, actions = batch.tokens[row], batch.actions[row]
    steps = len(tokens)
    shown = max(1, steps // 2)
    blocks = torch.cat([tokens[:shown], actions[:shown, None]], dim=1)
    context = TokenContext(
        tokens=blocks.flatten()[None, :-1],
        length=torch.tensor([blocks.numel() - 1]),
        task_id=batch.task_id[row : row + 1],
        legal_mask=batch.legal_mask[row : row + 1],
    )
    planning_model = WorldActionPlanningModel(model)
    node = planning_model.root(context).node
    imagined = []
    for step in range(shown - 1, steps - 1):
        node = planning_model.step(node, actions[step : step + 1].cpu().numpy()).node
        imagined.append(planning_model.observation_tokens(node)[0])
    dreamt = torch.cat([tokens[:shown], torch.as_tensor(np.array(imagined), device=tokens.device)])
    both = torch.cat([tokens, dreamt])
    pictures = tokenizer.decode(both, batch.task_id[row].expand(len(both)))
    return rearrange(pictures, "(R L) H W -> (R H) (L W)", R=2).cpu().numpy()
