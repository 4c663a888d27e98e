"""The world-action model as planning runs it: packed weights, the parts that are needed, no dropout.

Letters: N layers, B rows of a prefix, T tokens of a prefix, R tokens fed at once, H heads, D width,
d width of a head, I inputs of a Q head, V observation vocabulary, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from world_model.packed_linear import PackedLinear, padded_rows
from world_model.transformer import Block, TransformerConfig
from world_model.tree_cache import Branch
from world_model.world_action_model import WorldActionModel


@dataclass(frozen=True)
class _Norm:
    """A layer normalisation's own tensors."""

    weight: Tensor
    bias: Tensor
    eps: float

    @staticmethod
    def of(norm: nn.LayerNorm) -> _Norm:
        return _Norm(norm.weight.detach(), norm.bias.detach(), norm.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class _Layer:
    """A block of the transformer; the projections to queries, keys and values are one."""

    attention_norm: _Norm
    qkv: PackedLinear
    output: PackedLinear
    mlp_norm: _Norm
    mlp_in: PackedLinear
    mlp_out: PackedLinear


@dataclass(frozen=True)
class Prefix:
    """What feeding contexts leaves behind."""

    keys: Float[Tensor, "N B H T d"]
    values: Float[Tensor, "N B H T d"]
    seen: Float[Tensor, "B I"]
    """What the Q heads see of each row's last frame."""


class DecodeEngine:
    """Runs a model on prefixes and on the branches of a `TreeCache`.

    The weights are copied: an engine does not follow later changes of its model. The residual stream,
    the normalisations and the softmax are in float32 whatever type the products are computed in.
    """

    def __init__(self, model: WorldActionModel, dtype: torch.dtype = torch.float32) -> None:
        """Pack the weights of a model.

        Args:
            model: in evaluation mode.
            dtype: of weights, keys, values and products: float32 or bfloat16.
        """
        config = model.config
        self.dtype = dtype
        self.device = model.position_embedding.weight.device
        self.heads = config.transformer.heads
        self._frame_tokens = config.tokens_per_frame
        self._read_tokens = config.tokens_per_frame if config.q_head.reads == "frame" else 1
        self._layers = [_pack_block(cast(Block, block), dtype) for block in model.transformer.blocks]
        # The last layer's keys and values are all that a prefix needs of most of its tokens.
        attention = cast(Block, model.transformer.blocks[-1]).attention
        self._last_query = _pack([_scaled(attention.query, config.transformer.head_width)], dtype)
        self._last_key_value = _pack([_tensors(attention.key), _tensors(attention.value)], dtype)
        self._final_norm = _Norm.of(model.transformer.final_norm)
        self._head_observations = _pack_classifier(model.head_observations, dtype)
        self._head_rewards = _pack_classifier(model.head_rewards, dtype)
        self._head_ends = _pack_classifier(model.head_ends, dtype)
        self._model = model
        # Actions follow the observations in one table each, so that one lookup serves both.
        self._token_table = _joined(model.observation_embedding, model.action_embedding)
        self._first_action = config.vocab_size
        self._task_table: Tensor | None = None
        if config.use_task_embedding:
            self._task_table = _joined(model.observation_task_embedding, model.action_task_embedding)
        self._first_action_task = config.num_tasks
        self._position_table = model.position_embedding.weight.detach()
        self.fixed_rows = fixed_rows(model.config.transformer, self.device, dtype)

    def prefill(
        self, tokens: Int[Tensor, "B T"], length: Int[Tensor, " B"], task_id: Int[Tensor, " B"]
    ) -> Prefix:
        """Feed whole contexts from position 0 on; what stands behind a row's `length` is not read."""
        batch, longest = tokens.shape
        position = torch.arange(longest, device=self.device).repeat(batch)
        is_action = position % (self._frame_tokens + 1) == self._frame_tokens
        x = self._embed(tokens.reshape(-1), is_action, position, task_id.repeat_interleave(longest))
        # Of the last layer's hidden states only those that the Q heads read are made.
        place = length[:, None] + torch.arange(-self._read_tokens, 0, device=self.device)
        read = (torch.arange(batch, device=self.device)[:, None] * longest + place).flatten()
        keys, values = [], []
        for layer in self._layers[:-1]:
            qkv = layer.qkv(layer.attention_norm(x))
            query, key, value = rearrange(
                qkv, "(B T) (three H d) -> three B H T d", B=batch, three=3, H=self.heads
            )
            keys.append(key)
            values.append(value)
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
            x = _add(layer, x, rearrange(attended, "B H T d -> (B T) (H d)"))
        layer = self._layers[-1]
        normed = layer.attention_norm(x)
        key, value = rearrange(
            self._last_key_value(normed), "(B T) (two H d) -> two B H T d", B=batch, two=2, H=self.heads
        )
        keys.append(key)
        values.append(value)
        query = rearrange(self._last_query(normed[read]), "(B c) (H d) -> B H c d", B=batch, H=self.heads)
        before = (torch.arange(longest, device=self.device) <= place[..., None])[:, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=before, scale=1.0)
        x = self._final_norm(_add(layer, x[read], rearrange(attended, "B H c d -> (B c) (H d)")))
        seen = self.seen_by_q(rearrange(x, "(B c) D -> B c D", B=batch))
        return Prefix(torch.stack(keys), torch.stack(values), seen)

    def extend(
        self,
        tokens: Int[Tensor, " R"],
        is_action: Bool[Tensor, " R"],
        position: Int[Tensor, " R"],
        task_id: Int[Tensor, " R"],
        branch: Branch,
    ) -> Float[Tensor, "R D"]:
        """Feed the tokens that `branch.feed` announced, and return their hidden states."""
        rows = len(tokens)
        # Rows that only fill up; the layers would have to add them one by one otherwise.
        filling = padded_rows(rows) - rows
        fed = (F.pad(row, (0, filling)) for row in (tokens, is_action, position, task_id))
        x = self._embed(*fed)
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.attention_norm(x))
            attended = branch.attend(number, qkv[:rows].view(rows, 3, self.heads, -1))
            x = _add(layer, x, F.pad(attended, (0, 0, 0, filling)))
        return self._final_norm(x[:rows])

    def observation_logits(self, hidden: Float[Tensor, "R D"]) -> Float[Tensor, "R V"]:
        """Logits of the token that follows."""
        return self._head_observations[1](self._head_observations[0](hidden))

    def reward_logits(self, hidden: Float[Tensor, "R D"]) -> Float[Tensor, "R 3"]:
        """Logits of the classes -1, 0, 1 of the reward's sign, at action tokens."""
        return self._head_rewards[1](self._head_rewards[0](hidden))

    def end_logits(self, hidden: Float[Tensor, "R D"]) -> Float[Tensor, "R 2"]:
        """Logits of going on and ending, at action tokens."""
        return self._head_ends[1](self._head_ends[0](hidden))

    def seen_by_q(self, frames: Float[Tensor, "R K D"]) -> Float[Tensor, "R I"]:
        """What the Q heads see of the hidden states of whole frames."""
        return self._model.config.q_head.of_frames(frames)

    def q_values(self, seen: Float[Tensor, "R I"]) -> Float[Tensor, "R A"]:
        """Value of each action by what the Q heads see of a frame; in float32 throughout."""
        return self._model.q_values(self._model.head_q(seen))

    def values(self, seen: Float[Tensor, "R I"]) -> Float[Tensor, " R"] | None:
        """Value of each state by the value head, in float32 throughout; None without one."""
        head = self._model.head_value
        return None if head is None else self._model.q_values(head(seen)).squeeze(-1)

    def _embed(self, tokens: Tensor, is_action: Tensor, position: Tensor, task_id: Tensor) -> Tensor:
        embedded = self._token_table[tokens + self._first_action * is_action] + self._position_table[position]
        if self._task_table is not None:
            embedded = embedded + self._task_table[task_id + self._first_action_task * is_action]
        return embedded


