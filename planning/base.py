"""What every search returns: the decision, and the tree that it was drawn from.

Letters: B roots, M node rows of the largest tree, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import Float, Int

NO_NODE = -1
"""Parent and action of a root, and of a row that holds no node."""


@dataclass(frozen=True)
class Tree:
    """The nodes of B searches, in the order in which they were made; row 0 is the root.

    Rows from `num_nodes[b]` on are empty in tree b: parent, action and node are -1,
    q_value is -inf, the rest is 0.
    """

    num_nodes: Int[np.ndarray, "B"]
    """Rows in use."""
    parent: Int[np.ndarray, "B M"]
    """Row of the node this one was reached from."""
    action: Int[np.ndarray, "B M"]
    """Action that leads here from the parent."""
    depth: Int[np.ndarray, "B M"]
    """Steps from the root."""
    node: Int[np.ndarray, "B M"]
    """The model's handle of the state, valid until the model's next `root`."""
    reward: Float[np.ndarray, "B M"]
    """Reward of the transition into the node."""
    discount: Float[np.ndarray, "B M"]
    """Factor on everything after that transition."""
    value: Float[np.ndarray, "B M"]
    """The model's estimate of the return from here on."""
    score: Float[np.ndarray, "B M"]
    """What the search makes of the node. Beam search: the return of the path from the root through
    this node, closed by `value`."""
    q_value: Float[np.ndarray, "B M A"]
    """Return expected from each action here; -inf where illegal."""

    @property
    def tree(self) -> Tree:
        """The tree itself."""
        return self


@dataclass(frozen=True)
class SearchTree(Tree):
    """A tree that counts visits, as `muzero`, `gumbel_muzero` and `mcts` grow it.

    Row i was made by simulation i; a simulation that ended in a state already known leaves its row
    empty. `score` is the mean of all returns seen from a state on, its own `value` first, and
    `q_value` the same for its actions, 0 where never visited.
    """

    visits: Int[np.ndarray, "B M"]
    """Evaluations of a state plus simulations through it."""
    state: Int[np.ndarray, "B M"]
    """The row itself, or where equal states are merged the earlier row that holds what is below."""
    kind: Int[np.ndarray, "B M"]
    """DECISION, CHANCE or END of `layout`."""
    prior: Float[np.ndarray, "B M A"]
    """Policy that guided the search; 0 where illegal."""
    edge_visits: Int[np.ndarray, "B M A"]
    """Simulations through each action; -1 where illegal."""
    children: Int[np.ndarray, "B M A"]
    """Row that each action leads to, or -1."""


TreeKind = TypeVar("TreeKind", bound=Tree, covariant=True)


class HoldsTree(Protocol[TreeKind]):
    """Something that can show its tree."""

    @property
    def tree(self) -> TreeKind:
        """The tree."""
        ...


@dataclass(frozen=True)
class SearchResult(Generic[TreeKind]):
    """The decision of one search for each of B roots."""

    action: Int[np.ndarray, "B"]
    """The action to take."""
    action_weights: Float[np.ndarray, "B A"]
    """A distribution over actions; 0 where illegal."""
    root_value: Float[np.ndarray, "B"]
    """Return expected from the root after the search."""
    root_q_value: Float[np.ndarray, "B A"]
    """Return expected from each action after the search; -inf where illegal. What stands at actions
    that were never tried is said by each search."""
    visit_counts: Int[np.ndarray, "B A"]
    """Evaluated states below each action of the root."""
    best_node: Int[np.ndarray, "B"]
    """Row of the node that the chosen plan ends at."""
    searched: HoldsTree[TreeKind]
    """What the search leaves behind."""

    @property
    def tree(self) -> TreeKind:
        """Everything that was evaluated; tree searches make a `SearchTree` of it when first asked."""
        return self.searched.tree


def best_path(result: SearchResult, row: int) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P+1"]]:
    """The plan behind a decision.

    Args:
        result: any search's result.
        row: which root.

    Returns:
        The P actions from the root on, and the rows of the P + 1 nodes they pass (root first).
    """
    tree = result.tree
    if isinstance(tree, SearchTree):
        return _most_visited_path(tree, row, int(result.action[row]))
    nodes = [int(result.best_node[row])]
    while tree.parent[row, nodes[-1]] != NO_NODE:
        nodes.append(int(tree.parent[row, nodes[-1]]))
    nodes.reverse()
    return tree.action[row, nodes[1:]], np.array(nodes)


def _most_visited_path(
    tree: SearchTree, row: int, action: int
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P+1"]]:
    """From the root on by an action, then by the most visited ones, the lowest of equals.

    Not from the end backwards: the parent of a row is one of several where states are shared.
    """
    actions, nodes, state = [], [0], 0
    while (child := int(tree.children[row, state, action])) != NO_NODE:
        actions.append(action)
        nodes.append(child)
        state = int(tree.state[row, child])
        if tree.edge_visits[row, state].max() <= 0:
            break
        action = int(tree.edge_visits[row, state].argmax())
    return np.array(actions, dtype=np.int64), np.array(nodes)
