"""Tree search guided by a policy: pUCT, with chance nodes where the model has them.

Letters: B roots, A actions, N visits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.base import SearchResult, SearchTree
from planning.layout import EPSILON, NUM_CONSTANTS, PUCT, VISITS, Buffers
from planning.model import PlanningError, PlanningModel
from planning.noise import CHOICE, POLICY, dirichlet_noise, given_noise, gumbel_noise, root_seeds
from planning.options import DEFAULTS, DRAWN, RootNoise, TreeOptions, check_settings
from planning.subtree import Resume, Roots
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

SMALLEST = 1e-6
"""Least value of settings that must be above 0."""
NO_SEQUENCE = np.zeros((1, 1), dtype=np.int64)
"""Stands where only the Gumbel rule reads."""


def muzero(
    model: PlanningModel,
    observation: Any,
    *,
    num_simulations: int,
    max_depth: int | None = None,
    pb_c_init: float = 1.25,
    pb_c_base: float = 19652.0,
    dirichlet_fraction: float = 0.0,
    dirichlet_alpha: float = 0.3,
    temperature: float = 0.0,
    seed: int | Int[np.ndarray, "B"] = 0,
    noise: RootNoise = DRAWN,
    resume: Resume | None = None,
    options: TreeOptions = DEFAULTS,
) -> SearchResult[SearchTree]:
    """Search by pUCT: Schrittwieser et al. 2020 (arXiv 1911.08265), as mctx defines it.

    A simulation walks down by `Q + sqrt(n) (pb_c_init + ln((n + pb_c_base + 1) / pb_c_base)) P / (m + 1)`,
    n visits of the node and m of the action, Q scaled to [0, 1] over the node and its visited
    actions; it adds one state and carries its value up. At chance nodes the outcome is taken whose
    share of visits lags its probability most: see `stochastic_muzero`.

    In the result, `action_weights` are the shares of the visits, and `root_q_value` is the root's
    value where an action was never tried.

    Args:
        model: what to plan in.
        observation: B observations, passed on to `model.root`; not read with `resume`.
        num_simulations: states to add to each tree.
        max_depth: longest path in steps; None for no limit.
        pb_c_init: weight of the policy among few visits.
        pb_c_base: visits at which that weight begins to grow.
        dirichlet_fraction: share of noise in the root's policy; 0 to play, 0.25 to explore.
        dirichlet_alpha: concentration of that noise.
        temperature: 0 takes the most visited action, the lowest where equal; otherwise an action is
            drawn in proportion to visits ** (1 / temperature).
        seed: root b draws from seed + b, or from seed[b]; a root's numbers do not depend on its batch.
        noise: numbers to use instead of drawing them.
        resume: what to keep of an earlier search.
        options: how trees are grown.

    Returns:
        The decision and the searched tree of each root.

    Raises:
        PlanningError: for settings out of range, a root without legal action, or an answer of the
            model that cannot be used.
    """
    if not 0 <= dirichlet_fraction <= 1:
        raise PlanningError(f"dirichlet_fraction is {dirichlet_fraction}; it must be in [0, 1]")
    check_settings(0, pb_c_init=pb_c_init)
    check_settings(SMALLEST, dirichlet_alpha=dirichlet_alpha, pb_c_base=pb_c_base)
    if not temperature >= 0 or (temperature > 0 and options.early_stop):
        raise PlanningError(
            f"temperature is {temperature}; it must be 0 or more, and 0 with early_stop, which keeps only "
            "the most visited action"
        )
    roots = begin(model, observation, num_simulations, max_depth, options, resume)
    seeds = root_seeds(seed, len(roots.logits))
    set_root_policy(roots, _root_policy(roots, dirichlet_fraction, dirichlet_alpha, seeds, noise, options))
    constants = np.zeros(NUM_CONSTANTS, dtype=options.dtype)
    constants[EPSILON] = 1e-8
    rule = Rule(
        switches=tree_switches(PUCT, max_depth, options),
        constants=constants,
        exploration=exploration_weights(
            largest_count(roots.buffers, num_simulations), pb_c_init, pb_c_base, options.precision
        ),
        sequence=NO_SEQUENCE,
    )
    grow(model, roots.buffers, rule, options)
    edges = root_edges(roots.buffers)
    visits = np.maximum(edges.visits, 0)
    weights = visits / visits.sum(axis=1, keepdims=True)
    action = _choice(weights, temperature, seeds, noise, roots.legal_mask)
    return search_result(roots.buffers, action, weights, edges, options)


def largest_count(buffers: Buffers, num_simulations: int) -> int:
    """No state can be visited more often than its root."""
    return int(buffers.ints[buffers.root_rows, VISITS].max()) + num_simulations


@lru_cache(maxsize=16)
def exploration_weights(
    largest: int, pb_c_init: float, pb_c_base: float, precision: str
) -> Float[np.ndarray, " N+1"]:
    """`sqrt(n) (pb_c_init + ln((n + pb_c_base + 1) / pb_c_base))` for n from 0 to `largest` visits."""
    visits = np.arange(largest + 1, dtype=np.float64)
    weights = np.sqrt(visits) * (pb_c_init + np.log((visits + pb_c_base + 1) / pb_c_base))
    return weights.astype(precision)


def _root_policy(
    roots: Roots,
    fraction: float,
    alpha: float,
    seeds: Int[np.ndarray, "B"],
    noise: RootNoise,
    options: TreeOptions,
) -> Float[np.ndarray, "B A"]:
    """The model's policy mixed with noise, over the legal actions."""
    if fraction == 0:
        return masked_softmax(roots.logits, roots.legal_mask)
    # mctx lets illegal actions take their share of policy and noise before it masks them.
    heard = np.ones_like(roots.legal_mask) if options.mctx_semantics else roots.legal_mask
    if noise.policy is None:
        sample = dirichlet_noise(seeds, POLICY, alpha, heard)
    else:
        sample = np.where(heard, given_noise("policy", noise.policy, roots.legal_mask), 0)
        if not options.mctx_semantics:
            sample = sample / np.maximum(sample.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    policy = (1 - fraction) * masked_softmax(roots.logits, heard) + fraction * sample
    policy = np.where(roots.legal_mask, np.maximum(policy, np.finfo(options.dtype).tiny), 0)
    return policy / policy.sum(axis=1, keepdims=True)


def _choice(
    weights: Float[np.ndarray, "B A"],
    temperature: float,
    seeds: Int[np.ndarray, "B"],
    noise: RootNoise,
    legal_mask: Bool[np.ndarray, "B A"],
) -> Int[np.ndarray, "B"]:
    """The most visited action, or one drawn by adding Gumbel noise to scaled log-visits."""
    if temperature == 0:
        return weights.argmax(axis=1)
    if noise.choice is None:
        sample = gumbel_noise(seeds, CHOICE, weights.shape[1])
    else:
        sample = given_noise("choice", noise.choice, legal_mask)
    logits = np.log(np.maximum(weights, np.finfo(np.float64).tiny))
    scaled = (logits - logits.max(axis=1, keepdims=True)) / temperature
    return np.where(weights > 0, scaled + sample, -np.inf).argmax(axis=1)
