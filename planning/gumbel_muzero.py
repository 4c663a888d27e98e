"""Tree search that plans where to spend its simulations: Gumbel noise and sequential halving.

Letters: B roots, A actions, K considered actions, N simulations.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, log2
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from planning.base import SearchResult, SearchTree
from planning.layout import (
    EPSILON,
    GUMBEL,
    LOWEST_SCORE,
    MIXED,
    NUM_CONSIDERED,
    NUM_CONSTANTS,
    NUM_SWITCHES,
    RAW,
    RESCALE,
    ROOT_SCORE,
    SLOTS,
    TINY,
    VALUE_SCALE,
    VISIT_OFFSET,
)
from planning.model import Evaluation, PlanningModel
from planning.muzero import largest_count
from planning.noise import POLICY, given_noise, gumbel_noise, root_seeds
from planning.options import DEFAULTS, DRAWN, RootNoise, TreeOptions, check_settings
from planning.plain import choose
from planning.subtree import Resume
from planning.tree_search import (
    Rule,
    begin,
    grow,
    kernel_module,
    masked_softmax,
    root_edges,
    search_result,
    set_root_policy,
    tree_switches,
)


def gumbel_muzero(
    model: PlanningModel,
    observation: Any,
    *,
    num_simulations: int,
    max_depth: int | None = None,
    max_num_considered_actions: int = 16,
    gumbel_scale: float = 1.0,
    value_scale: float = 0.1,
    maxvisit_init: float = 50.0,
    rescale_values: bool = True,
    use_mixed_value: bool = True,
    epsilon: float = 1e-8,
    seed: int | Int[np.ndarray, "B"] = 0,
    noise: RootNoise = DRAWN,
    resume: Resume | None = None,
    options: TreeOptions = DEFAULTS,
) -> SearchResult[SearchTree]:
    """Search by Gumbel MuZero: Danihelka et al. 2022, "Policy improvement by planning with Gumbel".

    The root draws the actions to consider by Gumbel noise on the policy's logits and halves their
    number as the simulations are spent; inside the tree the visits follow the improved policy
    `softmax(logits + completed Q)`. That policy at the root is `action_weights`, a training target;
    `action` is the best of the most visited actions. `root_q_value` is the root's value where an
    action was never tried. `early_stop` takes effect where one action is considered, or leads by more
    than any Q-value could make up for (with `rescale_values`).

    Args:
        model: what to plan in.
        observation: B observations, passed on to `model.root`; not read with `resume`.
        num_simulations: states to add to each tree.
        max_depth: longest path in steps; None for no limit.
        max_num_considered_actions: actions that take part in the halving at the root.
        gumbel_scale: weight of the noise; 0 to play without it.
        value_scale: weight of Q-values against logits.
        maxvisit_init: visits added to the most visited action's in that weight.
        rescale_values: scale the Q-values of a node to [0, 1].
        use_mixed_value: let unvisited actions stand at a mixture of the node's value and the
            visited actions' Q-values, rather than at its value.
        epsilon: smallest range that Q-values are scaled from.
        seed: root b draws from seed + b, or from seed[b]; a root's numbers do not depend on its batch.
        noise: numbers to use instead of drawing them.
        resume: what to keep of an earlier search; only new visits count in the halving.
        options: how trees are grown.

    Returns:
        The decision and the searched tree of each root.

    Raises:
        PlanningError: for settings out of range, a root without legal action, or an answer of the
            model that cannot be used.
    """
    check_settings(1, max_num_considered_actions=max_num_considered_actions)
    check_settings(0, gumbel_scale=gumbel_scale, value_scale=value_scale, maxvisit_init=maxvisit_init)
    check_settings(float(np.finfo(options.dtype).tiny), epsilon=epsilon)
    roots = begin(model, observation, num_simulations, max_depth, options, resume)
    buffers, legal_mask, num_actions = roots.buffers, roots.legal_mask, roots.buffers.num_actions
    if noise.policy is not None:
        sample = given_noise("policy", noise.policy, legal_mask)
    else:
        sample = gumbel_scale * gumbel_noise(root_seeds(seed, len(legal_mask)), POLICY, num_actions)
    legal_logits = np.where(legal_mask, roots.logits, -np.inf)
    score = sample + (legal_logits - legal_logits.max(axis=1, keepdims=True))
    buffers.work[:, ROOT_SCORE] = score
    set_root_policy(roots, masked_softmax(roots.logits, legal_mask), np.maximum(score, LOWEST_SCORE))
    considered = np.minimum(legal_mask.sum(axis=1), max_num_considered_actions)
    if options.early_stop and rescale_values:
        most = largest_count(buffers, num_simulations)
        considered = np.where(_is_foregone(score, value_scale * (maxvisit_init + most)), 1, considered)
    buffers.state[NUM_CONSIDERED] = considered

    switches = tree_switches(GUMBEL, max_depth, options)
    switches[RESCALE], switches[MIXED] = rescale_values, use_mixed_value
    constants = np.zeros(NUM_CONSTANTS, dtype=options.dtype)
    constants[[VALUE_SCALE, VISIT_OFFSET, EPSILON]] = value_scale, maxvisit_init, epsilon
    constants[TINY] = np.finfo(options.dtype).tiny
    rule = Rule(
        switches=switches,
        constants=constants,
        exploration=np.zeros(1, dtype=options.dtype),
        sequence=considered_visits(int(considered.max()), num_simulations),
    )
    grow(model, buffers, rule, options)
    weights = np.empty(legal_mask.shape, dtype=options.dtype)
    action = np.empty(len(legal_mask), dtype=np.int64)
    kernel_module(options).improved_policy(
        buffers.floats, buffers.ints, buffers.root_rows, buffers.work, switches, constants, weights, action
    )
    return search_result(buffers, action, weights, root_edges(buffers), options)


def scaled_q_values(
    roots: Evaluation,
    q_value: Float[np.ndarray, "B A"],
    visit_counts: Int[np.ndarray, "B A"],
    *,
    value_scale: float = 0.1,
    maxvisit_init: float = 50.0,
    epsilon: float = 1e-8,
) -> Float[np.ndarray, "B A"]:
    """The numbers that are added to the policy's logits to improve it; for Q-values of any search.

    Actions without visits stand at a mixture of the root's value and the visited actions' Q-values, all are
    scaled to [0, 1] at each root, and then by `value_scale (maxvisit_init + most visits)`: the completed
    Q-values of Danihelka et al. 2022, by the very code of the search's plain twin.

    Args:
        roots: what the model said of the roots; value, logits and legal mask are read.
        q_value: of visited actions; the others' are not read.
        visit_counts: states evaluated below each action.
        value_scale: as in `gumbel_muzero`.
        maxvisit_init: as in `gumbel_muzero`.
        epsilon: as in `gumbel_muzero`.
    """
    legal_mask, nothing = np.asarray(roots.legal_mask), np.full(q_value.shape, -1)
    prior = masked_softmax(roots.prior_logits.astype(np.float64), legal_mask)
    # What is not read must not be infinite either.
    finite = np.where(visit_counts > 0, q_value, 0.0)
    edges = choose.Edges(prior, finite, np.where(legal_mask, visit_counts, -1), nothing, nothing)
    numbers = np.zeros((len(q_value), SLOTS))
    numbers[:, RAW] = roots.value
    switches = np.zeros(NUM_SWITCHES, dtype=np.int64)
    switches[[RESCALE, MIXED]] = 1
    constants = np.zeros(NUM_CONSTANTS)
    constants[[VALUE_SCALE, VISIT_OFFSET, EPSILON]] = value_scale, maxvisit_init, epsilon
    constants[TINY] = np.finfo(np.float64).tiny
    return choose.completed_q_values(numbers, edges, switches, constants)


def _is_foregone(score: Float[np.ndarray, "B A"], largest_q_value: float) -> Bool[np.ndarray, "B"]:
    """Whether no Q-values can make up for the lead of a root's first action.

    Every considered action is chosen by noise and logit plus a scaled Q-value from 0 to `largest_q_value`.
    An action that leads by more is the first of every phase, survives all of them, and is taken.
    """
    score = np.maximum(score, LOWEST_SCORE)
    is_first = np.arange(score.shape[1]) == score.argmax(axis=1)[:, None]
    second = np.where(is_first, -np.inf, score).max(axis=1)
    return score.max(axis=1) - second > largest_q_value


@lru_cache(maxsize=16)
def considered_visits(most: int, num_simulations: int) -> Int[np.ndarray, "K+1 N"]:
    """Visits of the actions to consider next, for each number of considered actions up to `most`.

    Row k is the order in which sequential halving over k actions spends N simulations: every phase
    gives each surviving action the same number, then half of them survive.
    """
    return np.array([_halving(k, num_simulations) for k in range(most + 1)], dtype=np.int64)


def _halving(num_considered: int, num_simulations: int) -> list[int]:
    if num_considered <= 1:
        return list(range(num_simulations))
    phases = ceil(log2(num_considered))
    counts, surviving, order = [0] * num_considered, num_considered, []
    while len(order) < num_simulations:
        for _ in range(max(1, num_simulations // (phases * surviving))):
            order += counts[:surviving]
            counts[:surviving] = [count + 1 for count in counts[:surviving]]
        surviving = max(2, surviving // 2)
    return order[:num_simulations]
