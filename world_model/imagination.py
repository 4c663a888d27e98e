"""Imagined segments for fine-tuning: real frames continued along the path that beam search prefers.

Letters: B segments, L steps of a segment, K tokens a frame, P = K + 1 tokens of a block, A actions,
R segments that can be continued, H imagined steps.

Method: Cheng et al. 2024, "Scaling Offline Model-Based RL via Jointly-Optimized World-Action Model
Pretraining" (arXiv 2410.00564).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datasets.errors import UserError
from datasets.segments import Batch
from planning.base import SearchResult, best_path
from planning.beam import beam_search
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.world_action_model import WorldActionModel


@dataclass(frozen=True)
class ImaginationConfig:
    """Which segments are continued, and how."""

    share: float = 0.0
    """Share of a step's segments that are continued, as far as they have enough real steps; 0 for none."""
    after: float = 0.4
    """Share of the joint phase that is over before that begins: a model must know a game to imagine it."""
    beam_width: int = 2
    """Paths that the beam search keeps, and actions it tries per state."""
    horizon: int = 2
    """Steps imagined behind the real ones of a segment."""

    def __post_init__(self) -> None:
        for name in ("beam_width", "horizon"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("share", "after"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")


@dataclass(frozen=True)
class _Future:
    """The best path of each of R searches; behind a predicted end its last step is repeated."""

    steps: Int[np.ndarray, "R"]  # transitions: H, or fewer where an end is predicted
    is_end: Bool[np.ndarray, "R"]  # the last of them ends the episode
    actions: Int[np.ndarray, "R H"]
    rewards: Float[np.ndarray, "R H"]
    frames: Int[np.ndarray, "R H K"]
    last_action: Int[np.ndarray, "R"]  # best legal action by Q in the state reached
    last_value: Float[np.ndarray, "R"]  # value of the state reached; 0 behind an end


def imagine(
    model: WorldActionModel,
    batch: Batch,
    config: ImaginationConfig,
    *,
    discount: float,
    published_semantics: bool = False,
) -> Batch | None:
    """Continue real segments in the world model, for the Q head to learn from.

    A segment can be continued if its last L - H steps are real. These become the first of the imagined
    segment; from the last of their frames on, the actions, rewards, ends and frames are those of the
    best path of a beam search. The state reached last stands for a bootstrap: it carries its own best
    action by Q and no reward. Steps behind a predicted end are padding. `returns` are the rewards of
    the segment closed by the model's value of the state reached.

    With `published_semantics` the published program's flaws are reproduced: the real steps carry the
    actions and rewards of the step after each, the last step repeats those of the one before it, and
    predicted ends are not read.

    Args:
        model: evaluated without dropout; its mode is as before afterwards.
        batch: real segments; rows that cannot be continued are passed over.
        config: the search.
        discount: factor on the future at each step, above 0.
        published_semantics: reproduce the published program.

    Returns:
        The imagined segments in the order of their rows, or None if no row can be continued.

    Raises:
        UserError: the horizon leaves no real step, or the discount is 0.
    """
    num_real = batch.mask.shape[1] - config.horizon
    if num_real < 1:
        raise UserError(
            f"horizon is {config.horizon}; it must be below the segment length {batch.mask.shape[1]}"
        )
    if not 0.0 < discount <= 1.0:
        raise UserError(f"discount is {discount}; imagination needs it above 0 and at most 1")
    usable = batch.mask[:, -num_real:].all(dim=1)
    if not usable.any():
        return None
    real = Batch(*(getattr(batch, field.name)[usable] for field in fields(Batch)))
    # Searching takes the likeliest token at each step; in bfloat16 that could be another one.
    with _evaluating(model), torch.autocast(batch.tokens.device.type, enabled=False):
        planning_model = WorldActionPlanningModel(
            model, discount=discount, published_semantics=published_semantics
        )
        result = beam_search(
            planning_model, _context(real, num_real), beam_width=config.beam_width, horizon=config.horizon
        )
        future = _best_future(planning_model, result, config.horizon)
    return _joined(real, future, discount, published_semantics)


@contextmanager
def _evaluating(model: WorldActionModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _context(batch: Batch, num_real: int) -> TokenContext:
    """The last `num_real` steps of each segment, without the last action."""
    blocks = torch.cat([batch.tokens, batch.actions.unsqueeze(-1)], dim=-1)[:, -num_real:]
    tokens = rearrange(blocks, "R L P -> R (L P)")[:, :-1]
    return TokenContext(
        tokens=tokens,
        length=torch.full((len(tokens),), tokens.shape[1]),
        task_id=batch.task_id,
        legal_mask=batch.legal_mask,
    )


def _best_future(planning_model: WorldActionPlanningModel, result: SearchResult, horizon: int) -> _Future:
    tree, row = result.tree, np.arange(len(result.action))
    paths = [best_path(result, int(i))[1][1:] for i in row]
    nodes = np.stack([np.pad(path, (0, horizon - len(path)), mode="edge") for path in paths])
    last = nodes[:, -1]
    is_end = tree.discount[row, last] == 0
    frames = planning_model.observation_tokens(tree.node[row[:, None], nodes].ravel())
    return _Future(
        steps=np.array([len(path) for path in paths]),
        is_end=is_end,
        actions=tree.action[row[:, None], nodes],
        rewards=tree.reward[row[:, None], nodes],
        frames=rearrange(frames, "(R H) K -> R H K", H=horizon),
        last_action=tree.q_value[row, last].argmax(axis=-1),
        last_value=np.where(is_end, 0.0, tree.value[row, last]),
    )


def _joined(real: Batch, future: _Future, discount: float, published_semantics: bool) -> Batch:
    """Real steps, imagined steps and the state reached, as segments of the old length."""

    def like(values: np.ndarray, old: Tensor) -> Tensor:
        return torch.from_numpy(values).to(old.device, old.dtype)

    length = real.mask.shape[1]
    horizon = future.actions.shape[1]
    # The planned actions begin at the last real frame, so that frame's own action makes way for them.
    kept = slice(horizon + 1, None) if published_semantics else slice(horizon, -1)
    actions, rewards = like(future.actions, real.actions), like(future.rewards, real.rewards)
    last_action, last_reward = like(future.last_action, actions)[:, None], torch.zeros_like(rewards[:, :1])
    if published_semantics:
        last_action, last_reward = actions[:, -1:], rewards[:, -1:]
    # Transitions count up to the state reached, or up to the one that ends the episode.
    num_steps = length - horizon - 1 + like(future.steps, actions)[:, None]
    is_end = like(future.is_end, real.mask)[:, None]
    step = torch.arange(length, device=real.mask.device)
    mask = (step < num_steps) | ~is_end
    ends = ((step == num_steps - 1) & is_end).to(real.ends.dtype)
    rewards = torch.cat([real.rewards[:, kept], rewards, last_reward], dim=1) * mask
    returns = _closed_returns(rewards, ends, like(future.last_value, rewards), discount) * mask
    return Batch(
        tokens=torch.cat([real.tokens[:, horizon:], like(future.frames, real.tokens)], dim=1)
        * mask[..., None],
        actions=torch.cat([real.actions[:, kept], actions, last_action], dim=1) * mask,
        rewards=rewards,
        ends=ends,
        returns=returns,
        value_returns=returns,  # of no use: the value head learns from real play alone
        mask=mask,
        task_id=real.task_id,
        legal_mask=real.legal_mask,
    )


def _closed_returns(
    rewards: Float[Tensor, "R L"], ends: Int[Tensor, "R L"], last_value: Float[Tensor, "R"], discount: float
) -> Float[Tensor, "R L"]:
    """Discounted return-to-go, with the value of the state reached in place of the last step's reward."""
    returns = [last_value]
    for t in range(rewards.shape[1] - 2, -1, -1):
        returns.append(rewards[:, t] + discount * (1 - ends[:, t]) * returns[-1])
    return torch.stack(returns[::-1], dim=1)
