"""Keys and values of search trees: what nodes have in common is stored, and attended to, in one place.

Letters: N layers, B roots, M new nodes, W most new nodes of one root, G = B W cells of the grid of
new nodes, H heads, P tokens of the longest context, S tokens of a path below its root, L most new
tokens of one node, R new tokens altogether, d width of a head, D = H d.

A root owns its context; every other node owns the block of tokens that leads to it. The tokens
before a node are found through its ancestors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

NO_BLOCK = -1


@dataclass(frozen=True)
class _Groups:
    """The new tokens of a pass, sorted into groups of equal width; holes fill what is missing."""

    count: int
    width: int
    cells: Tensor | None  # [R] group times width, plus place in it; None if there are no holes

    @staticmethod
    def of(count: int, group: np.ndarray, place: np.ndarray, width: int, device: torch.device) -> _Groups:
        cells = group * width + place
        if np.array_equal(cells, np.arange(count * width)):
            return _Groups(count, width, None)
        return _Groups(count, width, torch.from_numpy(cells).to(device))

    def sorted(self, rows: Tensor) -> Tensor:
        """[R H x] to [count H width x]; holes are 0."""
        if self.cells is not None:
            grid = rows.new_zeros(self.count * self.width, *rows.shape[1:])
            grid[self.cells] = rows
            rows = grid
        return rows.unflatten(0, (self.count, self.width)).transpose(1, 2)

    def rows(self, groups: Tensor) -> Tensor:
        """[count H width x] to [R H x]."""
        rows = groups.transpose(1, 2).flatten(0, 1)
        return rows if self.cells is None else rows[self.cells]


@dataclass(frozen=True)
class _Feed:
    """Where the tokens of one pass belong."""

    by_root: _Groups
    by_node: _Groups  # groups are the cells of the grid
    start: int  # first place written to, for all nodes; where `places` is None
    end: int  # places of the paths that are in use after the pass
    places: Tensor | None  # [G L] places written to; one behind the last for holes
    bias: Tensor | None  # [G 1 L end] 0 where a token sees, -inf elsewhere; None where it sees all


class Branch:
    """New nodes while the tokens of their blocks are fed, any number of each at a time.

    Each new token sees its root's context, the blocks of its ancestors and its own block up to
    itself. The nodes stand in a grid of B roots by W nodes, so that scores over the context are one
    product for all nodes of a root and the context is never copied; one softmax runs over context
    and path, which makes the result that of ordinary attention. Grid cells without a node are holes.
    """

    def __init__(self, tree: TreeCache, parent: Int[np.ndarray, " M"]) -> None:
        self.parent = parent
        self._tree = tree
        self._root = tree.root[parent]
        width = int(np.bincount(self._root).max())
        self._cell = self._root * width + _rank_in_group(self._root)
        self._cells = tree.num_roots * width

        ancestors = np.full((self._cells, int(tree.depth[parent].max())), NO_BLOCK)
        ancestors[self._cell] = tree.ancestors(parent)
        self._above = ancestors.shape[1] * tree.block_tokens
        blocks = torch.from_numpy(ancestors.clip(min=0)).to(tree.device)
        # One place behind the block takes in what holes of a pass write.
        self.keys = _paths(tree.block_keys, blocks, tree.block_tokens + 1)
        self.values = _paths(tree.block_values, blocks, tree.block_tokens + 1)
        absent = (ancestors == NO_BLOCK).repeat(tree.block_tokens, axis=1)
        own = np.zeros((self._cells, tree.block_tokens), dtype=bool)
        self._absent = np.concatenate([absent, own], axis=1)

    def feed(self, start: Int[np.ndarray, " M"], count: Int[np.ndarray, " M"]) -> None:
        """Announce the tokens that `attend` gets next: node after node, each in order.

        Args:
            start: places in their blocks at which the nodes' new tokens begin.
            count: number of new tokens of each node; may be 0.
        """
        device, width = self._tree.device, int(count.max())
        place = np.zeros(self._cells, dtype=np.int64)
        place[self._cell] = start
        place = self._above + place[:, None] + np.arange(width)
        end = int(self._above + (start + count).max())

        node = np.repeat(np.arange(len(count)), count)
        rank = np.arange(len(node)) - (np.cumsum(count) - count)[node]
        by_node = _Groups.of(self._cells, self._cell[node], rank, width, device)
        root = self._root[node]
        widest = int(np.bincount(root).max())
        by_root = _Groups.of(self._tree.num_roots, root, _rank_in_group(root), widest, device)

        places = bias = None
        is_even = by_node.cells is None and bool((start == start[0]).all())
        if not is_even:
            is_fed = np.zeros((self._cells, width), dtype=bool)
            is_fed[self._cell[node], rank] = True
            hole = self.keys.shape[3] - 1
            places = torch.from_numpy(np.where(is_fed, place, hole)).to(device)
        if width > 1 or not is_even or self._absent.any():
            hidden = (np.arange(end) > place[..., None]) | self._absent[:, None, :end]
            bias = _bias(torch.from_numpy(hidden).to(device), self.keys.dtype)[:, None]
        self._fed = _Feed(by_root, by_node, self._above + int(start[0]), end, places, bias)

    def attend(self, layer: int, qkv: Float[Tensor, "R 3 H d"]) -> Float[Tensor, "R D"]:
        """Store the announced tokens' keys and values, and attend to all that each of them sees.

        Queries are expected to be scaled already.
        """
        fed, tree = self._fed, self._tree
        query, key, value = qkv.unbind(1)
        self._store(self.keys[layer], fed.by_node.sorted(key))
        self._store(self.values[layer], fed.by_node.sorted(value))
        keys, values = self.keys[layer, :, :, : fed.end], self.values[layer, :, :, : fed.end]

        context_scores = fed.by_root.sorted(query) @ tree.context_keys[layer].mT
        if tree.context_bias is not None:
            context_scores = context_scores + tree.context_bias
        path_scores = fed.by_node.sorted(query) @ keys.mT
        if fed.bias is not None:
            path_scores = path_scores + fed.bias
        scores = torch.cat([fed.by_root.rows(context_scores), fed.by_node.rows(path_scores)], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        on_context, on_path = weights.split([context_scores.shape[-1], fed.end], dim=-1)
        attended = fed.by_root.rows(fed.by_root.sorted(on_context) @ tree.context_values[layer])
        return (attended + fed.by_node.rows(fed.by_node.sorted(on_path) @ values)).flatten(1)

    def _store(self, kept: Tensor, new: Tensor) -> None:
        """Write [G H L d] to its places of [G H S d]."""
        fed = self._fed
        if fed.places is None:
            kept[:, :, fed.start : fed.end] = new
        else:
            kept.scatter_(2, fed.places[:, None, :, None].expand_as(new), new)

    def blocks(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the nodes' own blocks, complete or not: [N M H K+1 d]."""
        cell = torch.from_numpy(self._cell).to(self._tree.device)
        return self.keys[:, cell, :, self._above : -1], self.values[:, cell, :, self._above : -1]


