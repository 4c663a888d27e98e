"""Beam search through a planning model, for a whole batch of roots at once.

Letters: B roots, M nodes, C candidates for a depth.

Method: Cheng et al. 2024, "Scaling Offline Model-Based RL via Jointly-Optimized World-Action Model
Pretraining" (arXiv 2410.00564), with one correction: a transition of discount 0 ends its path. The
published search reads no predicted end; a model that never answers discount 0 reproduces it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from planning.base import SearchResult, Tree
from planning.frontier import (
    Nodes,
    best_of_each_root,
    children_of,
    conclude,
    expand,
    joined,
    rank_in_root,
    root_nodes,
)
from planning.model import BoundedModel, PlanningError, PlanningModel


@dataclass(frozen=True)
class BeamLimits:
    """What a search may cost, and where it is worth its cost; the defaults set no limit."""

    nodes: int | None = None
    """Nodes that each root may have made below it."""
    seconds: float | None = None
    """Time that one call may take for all its roots. No depth is begun that would not be over in time,
    going by the cost of a node so far; the roots are always evaluated."""
    confident_gap: float | None = None
    """Roots whose best legal action leads the second best by so much Q, or more, are not searched."""

    def __post_init__(self) -> None:
        for name in ("nodes", "seconds", "confident_gap"):
            setting = getattr(self, name)
            if setting is not None and not setting >= 0:
                raise PlanningError(f"{name} is {setting}; it must be 0 or more")


def beam_search(
    model: PlanningModel,
    observation: Any,
    *,
    beam_width: int,
    horizon: int,
    trace_decay: float = 1.0,
    limits: BeamLimits | None = None,
) -> SearchResult[Tree]:
    """Plan by expanding the most promising actions of the most promising paths.

    At each depth every kept node tries its min(#legal, `beam_width`) best legal actions by Q, in
    descending order, all roots in one call of the model. A node's score is the return of its path,
    `sum_i (prod_{j<i} discount_j) reward_i + (prod_j discount_j) value`. Each root then keeps the
    `beam_width` best nodes of this depth, the earlier made first where scores are equal. A node
    that has ended, or has no legal action, is not expanded; it stays a candidate with the score it
    has. The action chosen is the first action of the best node kept last.

    Where limits stop the search, the answer is that of the depth reached. A depth that a root cannot
    afford in full is made as far as its nodes go, the best paths first; kept nodes none of whose
    actions is tried any more stay candidates.

    Two things spare work and leave the chosen action as it is. Equal states are stepped by an action
    once (`frontier.expand`). And if the model knows bounds of its returns (`BoundedModel`), actions
    that cannot lead into the beam are not tried: a candidate's score lies between its path's reward
    plus the path's discount times either bound, so where `beam_width` candidates of a root score at
    least x, one that scores below x is not among the kept. With ties it might be, so it is dropped
    only where it is strictly below. The kept nodes are those of the whole search, and their order of
    making too, so everything chosen from them is the same; dropped nodes are missing in the tree.

    With a `trace_decay` l below 1 the score of a path is a mixture of all estimates made along it, as in
    TD(lambda) (Sutton and Barto 2018, chapter 12): with E_d the return of its first d steps closed by the Q
    of the next, and E_h that of all h steps closed by the value, it is `(1-l) sum_{d<h} l^d E_d + l^h E_h`.
    A model that errs more with every imagined step is trusted less with every step; at 0 the Q at the root
    decides alone.

    In the result, `root_q_value` is the best score among the latest candidates that begin with an
    action, or the model's Q where no path begins with it. `action_weights` is 1 at the action.

    Args:
        model: what to plan in.
        observation: B observations, passed on to `model.root`.
        beam_width: paths to keep per root, and actions to try per node; at least 1.
        horizon: steps to look ahead; 0 chooses the legal action of highest Q.
        trace_decay: weight of what is seen a step later against what is seen before; 1 counts the last alone.
        limits: what the search may cost.

    Returns:
        The decision and the searched nodes for each root.

    Raises:
        PlanningError: for a width below 1, a negative horizon, a trace decay outside [0, 1], a root without
            legal action, or a model that answers with NaN, with another number of rows than asked, or with
            a discount outside [0, 1].
    """
    if beam_width < 1:
        raise PlanningError(f"beam_width is {beam_width}; it must be at least 1")
    if horizon < 0:
        raise PlanningError(f"horizon is {horizon}; it must be 0 or more")
    if not 0.0 <= trace_decay <= 1.0:
        raise PlanningError(f"trace_decay is {trace_decay}; it must lie between 0 and 1")
    limits = limits or BeamLimits()
    clock = _Clock(limits.seconds)
    roots = root_nodes(model, observation)
    is_searched = ~_confident(roots, limits.confident_gap)
    generations, kept, num_nodes = [roots], roots, np.ones(len(roots.root), dtype=np.int64)
    for _ in range(horizon):
        parents = kept.take(kept.open() & is_searched[kept.root])
        source, action = children_of(parents, beam_width)
        is_affordable = _affordable(parents.root[source], num_nodes, limits.nodes)
        source, action = parents.take(source[is_affordable]), action[is_affordable]
        staying = kept.take(~_is_among(kept, source))
        # The bounds are those of scores that only the last estimate makes.
        is_tried = np.ones(len(action), dtype=bool)
        if trace_decay == 1.0:
            is_tried = _can_be_kept(model, staying, source, beam_width)
        source, action = source.take(is_tried), action[is_tried]
        if len(staying.root) == len(kept.root) or not clock.has_time_for(len(action)):
            break
        kept = staying
        if len(action):
            children = expand(model, source, action, num_nodes, trace_decay)
            clock.count(len(action))
            num_nodes = num_nodes + np.bincount(children.root, minlength=len(num_nodes))
            generations.append(children)
            kept = best_of_each_root(joined([staying, children]), beam_width)
    nodes = joined(generations)
    below = nodes.take(nodes.depth > 0)
    # The best of the deepest comes last, and so stands for its first action.
    judged = below.take(np.lexsort((below.score, below.depth)))
    return conclude(nodes, best_of_each_root(kept, 1), judged)


class _Clock:
    """Tells whether there is time for more nodes; without a limit there always is."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._started = self._asked = time.perf_counter()
        self._node_seconds = 0.0

    def has_time_for(self, nodes: int) -> bool:
        self._asked = time.perf_counter()
        if self._seconds is None:
            return True
        return self._asked - self._started + nodes * self._node_seconds < self._seconds

    def count(self, nodes: int) -> None:
        self._node_seconds = (time.perf_counter() - self._asked) / nodes


def _confident(roots: Nodes, gap: float | None) -> Bool[np.ndarray, "B"]:
    """Roots with one legal action, or one that leads by the gap; none if there is no gap."""
    if gap is None:
        return np.zeros(len(roots.root), dtype=bool)
    ordered = np.sort(np.where(roots.legal_mask, roots.q_value, -np.inf), axis=1)
    second = ordered[:, -2] if ordered.shape[1] > 1 else np.full(len(ordered), -np.inf)
    alone = roots.legal_mask.sum(axis=1) == 1
    return alone | (np.where(alone, gap, ordered[:, -1]) - np.where(alone, 0.0, second) >= gap)


def _affordable(
    root: Int[np.ndarray, "C"], num_nodes: Int[np.ndarray, "B"], limit: int | None
) -> Bool[np.ndarray, "C"]:
    """Candidates, best paths first, up to the limit of each root's nodes."""
    if limit is None:
        return np.ones(len(root), dtype=bool)
    return rank_in_root(root) < limit - (num_nodes[root] - 1)


def _can_be_kept(
    model: PlanningModel, staying: Nodes, source: Nodes, beam_width: int
) -> Bool[np.ndarray, "C"]:
    """Steps from `source` that may lead into the beam, by the model's bounds; see `beam_search`."""
    if not isinstance(model, BoundedModel) or model.return_bounds is None:
        return np.ones(len(source.root), dtype=bool)
    low, high = model.return_bounds
    root = np.concatenate([source.root, staying.root])
    at_least = np.concatenate([source.path_reward + source.path_discount * low, staying.score])
    order = np.lexsort((-at_least, root))
    is_last = rank_in_root(root[order]) == beam_width - 1
    threshold = np.full(int(root.max(initial=0)) + 1, -np.inf)
    threshold[root[order][is_last]] = at_least[order][is_last]
    return source.path_reward + source.path_discount * high >= threshold[source.root]


def _is_among(nodes: Nodes, others: Nodes) -> Bool[np.ndarray, "M"]:
    """Which of the nodes are among the others, by root and row."""
    rows = 1 + max(nodes.row.max(initial=0), others.row.max(initial=0))
    return np.isin(nodes.root * rows + nodes.row, others.root * rows + others.row)
