"""Best-first search through a planning model, in the manner of A*, under a budget of nodes or tokens.

Letters: B roots.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from planning.base import SearchResult, Tree
from planning.frontier import best_of_each_root, children_of, conclude, expand, joined, root_nodes
from planning.model import PlanningError, PlanningModel


def best_first_search(
    model: PlanningModel,
    observation: Any,
    *,
    budget: int,
    node_cost: int = 1,
    branching: int | None = None,
    horizon: int | None = None,
) -> SearchResult[Tree]:
    """Always expand the path of the highest score, until that path is complete or the budget is spent.

    A node's score is the return of its path, `sum_i (prod_{j<i} discount_j) reward_i +
    (prod_j discount_j) value`: what A* calls f, with the model's value as the estimate of what is
    still to come (Hart, Nilsson and Raphael 1968). A path is complete when it has ended, has no
    legal action left, or is `horizon` steps long. When the best path is complete the search at that
    root is over; if the model never values a state below what can still be reached from it, no
    other path is better. The action chosen is the first action of the best path; of equal paths the
    one made first.

    In the result, `root_q_value` is the best score among the unexpanded nodes that begin with an
    action, or the model's Q where there is none. `action_weights` is 1 at the action.

    Args:
        model: what to plan in.
        observation: B observations, passed on to `model.root`.
        budget: what each root may spend on nodes after the root.
        node_cost: what one node costs in the same unit: 1 for a budget of nodes, tokens a step for a
            budget of tokens.
        branching: actions to try per node, the highest Q first; None for all legal ones.
        horizon: longest path in steps; None for no limit.

    Returns:
        The decision and the searched nodes for each root; with a budget for no node at all, the
        legal action of highest Q.

    Raises:
        PlanningError: for settings out of range, a root without legal action, or an answer of the
            model that cannot be used.
    """
    for name, setting, least in (
        ("budget", budget, 0),
        ("node_cost", node_cost, 1),
        ("branching", branching, 1),
        ("horizon", horizon, 0),
    ):
        if setting is not None and setting < least:
            raise PlanningError(f"{name} is {setting}; it must be at least {least}")
    roots = root_nodes(model, observation)
    width = model.num_actions if branching is None else branching
    generations, candidates = [roots], roots
    num_nodes = np.ones(len(roots.root), dtype=np.int64)
    while True:
        best = best_of_each_root(candidates, 1)
        affordable = budget // node_cost - (num_nodes - 1)
        goes_on = best.open() & (affordable > 0)
        if horizon is not None:
            goes_on &= best.depth < horizon
        if not goes_on.any():
            break
        parents = best.take(goes_on)
        source, action = children_of(parents, np.minimum(width, affordable[goes_on]))
        children = expand(model, parents.take(source), action, num_nodes)
        num_nodes = num_nodes + np.bincount(children.root, minlength=len(num_nodes))
        generations.append(children)
        row = np.full(len(num_nodes), -1)
        row[parents.root] = parents.row
        candidates = joined([candidates.take(candidates.row != row[candidates.root]), children])
    nodes = joined(generations)
    below = candidates.take(candidates.depth > 0)
    return conclude(nodes, best, below.take(np.argsort(below.score, kind="stable")))
