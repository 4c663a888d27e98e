"""The published way of executing the beam search, in plain PyTorch: what the benchmarks compare with.

It computes what `planning.beam.beam_search` does with `published_semantics`, and spends what the
published program was measured to spend: every node has a copy of its parent's whole cache, queries,
keys and values are projected one by one, every head is evaluated at every token (the target Q head
included), tokens are fed one at a time (the nodes of a depth in one batch), and every imagined frame
is decoded into pixels. Written from a description of that search and a profile of its cost (40M, width 2,
horizon 2: transformer 52%, frames 27%, heads 14%, prefill 5%, copies of caches 3%); it is not that program.

Letters: M nodes of a depth, K tokens a frame, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from world_model.kv_cache import KVCache
from world_model.planning_model import TokenContext
from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel


@dataclass(frozen=True)
class PlainSearch:
    """One decision."""

    action: int
    scores: np.ndarray
    """Scores of all nodes after the root, in the order of making."""
    frames: np.ndarray
    """Their imagined tokens, [nodes K]."""
    cache_bytes: int
    """Size of one node's cache."""


@torch.inference_mode()
def plain_beam_search(
    model: WorldActionModel,
    tokenizer: Tokenizer,
    context: TokenContext,
    *,
    beam_width: int,
    horizon: int,
    discount: float = 0.99,
) -> PlainSearch:
    """Plan one decision: `context` has one row, all of whose tokens are in use."""
    legal = context.legal_mask[0]
    branching = min(int(legal.sum()), beam_width)
    cache = model.new_cache(1)
    hidden = _feed_all_heads(model, context.tokens, context.task_id, cache)
    q_value = _q_values(model, hidden[:, -1], legal)
    first_action = torch.zeros(0, dtype=torch.long)
    path_reward = torch.zeros(1)
    scores, frames = [], []
    for depth in range(1, horizon + 1):
        action = q_value.topk(branching).indices.reshape(-1)
        parent = torch.arange(len(q_value), device=action.device).repeat_interleave(branching)
        cache = _copies(cache, parent)
        task_id = context.task_id.expand(len(action))
        hidden = _feed_all_heads(model, action[:, None], task_id, cache)[:, -1]
        reward = (model.head_rewards(hidden).argmax(-1) - 1).float().cpu()
        frame = []
        for _ in range(model.config.tokens_per_frame):
            token = model.head_observations(hidden).argmax(-1, keepdim=True)
            frame.append(token)
            hidden = _feed_all_heads(model, token, task_id, cache)[:, -1]
        tokens = torch.cat(frame, dim=1)
        tokenizer.decode(tokens, task_id)
        q_value = _q_values(model, hidden, legal)
        parent = parent.cpu()
        path_reward = path_reward[parent] + discount ** (depth - 1) * reward
        first_action = action.cpu() if depth == 1 else first_action[parent]
        score = path_reward + discount**depth * q_value.max(-1).values.cpu()
        scores.append(score)
        frames.append(tokens.cpu())
        kept = score.argsort(descending=True, stable=True)[:beam_width]
        on_device = kept.to(action.device)
        cache, q_value = _copies(cache, on_device), q_value[on_device]
        path_reward, first_action = path_reward[kept], first_action[kept]
    return PlainSearch(
        action=int(first_action[0]),
        scores=torch.cat(scores).numpy(),
        frames=torch.cat(frames).numpy(),
        cache_bytes=2 * cache.keys[:, 0].numel() * cache.keys.element_size(),
    )


def _feed_all_heads(model: WorldActionModel, tokens: Tensor, task_id: Tensor, cache: KVCache) -> Tensor:
    """Hidden states of the tokens; the outputs of the heads are left lying."""
    hidden = model.hidden(tokens, task_id, cache)
    for head in (model.head_observations, model.head_rewards, model.head_ends):
        head(hidden)
    model.head_q(hidden)
    model.head_q_target(hidden)
    return hidden


def _q_values(model: WorldActionModel, hidden: Tensor, legal: Tensor) -> Tensor:
    q_value = model.q_values(model.head_q(hidden))
    return q_value.masked_fill(~legal.to(q_value.device), -torch.inf)


def _copies(cache: KVCache, rows: Tensor) -> KVCache:
    """A cache of its own for each of these rows."""
    layers, _, heads, capacity, head_width = cache.keys.shape
    copied = KVCache(
        layers=layers,
        rows=len(rows),
        heads=heads,
        head_width=head_width,
        capacity=capacity,
        device=cache.keys.device,
        dtype=cache.keys.dtype,
    )
    copied.keys[:], copied.values[:] = cache.keys[:, rows], cache.values[:, rows]
    copied.length = cache.length
    return copied
