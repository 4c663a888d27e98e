"""From the kernels' records to the arrays that a reader of a tree wants.

Letters: B roots, M rows of a tree, A actions. See `layout` for the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from planning import kernels
from planning.base import NO_NODE, SearchTree
from planning.compiled import HAS_NUMBA
from planning.layout import (
    ACTION,
    DEPTH,
    DISCOUNT,
    KIND,
    MEAN,
    NEXT_ROW,
    NO_ROW,
    PARENT,
    RAW,
    REWARD,
    STATE,
    VISITS,
    Buffers,
)
from planning.plain.choose import Edges
from planning.plain.choose import unpack as unpack_plainly


@dataclass(frozen=True)
class GrownTrees:
    """The trees of a finished search, unpacked when somebody asks for them."""

    buffers: Buffers

    @property
    def tree(self) -> SearchTree:
        """The trees as a table of nodes."""
        return self._unpacked

    @cached_property
    def _unpacked(self) -> SearchTree:
        buffers, batch = self.buffers, len(self.buffers.work)
        size = len(buffers.floats) // batch
        rows = np.arange(batch * size)
        used = rows < np.repeat(buffers.state[NEXT_ROW], size)
        # A row that its simulation did not need is marked by the search, one behind its end is not.
        used[used] = buffers.ints[used, STATE] != NO_ROW
        first = rows // size * size

        def header(column: int) -> np.ndarray:
            return np.where(used, buffers.ints[:, column], 0).reshape(batch, size)

        def link(column: int) -> np.ndarray:
            links = np.where(used, buffers.ints[:, column], NO_ROW)
            return np.where(links == NO_ROW, NO_NODE, links - first).reshape(batch, size)

        def number(column: int) -> np.ndarray:
            return np.where(used, buffers.floats[:, column], 0).reshape(batch, size)

        edges = self._edges(np.flatnonzero(used), size)
        is_visited = edges.child != NO_ROW
        child = np.where(is_visited, edges.child - first[:, None], NO_NODE)
        return SearchTree(
            num_nodes=buffers.state[NEXT_ROW] - buffers.root_rows,
            parent=link(PARENT),
            action=np.where(used, buffers.ints[:, ACTION], NO_NODE).reshape(batch, size),
            depth=header(DEPTH),
            node=np.where(used, buffers.handles, NO_NODE).reshape(batch, size),
            reward=number(REWARD),
            discount=number(DISCOUNT),
            value=number(RAW),
            score=number(MEAN),
            q_value=edges.q_value.reshape(batch, size, -1),
            visits=header(VISITS),
            state=link(STATE),
            kind=header(KIND),
            prior=edges.prior.reshape(batch, size, -1),
            edge_visits=edges.visits.reshape(batch, size, -1),
            children=child.reshape(batch, size, -1),
        )

    def _edges(self, used: Int[np.ndarray, " U"], size: int) -> Edges:
        """The actions of all rows; nothing where a row is empty."""
        buffers = self.buffers
        every = (len(buffers.floats), buffers.num_actions)
        found = unpack(buffers, used, used // size)
        out = Edges(
            prior=np.zeros(every, dtype=buffers.floats.dtype),
            q_value=np.zeros(every, dtype=buffers.floats.dtype),
            visits=np.zeros(every, dtype=np.int64),
            child=np.full(every, NO_ROW, dtype=np.int64),
            slot=np.zeros(every, dtype=np.int64),
        )
        for whole, part in zip(out, found, strict=True):
            whole[used] = part
        return out


def unpack(buffers: Buffers, rows: Int[np.ndarray, " R"], trees: Int[np.ndarray, " R"]) -> Edges:
    """The actions of R states, one in each of the trees named."""
    if not HAS_NUMBA:
        return unpack_plainly(buffers.floats, buffers.ints, rows, trees, buffers.work)
    shape, kind = (len(rows), buffers.num_actions), buffers.floats.dtype
    edges = Edges(*(np.empty(shape, kind) for _ in range(2)), *(np.empty(shape, np.int64) for _ in range(3)))
    kernels.unpack_into(buffers.floats, buffers.ints, rows, trees, buffers.work, *edges)
    return edges
