"""Beam search through a planning model, for a whole batch of roots at once.

Letters: B roots.

Method: Cheng et al. 2024, "Scaling Offline Model-Based RL via Jointly-Optimized World-Action Model
Pretraining" (arXiv 2410.00564), with one correction: a transition of discount 0 ends its path. The
published search reads no predicted end; a model that never answers discount 0 reproduces it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from planning.base import SearchResult, Tree
from planning.frontier import best_of_each_root, conclude, expand, joined, root_nodes
from planning.model import PlanningError, PlanningModel


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
    roots = root_nodes(model, observation)
    generations, kept, num_nodes = [roots], roots, np.ones(len(roots.root), dtype=np.int64)
    for _ in range(horizon):
        is_open = kept.open()
        if not is_open.any():
            break
        children = expand(model, kept.take(is_open), beam_width, num_nodes)
        num_nodes = num_nodes + np.bincount(children.root, minlength=len(num_nodes))
        generations.append(children)
        kept = best_of_each_root(joined([kept.take(~is_open), children]), beam_width)
    nodes = joined(generations)
    below = nodes.take(nodes.depth > 0)
    # The best of the deepest comes last, and so stands for its first action.
    judged = below.take(np.lexsort((below.score, below.depth)))
    return conclude(nodes, best_of_each_root(kept, 1), judged)