class TreeCache:
    """Keys and values of all nodes of B search trees.

    Handles of nodes count from 0, the roots first. Attributes `parent`, `root` and `depth` hold one
    entry for each handle; a root is its own parent. A node takes the room of its own block of tokens.
    """

    def __init__(
        self,
        context_keys: Float[Tensor, "N B H P d"],
        context_values: Float[Tensor, "N B H P d"],
        context_length: Int[Tensor, " B"],
        block_tokens: int,
    ) -> None:
        """Plant one root for each row of a context, of which `context_length` tokens are real."""
        self.context_keys, self.context_values = context_keys, context_values
        self.context_length = context_length.cpu().numpy()
        self.block_tokens = block_tokens
        self.device = context_keys.device
        layers, roots, heads, longest, head_width = context_keys.shape
        hidden = torch.arange(longest) >= context_length.cpu()[:, None]
        # 0 where a context token is real and -inf behind it, [B 1 1 P]; None where all are real.
        self.context_bias = None
        if hidden.any():
            self.context_bias = _bias(hidden.to(self.device), context_keys.dtype)[:, None, None]
        self.num_roots = roots
        self.parent = np.arange(roots)
        self.root = np.arange(roots)
        self.depth = np.zeros(roots, dtype=np.int64)
        empty = context_keys.new_empty(layers, 1, heads, block_tokens, head_width)
        self.block_keys, self.block_values = empty, empty.clone()

    @property
    def num_nodes(self) -> int:
        """Nodes of all trees together."""
        return len(self.parent)

    @property
    def bytes_per_node(self) -> int:
        """Room that the keys and values of one node take."""
        return 2 * self.block_keys[:, 0].numel() * self.block_keys.element_size()

    def ancestors(self, nodes: Int[np.ndarray, " M"]) -> Int[np.ndarray, "M depth"]:
        """Blocks of the nodes and of all above them; NO_BLOCK where a path has fewer than the longest."""
        blocks, column = [], nodes
        for _ in range(int(self.depth[nodes].max())):
            blocks.append(np.maximum(column - self.num_roots, NO_BLOCK))
            column = self.parent[column]
        return np.array(blocks, dtype=np.int64).reshape(-1, len(nodes)).T

    def add(self, branch: Branch) -> Int[np.ndarray, " M"]:
        """Keep the nodes of a branch whose blocks are complete, and return their handles."""
        first = self.num_nodes - self.num_roots
        end = first + len(branch.parent)
        self.block_keys = _grown(self.block_keys, end)
        self.block_values = _grown(self.block_values, end)
        self.block_keys[:, first:end], self.block_values[:, first:end] = branch.blocks()
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


def _paths(blocks: Tensor, ancestors: Tensor, room: int) -> Tensor:
    """Blocks of the ancestors and room for more tokens: [N G H S d]."""
    above = rearrange(blocks[:, ancestors], "N G depth H t d -> N G H (depth t) d")
    return torch.nn.functional.pad(above, (0, 0, 0, room))


def _bias(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a token may be attended to and -inf where it is hidden."""
    return torch.zeros(hidden.shape, device=hidden.device, dtype=dtype).masked_fill(hidden, -torch.inf)


def _grown(blocks: Tensor, size: int) -> Tensor:
    """`blocks` with room for `size` of them; capacity doubles, so growing costs little on average."""
    if size <= blocks.shape[1]:
        return blocks
    layers, capacity, *rest = blocks.shape
    grown = blocks.new_empty(layers, max(size, 2 * capacity), *rest)
    grown[:, :capacity] = blocks
    return grown
