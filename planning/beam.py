"""Beam search through a planning model, for a whole batch of roots at once.

Letters: B roots, M nodes of one depth (all roots together), A actions. Nodes of a depth are flat
arrays ordered by root and, within a root, by creation.

Method: Cheng et al. 2024, "Scaling Offline Model-Based RL via Jointly-Optimized World-Action Model
Pretraining" (arXiv 2410.00564), with one correction: a transition of discount 0 ends its path. The
published search reads no predicted end; a model that never answers discount 0 reproduces it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.base import NO_NODE, SearchResult, Tree
from planning.checks import check_evaluation, check_roots
from planning.model import Evaluation, PlanningError, PlanningModel


@dataclass(frozen=True)
class _Nodes:
    """Nodes in flat arrays; `row` is a node's place in its root's tree."""

    root: Int[np.ndarray, "M"]
    row: Int[np.ndarray, "M"]
    parent: Int[np.ndarray, "M"]
    action: Int[np.ndarray, "M"]
    first_action: Int[np.ndarray, "M"]
    depth: Int[np.ndarray, "M"]
    node: Int[np.ndarray, "M"]
    reward: Float[np.ndarray, "M"]
    discount: Float[np.ndarray, "M"]
    value: Float[np.ndarray, "M"]
    q_value: Float[np.ndarray, "M A"]  # -inf where illegal
    legal_mask: Bool[np.ndarray, "M A"]
    path_reward: Float[np.ndarray, "M"]  # discounted rewards from the root up to here
    path_discount: Float[np.ndarray, "M"]  # product of the discounts up to here
    score: Float[np.ndarray, "M"]

    def take(self, index: np.ndarray) -> _Nodes:
        """The nodes at an index or mask, in its order."""
        return _Nodes(*(getattr(self, field.name)[index] for field in fields(self)))

    def open(self) -> Bool[np.ndarray, "M"]:
        """Nodes with a future: not ended, and with something to do."""
        return (self.path_discount != 0) & self.legal_mask.any(axis=1)


def beam_search(
    model: PlanningModel, observation: Any, *, beam_width: int, horizon: int
) -> SearchResult[Tree]:
    """Plan by expanding the most promising actions of the most promising paths.

    At each depth every kept node tries its min(#legal, `beam_width`) best legal actions by Q, in
    descending order, all roots in one call of the model. A node's score is the return of its path,
    `sum_i (prod_{j<i} discount_j) reward_i + (prod_j discount_j) value`. Each root then keeps the
    `beam_width` best nodes of this depth, the earlier made first where scores are equal. A node
    that has ended, or has no legal action, is not expanded; it stays a candidate with the score it
    has. The action chosen is the first action of the best node kept last.

    In the result, `root_q_value` is the best score among the latest candidates that begin with an
    action, or the model's Q where no path begins with it. `action_weights` is 1 at the action.

    Args:
        model: what to plan in.
        observation: B observations, passed on to `model.root`.
        beam_width: paths to keep per root, and actions to try per node; at least 1.
        horizon: steps to look ahead; 0 chooses the legal action of highest Q.

    Returns:
        The decision and the searched nodes for each root.

    Raises:
        PlanningError: for a width below 1, a negative horizon, a root without legal action, or a
            model that answers with NaN, with another number of rows than asked, or with a discount
            outside [0, 1].
    """
    if beam_width < 1:
        raise PlanningError(f"beam_width is {beam_width}; it must be at least 1")
    if horizon < 0:
        raise PlanningError(f"horizon is {horizon}; it must be 0 or more")
    evaluation = model.root(observation)
    check_roots(evaluation, model.num_actions)
    roots = _roots(evaluation)
    generations, kept, num_nodes = [roots], roots, np.ones(len(roots.root), dtype=np.int64)
    for depth in range(1, horizon + 1):
        is_open = kept.open()
        if not is_open.any():
            break
        children = _expand(model, kept.take(is_open), beam_width, depth, num_nodes)
        num_nodes = num_nodes + np.bincount(children.root, minlength=len(num_nodes))
        generations.append(children)
        kept = _best_of_each_root(_joined([kept.take(~is_open), children]), beam_width)
    return _result(_joined(generations), kept, roots, num_nodes)


def _roots(evaluation: Evaluation) -> _Nodes:
    batch = len(evaluation.node)
    none, zero = np.full(batch, NO_NODE), np.zeros(batch)
    return _Nodes(
        root=np.arange(batch),
        row=np.zeros(batch, dtype=np.int64),
        parent=none,
        action=none,
        first_action=none,
        depth=np.zeros(batch, dtype=np.int64),
        node=np.array(evaluation.node, dtype=np.int64),
        reward=zero,
        discount=np.ones(batch),
        value=evaluation.value.astype(np.float64),
        q_value=_legal_q_value(evaluation),
        legal_mask=np.array(evaluation.legal_mask),
        path_reward=zero,
        path_discount=np.ones(batch),
        score=evaluation.value.astype(np.float64),
    )


def _legal_q_value(evaluation: Evaluation) -> Float[np.ndarray, "M A"]:
    return np.where(evaluation.legal_mask, evaluation.q_value.astype(np.float64), -np.inf)


def _expand(
    model: PlanningModel, parents: _Nodes, beam_width: int, depth: int, num_nodes: np.ndarray
) -> _Nodes:
    """Step every parent by its best actions; children in parent order, then in descending Q."""
    order = _actions_by_q_value(parents)
    width = np.minimum(parents.legal_mask.sum(axis=1), beam_width)
    is_child = np.arange(order.shape[1]) < width[:, None]
    source = parents.take(np.nonzero(is_child)[0])
    action = order[is_child]

    evaluation = model.step(source.node, action)
    check_evaluation(
        evaluation,
        len(action),
        model.num_actions,
        lambda row: f"root {source.root[row]}, action {action[row]} of node {source.row[row]}, depth {depth}",
        lowest_discount=0.0,
    )
    reward = evaluation.reward.astype(np.float64)
    discount = evaluation.discount.astype(np.float64)
    value = evaluation.value.astype(np.float64)
    path_reward = source.path_reward + source.path_discount * reward
    path_discount = source.path_discount * discount
    return _Nodes(
        root=source.root,
        row=num_nodes[source.root] + _rank_in_root(source.root),
        parent=source.row,
        action=action,
        first_action=action if depth == 1 else source.first_action,
        depth=np.full(len(action), depth),
        node=np.array(evaluation.node, dtype=np.int64),
        reward=reward,
        discount=discount,
        value=value,
        q_value=_legal_q_value(evaluation),
        legal_mask=np.array(evaluation.legal_mask),
        path_reward=path_reward,
        path_discount=path_discount,
        score=path_reward + path_discount * value,
    )


def _actions_by_q_value(nodes: _Nodes) -> Int[np.ndarray, "M A"]:
    """Actions in descending Q, lower numbers first where equal, illegal ones last."""
    # The mask is a key of its own because a legal action may have a Q-value of -inf.
    return np.lexsort((-nodes.q_value, ~nodes.legal_mask), axis=1)


def _joined(parts: list[_Nodes]) -> _Nodes:
    return _Nodes(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(_Nodes))
    )


def _best_of_each_root(nodes: _Nodes, beam_width: int) -> _Nodes:
    """The best nodes of each root by score; where scores are equal, the earlier made come first."""
    ordered = nodes.take(np.lexsort((nodes.row, -nodes.score, nodes.root)))
    return ordered.take(_rank_in_root(ordered.root) < beam_width)


def _rank_in_root(root: Int[np.ndarray, "M"]) -> Int[np.ndarray, "M"]:
    """Position of each entry within its run of equal roots."""
    return np.arange(len(root)) - np.searchsorted(root, root)


def _result(nodes: _Nodes, kept: _Nodes, roots: _Nodes, num_nodes: np.ndarray) -> SearchResult[Tree]:
    best = kept.take(_rank_in_root(kept.root) == 0)
    # Only at horizon 0 is the best node a root; then the model's own Q decides.
    action = np.where(best.depth == 0, _best_legal_action(roots), best.first_action)
    below = nodes.take(nodes.depth > 0)
    visit_counts = np.zeros(roots.q_value.shape, dtype=np.int64)
    np.add.at(visit_counts, (below.root, below.first_action), 1)
    return SearchResult(
        action=action,
        action_weights=(np.arange(roots.q_value.shape[1]) == action[:, None]).astype(np.float64),
        root_value=best.score,
        root_q_value=_searched_q_value(below, roots),
        visit_counts=visit_counts,
        best_node=best.row,
        searched=_tree(nodes, num_nodes),
    )


def _best_legal_action(roots: _Nodes) -> Int[np.ndarray, "B"]:
    return _actions_by_q_value(roots)[:, 0]


def _searched_q_value(below: _Nodes, roots: _Nodes) -> Float[np.ndarray, "B A"]:
    q_value = roots.q_value.copy()
    # Written in ascending order of depth, then score: what stays is the best of the deepest.
    order = np.lexsort((below.score, below.depth))
    q_value[below.root[order], below.first_action[order]] = below.score[order]
    return q_value


def _tree(nodes: _Nodes, num_nodes: np.ndarray) -> Tree:
    """Scatter flat nodes into one table per root."""
    shape = (len(num_nodes), int(num_nodes.max()))

    def table(values: np.ndarray, empty: int | float) -> np.ndarray:
        out = np.full((*shape, *values.shape[1:]), empty, dtype=values.dtype)
        out[nodes.root, nodes.row] = values
        return out

    return Tree(
        num_nodes=num_nodes,
        parent=table(nodes.parent, NO_NODE),
        action=table(nodes.action, NO_NODE),
        depth=table(nodes.depth, 0),
        node=table(nodes.node, NO_NODE),
        reward=table(nodes.reward, 0),
        discount=table(nodes.discount, 0),
        value=table(nodes.value, 0),
        score=table(nodes.score, 0),
        q_value=table(nodes.q_value, -np.inf),
    )
