"""The tree search of the published JOWA program: UCB over Q-values, a policy made of Q-values.

Letters: B roots, M evaluated nodes, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.base import SearchResult, SearchTree
from planning.layout import MEAN, NUM_CONSTANTS, ROOT_SCORE, UCB, UCB_LOWEST_PRIOR, VISITS
from planning.model import Evaluation, PlanningError, PlanningModel
from planning.muzero import NO_SEQUENCE, exploration_weights
from planning.options import DEFAULTS, TreeOptions
from planning.plain import Edges
from planning.published_cache import RootStepsModel
from planning.tree_search import (
    Rule,
    begin,
    grow,
    masked_softmax,
    root_edges,
    search_result,
    set_root_policy,
    tree_switches,
)

PB_C_INIT, PB_C_BASE = 1.25, 19652.0


def mcts(
    model: PlanningModel,
    observation: Any,
    *,
    num_simulations: int,
    horizon: int,
    temperature: float = 1.0,
    use_mean: bool = False,
    use_count: bool = False,
    published_semantics: bool = False,
    published_cache: bool = False,
    options: TreeOptions = DEFAULTS,
) -> SearchResult[SearchTree]:
    """Search as Cheng et al. 2024 (arXiv 2410.00564) do beside their beam search.

    A simulation walks down by
    `sqrt(n) (1.25 + ln((n + 19653) / 19652)) P / (m + 1) + scaled Q`, n visits of the state and m of
    the action, Q scaled by the extremes of all means in the tree and 0 where untried; ties go to the
    highest action, and a root counts its first visit only with its first simulation. P is the softmax
    of the legal Q-values.

    Args:
        model: what to plan in; its Q-values are policy and value.
        observation: B observations, passed on to `model.root`.
        num_simulations: simulations at each root.
        horizon: paths are at most `max(1, horizon - 1)` steps long, as published.
        temperature: of the policy made of Q-values.
        use_mean: value states by the mean of their legal Q-values instead of the largest. (The
            published program takes illegal ones in at -inf, so that it works for 18 legal actions only.)
        use_count: choose by visits instead of return.
        published_semantics: choose the action whose state has the highest mean, with 0 for actions
            never tried, legal or not, and without the reward on the way; by default the action of the
            highest return among those tried.
        published_cache: take every step from the root's own state, as the published program does by
            keeping the root's cache in every node; a switch of its own, as it was recorded on and off.
        options: how trees are grown; `early_stop` goes with `use_count` only.

    Returns:
        The decision and the searched tree of each root; `root_q_value` is the root's mean where an
        action was never tried.

    Raises:
        PlanningError: for settings out of range, a root without legal action, or an answer of the
            model that cannot be used.
    """
    if temperature <= 0:
        raise PlanningError(f"temperature is {temperature}; it must be above 0")
    if options.early_stop and not use_count:
        raise PlanningError("early_stop watches the visits; with mcts it needs use_count")
    depth = max(1, horizon - 1)
    policy = _QValuePolicy(RootStepsModel(model) if published_cache else model, temperature, use_mean)
    roots = begin(policy, observation, num_simulations, depth, options)
    buffers, rows = roots.buffers, roots.buffers.root_rows
    prior = masked_softmax(roots.logits, roots.legal_mask)
    prior[prior < UCB_LOWEST_PRIOR] = 0
    roots = replace(roots, legal_mask=prior > 0)
    set_root_policy(roots, prior, _order_at_root(prior))
    buffers.ints[rows, VISITS] = 0
    buffers.floats[rows, MEAN] = 0
    buffers.work[:, ROOT_SCORE, :2] = np.inf, -np.inf
    rule = Rule(
        switches=tree_switches(UCB, depth, options),
        constants=np.zeros(NUM_CONSTANTS, dtype=options.dtype),
        exploration=exploration_weights(num_simulations, PB_C_INIT, PB_C_BASE, options.precision),
        sequence=NO_SEQUENCE,
    )
    grow(policy, buffers, rule, options)
    edges = root_edges(buffers)
    visits = np.maximum(edges.visits, 0)
    weights = visits / visits.sum(axis=1, keepdims=True)
    action = _choice(buffers.floats[:, MEAN], edges, use_count, published_semantics)
    return search_result(buffers, action, weights, edges, options)


@dataclass(frozen=True)
class _QValuePolicy:
    """A model whose policy and value are made of its Q-values."""

    model: PlanningModel
    temperature: float
    use_mean: bool

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self.model.num_actions

    def root(self, observation: Any) -> Evaluation:
        """Pass on."""
        return self._read(self.model.root(observation))

    def step(self, parent: Int[np.ndarray, " M"], action: Int[np.ndarray, " M"]) -> Evaluation:
        """Pass on."""
        return self._read(self.model.step(parent, action))

    def _read(self, evaluation: Evaluation) -> Evaluation:
        q_value, legal = evaluation.q_value, evaluation.legal_mask
        if self.use_mean:
            value = np.where(legal, q_value, 0).sum(axis=1) / np.maximum(legal.sum(axis=1), 1)
        else:
            value = np.where(legal.any(axis=1), np.where(legal, q_value, -np.inf).max(axis=1), 0)
        return replace(evaluation, value=value, prior_logits=q_value / self.temperature)


def _order_at_root(prior: Float[np.ndarray, "B A"]) -> Float[np.ndarray, "B A"]:
    """Descending prior, but the highest action first: an unvisited root scores all its actions 0."""
    order = prior.copy()
    last = prior.shape[1] - 1 - (prior[:, ::-1] > 0).argmax(axis=1)
    order[np.arange(len(prior)), last] = np.inf
    return order


def _choice(
    mean: Float[np.ndarray, " R"], edges: Edges, use_count: bool, published_semantics: bool
) -> Int[np.ndarray, "B"]:
    if use_count:
        return edges.visits.argmax(axis=1)
    tried: Bool[np.ndarray, "B A"] = edges.visits > 0
    if published_semantics:
        return np.where(tried, mean[edges.child], 0).argmax(axis=1)
    return np.where(tried, edges.q_value, -np.inf).argmax(axis=1)
