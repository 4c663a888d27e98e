"""Paths of imagined steps in flat arrays: what beam search and best-first search are made of.

Letters: B roots, M nodes (all roots together, ordered by root), A actions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.base import NO_NODE, SearchResult, Tree
from planning.checks import check_evaluation, check_roots, check_shapes
from planning.model import Evaluation, PlanningModel


@dataclass(frozen=True)
class Nodes:
    """Nodes in flat arrays."""

    root: Int[np.ndarray, "M"]
    """Which root's."""
    row: Int[np.ndarray, "M"]
    """Place in that root's tree, in the order of making."""
    parent: Int[np.ndarray, "M"]
    """Row of the node before."""
    action: Int[np.ndarray, "M"]
    """Action that leads here."""
    first_action: Int[np.ndarray, "M"]
    """Action at the root that the path begins with."""
    depth: Int[np.ndarray, "M"]
    """Steps from the root."""
    node: Int[np.ndarray, "M"]
    """The model's handle."""
    reward: Float[np.ndarray, "M"]
    """Reward of the transition to here."""
    discount: Float[np.ndarray, "M"]
    """Factor on everything after that transition."""
    value: Float[np.ndarray, "M"]
    """The model's estimate of the return from here on."""
    q_value: Float[np.ndarray, "M A"]
    """Return expected from each action; -inf where illegal."""
    legal_mask: Bool[np.ndarray, "M A"]
    """True where an action is allowed."""
    path_reward: Float[np.ndarray, "M"]
    """Discounted rewards from the root up to here."""
    path_discount: Float[np.ndarray, "M"]
    """Product of the discounts up to here."""
    earlier: Float[np.ndarray, "M"]
    """What the estimates made on the way here add to the score; 0 if only the last one counts."""
    score: Float[np.ndarray, "M"]
    """Return of the whole path: `path_reward + path_discount value`, or that mixed with earlier estimates."""

    def take(self, index: np.ndarray) -> Nodes:
        """The nodes at an index or mask, in its order."""
        return Nodes(*(getattr(self, field.name)[index] for field in fields(self)))

    def open(self) -> Bool[np.ndarray, "M"]:
        """Nodes with a future: not ended, and with something to do."""
        return (self.path_discount != 0) & self.legal_mask.any(axis=1)


def root_nodes(model: PlanningModel, observation: Any) -> Nodes:
    """Ask the model for the roots.

    Raises:
        PlanningError: for a root without legal action, or an answer that cannot be used.
    """
    evaluation = model.root(observation)
    check_roots(evaluation, model.num_actions)
    batch = len(evaluation.node)
    none, zero = np.full(batch, NO_NODE), np.zeros(batch)
    return Nodes(
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
        earlier=zero,
        score=evaluation.value.astype(np.float64),
    )


def _legal_q_value(evaluation: Evaluation) -> Float[np.ndarray, "M A"]:
    return np.where(evaluation.legal_mask, evaluation.q_value.astype(np.float64), -np.inf)


def children_of(
    parents: Nodes, most_children: int | Int[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, "C"], Int[np.ndarray, "C"]]:
    """The steps to try: the best legal actions of each of P parents, in descending order of Q.

    Args:
        parents: nodes of any roots.
        most_children: actions to try, for each parent or for all.

    Returns:
        Index of the parent, and action, of C steps in the order of their parents.
    """
    order = _actions_by_q_value(parents)
    width = np.minimum(parents.legal_mask.sum(axis=1), most_children)
    is_child = np.arange(order.shape[1]) < width[:, None]
    return np.nonzero(is_child)[0], order[is_child]