def fixed_rows(config: TransformerConfig, device: torch.device, dtype: torch.dtype) -> float:
    """What a pass costs whatever is fed, in units of one more token.

    Measured for the CPU path: a few rows' worth to read the weights, and about 0.4 ms a layer to
    start its operations, where a token takes 2 operations a weight at 100 GFLOP/s, or 200 in bfloat16.
    On a GPU nearly all of a small pass is fixed cost. It steers how much is guessed, not what comes out.
    """
    if device.type != "cpu":
        return 2000.0
    weights = 12 * config.layers * config.width**2
    rows = 5.0 + 2e7 * config.layers / weights
    return 2 * rows if dtype == torch.bfloat16 else rows


def _pack_block(block: Block, dtype: torch.dtype) -> _Layer:
    attention, mlp_in, mlp_out = block.attention, cast(nn.Linear, block.mlp[0]), cast(nn.Linear, block.mlp[2])
    head_width = attention.query.out_features // attention.heads
    projections = [_scaled(attention.query, head_width), _tensors(attention.key), _tensors(attention.value)]
    return _Layer(
        attention_norm=_Norm.of(block.attention_norm),
        qkv=_pack(projections, dtype),
        output=_pack([_tensors(attention.output)], dtype),
        mlp_norm=_Norm.of(block.mlp_norm),
        mlp_in=PackedLinear(mlp_in.weight.to(dtype), mlp_in.bias.to(dtype), "gelu"),
        mlp_out=_pack([_tensors(mlp_out)], dtype),
    )


def _pack_classifier(head: nn.Sequential, dtype: torch.dtype) -> tuple[PackedLinear, PackedLinear]:
    first, second = cast(nn.Linear, head[0]), cast(nn.Linear, head[2])
    return PackedLinear(first.weight.to(dtype), first.bias.to(dtype), "relu"), _pack(
        [_tensors(second)], dtype
    )


def _tensors(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    return linear.weight.detach(), linear.bias.detach()


def _scaled(query: nn.Linear, head_width: int) -> tuple[Tensor, Tensor]:
    """A projection to queries that are divided by the root of the head's width already."""
    return query.weight.detach() * head_width**-0.5, query.bias.detach() * head_width**-0.5


def _pack(layers: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> PackedLinear:
    """Several projections of the same input as one."""
    weights, biases = zip(*layers, strict=True)
    return PackedLinear(torch.cat(weights).to(dtype), torch.cat(biases).to(dtype))


def _joined(first: nn.Embedding, second: nn.Embedding) -> Tensor:
    return torch.cat([first.weight.detach(), second.weight.detach()])


def _add(layer: _Layer, x: Tensor, attended: Tensor) -> Tensor:
    """What a block adds to the residual stream after its attention."""
    x = x + layer.output(attended)
    return x + layer.mlp_out(layer.mlp_in(layer.mlp_norm(x)))
