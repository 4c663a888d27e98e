"""Keys and values of search trees: what nodes have in common is stored, and attended to, in one place.

Letters: N layers, B roots, M new nodes, R roots that the new nodes belong to, W most new nodes of
one root, H heads, P tokens of the longest context, G generations above the new nodes, S tokens of a
path below its root, d width of a head.

A root owns its context; every other node owns the block of tokens that leads to it. The tokens
before a node are found through its ancestors.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from world_model.kv_cache import KVCache


class Branch:
    """New nodes while their blocks are fed, token by token: the `AttentionMemory` of a `TreeCache`.

    Each new token sees its root's context, the blocks of its ancestors and its own block so far.
    Scores over the context are one product for all nodes of a root, so the context is not copied;
    one softmax runs over both parts, which makes the result that of ordinary attention.
    """

    def __init__(self, tree: TreeCache, parent: Int[np.ndarray, " M"]) -> None:
        self.parent = parent
        device = tree.context.keys.device
        roots, group = np.unique(tree.root[parent], return_inverse=True)
        self._group = torch.from_numpy(group).to(device)
        self._rank = torch.from_numpy(_rank_in_group(group)).to(device)
        self._grouped_shape = (len(roots), int(np.bincount(group).max()))

        everyone = len(roots) == tree.num_roots
        present = slice(None) if everyone else torch.from_numpy(roots).to(device)
        self._context_keys = tree.context.keys[:, present]
        self._context_values = tree.context.values[:, present]
        position = torch.arange(tree.context.capacity, device=device)
        unused = position >= tree.context_length[present, None]
        self._context_bias = _bias(unused)[:, None, None]

        ancestors = torch.from_numpy(tree.ancestors(parent)).to(device)
        self.keys = self._path(tree.block_keys, ancestors, tree.block_tokens)
        self.values = self._path(tree.block_values, ancestors, tree.block_tokens)
        absent = (ancestors < 0).repeat_interleave(tree.block_tokens, dim=1)
        own = absent.new_zeros(len(parent), tree.block_tokens)
        self._path_bias = _bias(torch.cat([absent, own], dim=1))[:, None, None]
        self._length = absent.shape[1]

    @staticmethod
    def _path(blocks: Tensor, ancestors: Tensor, block_tokens: int) -> Tensor:
        """Blocks of the ancestors and room for one more: [N M H S d]."""
        above = rearrange(blocks[:, ancestors.clamp(min=0)], "N M G H t d -> N M H (G t) d")
        return torch.nn.functional.pad(above, (0, 0, 0, block_tokens))

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "M H 1 d"],
        key: Float[Tensor, "M H 1 d"],
        value: Float[Tensor, "M H 1 d"],
    ) -> Float[Tensor, "M H 1 d"]:
        """Store one new token per node and attend from it to everything before it."""
        end = self._length + 1
        self.keys[layer, :, :, self._length] = key[:, :, 0]
        self.values[layer, :, :, self._length] = value[:, :, 0]
        query = query * query.shape[-1] ** -0.5

        context_scores = self._ungrouped(
            self._grouped(query) @ self._context_keys[layer].mT + self._context_bias
        )
        path_scores = query @ self.keys[layer, :, :, :end].mT + self._path_bias[..., :end]
        scores = torch.cat([context_scores, path_scores], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        on_context, on_path = weights.split([context_scores.shape[-1], end], dim=-1)
        return (
            self._ungrouped(self._grouped(on_context) @ self._context_values[layer])
            + on_path @ self.values[layer, :, :, :end]
        )

    def advance(self, num_tokens: int) -> None:
        """Count the new token as fed."""
        self._length += num_tokens

    def _grouped(self, x: Tensor) -> Tensor:
        """[M H 1 x] to [R H W x]: nodes of one root side by side."""
        roots, width = self._grouped_shape
        grouped = x.new_zeros(roots, x.shape[1], width, x.shape[3])
        grouped[self._group, :, self._rank] = x[:, :, 0]
        return grouped

    def _ungrouped(self, grouped: Tensor) -> Tensor:
        """[R H W x] back to [M H 1 x]."""
        return grouped[self._group, :, self._rank][:, :, None]


class TreeCache:
    """Keys and values of all nodes of B search trees.

    Handles of nodes count from 0, the roots first. Attributes `parent`, `root` and `depth` hold one
    entry for each handle; a root is its own parent.
    """

    def __init__(self, context: KVCache, context_length: Int[Tensor, " B"], block_tokens: int) -> None:
        """Plant one root for each row of `context`, of which `context_length` tokens are real."""
        self.context = context
        self.context_length = context_length
        self.block_tokens = block_tokens
        self.num_roots = len(context_length)
        self.parent = np.arange(self.num_roots)
        self.root = np.arange(self.num_roots)
        self.depth = np.zeros(self.num_roots, dtype=np.int64)
        layers, _, heads, _, head_width = context.keys.shape
        empty = context.keys.new_empty(layers, 1, heads, block_tokens, head_width)
        self.block_keys, self.block_values = empty, empty.clone()

    @property
    def num_nodes(self) -> int:
        """Nodes of all trees together."""
        return len(self.parent)

    def ancestors(self, nodes: Int[np.ndarray, " M"]) -> Int[np.ndarray, "M G"]:
        """Blocks of the nodes and of all above them; -1 where a path has fewer than the longest."""
        blocks, column = [], nodes
        for _ in range(int(self.depth[nodes].max())):
            blocks.append(np.maximum(column - self.num_roots, -1))
            column = self.parent[column]
        return np.array(blocks, dtype=np.int64).reshape(-1, len(nodes)).T.copy()

    def add(self, branch: Branch) -> Int[np.ndarray, " M"]:
        """Keep the nodes of a branch whose blocks are complete, and return their handles."""
        first = self.num_nodes - self.num_roots
        end = first + len(branch.parent)
        self.block_keys = _grown(self.block_keys, end)
        self.block_values = _grown(self.block_values, end)
        self.block_keys[:, first:end] = branch.keys[..., -self.block_tokens :, :]
        self.block_values[:, first:end] = branch.values[..., -self.block_tokens :, :]
        self.parent = np.concatenate([self.parent, branch.parent])
        self.root = np.concatenate([self.root, self.root[branch.parent]])
        self.depth = np.concatenate([self.depth, self.depth[branch.parent] + 1])
        return np.arange(self.num_roots + first, self.num_roots + end)


def _rank_in_group(group: Int[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
    """How many earlier entries are in the same group."""
    order = np.argsort(group, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(group)) - np.searchsorted(group[order], group[order])
    return rank


def _bias(hidden: Tensor) -> Tensor:
    """0 where a token may be attended to and -inf where it is hidden."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, -torch.inf)


def _grown(blocks: Tensor, size: int) -> Tensor:
    """`blocks` with room for `size` of them; capacity doubles, so growing costs little on average."""
    if size <= blocks.shape[1]:
        return blocks
    layers, capacity, *rest = blocks.shape
    grown = blocks.new_empty(layers, max(size, 2 * capacity), *rest)
    grown[:, :capacity] = blocks
    return grown