def expand(
    model: PlanningModel,
    source: Nodes,
    action: Int[np.ndarray, "C"],
    num_nodes: Int[np.ndarray, "B"],
    trace_decay: float = 1.0,
) -> Nodes:
    """Step each node by its action, all in one call of the model.

    Nodes with equal handles are in equal states, and what follows a state depends on the state and the
    action only; so the model is asked once for each handle and action, and every such node gets the
    answer. That changes nothing but the number of evaluations.

    Args:
        model: what to plan in.
        source: the node of each of C steps, ordered by root; nodes may repeat.
        action: its action.
        num_nodes: rows that each root's tree has so far.
        trace_decay: weight of what is seen a step later; see `beam_search`.

    Returns:
        The children, in order.

    Raises:
        PlanningError: for an answer of the model that cannot be used, or a discount outside [0, 1].
    """
    depth = source.depth + 1
    evaluation = _step_once(model, source.node, action)
    check_evaluation(
        evaluation,
        len(action),
        model.num_actions,
        lambda row: (
            f"root {source.root[row]}, action {action[row]} of node {source.row[row]}, depth {depth[row]}"
        ),
        lowest_discount=0.0,
    )
    reward = evaluation.reward.astype(np.float64)
    discount = evaluation.discount.astype(np.float64)
    value = evaluation.value.astype(np.float64)
    path_reward = source.path_reward + source.path_discount * reward
    path_discount = source.path_discount * discount
    earlier = source.earlier
    if trace_decay < 1.0:
        before = source.path_reward + source.path_discount * source.q_value[np.arange(len(action)), action]
        earlier = earlier + (1.0 - trace_decay) * trace_decay**source.depth * before
    return Nodes(
        root=source.root,
        row=num_nodes[source.root] + rank_in_root(source.root),
        parent=source.row,
        action=action,
        first_action=np.where(depth == 1, action, source.first_action),
        depth=depth,
        node=np.array(evaluation.node, dtype=np.int64),
        reward=reward,
        discount=discount,
        value=value,
        q_value=_legal_q_value(evaluation),
        legal_mask=np.array(evaluation.legal_mask),
        path_reward=path_reward,
        path_discount=path_discount,
        earlier=earlier,
        score=earlier + trace_decay**depth * (path_reward + path_discount * value),
    )


def _step_once(model: PlanningModel, node: Int[np.ndarray, "C"], action: Int[np.ndarray, "C"]) -> Evaluation:
    """Step each state by each action once, in the order of first appearance."""
    pair = node * model.num_actions + action
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    if len(first) == len(pair):
        return model.step(node, action)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    asked = first[order]
    evaluation = model.step(node[asked], action[asked])
    check_shapes(evaluation, len(asked), model.num_actions)
    rows = place[inverse]
    answers = {
        field.name: getattr(evaluation, field.name)[rows]
        for field in fields(Evaluation)
        if getattr(evaluation, field.name) is not None
    }
    return Evaluation(**answers)


def _actions_by_q_value(nodes: Nodes) -> Int[np.ndarray, "M A"]:
    """Actions in descending Q, lower numbers first where equal, illegal ones last."""
    # The mask is a key of its own because a legal action may have a Q-value of -inf.
    return np.lexsort((-nodes.q_value, ~nodes.legal_mask), axis=1)


def joined(parts: list[Nodes]) -> Nodes:
    """All nodes of several parts, part after part."""
    return Nodes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Nodes)))


def best_of_each_root(nodes: Nodes, count: int) -> Nodes:
    """The best nodes of each root by score; where scores are equal, the earlier made come first."""
    ordered = nodes.take(np.lexsort((nodes.row, -nodes.score, nodes.root)))
    return ordered.take(rank_in_root(ordered.root) < count)


def rank_in_root(root: Int[np.ndarray, "M"]) -> Int[np.ndarray, "M"]:
    """Position of each entry within its run of equal roots."""
    return np.arange(len(root)) - np.searchsorted(root, root)


def conclude(nodes: Nodes, best: Nodes, judged: Nodes) -> SearchResult[Tree]:
    """Turn a finished search into its result.

    Args:
        nodes: all nodes that were made, roots included.
        best: the best node of each root; its first action is taken. Where that is a root itself,
            the model's own Q decides.
        judged: nodes whose scores are the Q-values of their first actions; later ones overrule.
    """
    roots, below = nodes.take(nodes.depth == 0), nodes.take(nodes.depth > 0)
    action = np.where(best.depth == 0, _actions_by_q_value(roots)[:, 0], best.first_action)
    visit_counts = np.zeros(roots.q_value.shape, dtype=np.int64)
    np.add.at(visit_counts, (below.root, below.first_action), 1)
    root_q_value = roots.q_value.copy()
    root_q_value[judged.root, judged.first_action] = judged.score
    return SearchResult(
        action=action,
        action_weights=(np.arange(roots.q_value.shape[1]) == action[:, None]).astype(np.float64),
        root_value=best.score,
        root_q_value=root_q_value,
        visit_counts=visit_counts,
        best_node=best.row,
        searched=_tree(nodes),
    )


def _tree(nodes: Nodes) -> Tree:
    """Scatter flat nodes into one table per root."""
    num_nodes = np.bincount(nodes.root)
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
