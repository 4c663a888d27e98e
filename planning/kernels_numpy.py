"""Plain twins of `kernels`: the same searches, all roots at once, a step of the tree at a time.

Every function takes the arrays that its compiled twin takes, for all roots where that one takes one
root's. `roots` are the roots to work on, R of them.
"""

from __future__ import annotations

import numpy as np

from planning import choice_numpy
from planning.kernels import HASH_DEPTH, HASH_FACTOR
from planning.layout import (
    ACTION,
    ASKED_ACTION,
    ASKED_PARENT,
    BLOCKED,
    CHANCE,
    DECISION,
    DEPTH,
    DISCOUNT,
    EARLY_STOP,
    EDGE_VISITS,
    END,
    END_ROW,
    EPSILON,
    EXPAND_ENDS,
    FIRST_ROW,
    GUMBEL,
    IDLE,
    KIND,
    LEAF_DEPTH,
    MAX_DEPTH,
    MEAN,
    MERGE,
    NEXT_ROW,
    NO_ROW,
    NUM_CONSIDERED,
    OLD_VISITS,
    PARENT,
    PRIOR,
    PROBLEM,
    PUCT,
    RAW,
    REWARD,
    ROOT_SCORE,
    RULE,
    SLOT,
    STATE,
    UCB,
    VISITS,
)


def choose(floats, ints, roots, rows, is_root, state, work, exploration, sequence, switches, constants):
    """The actions [R] that the searches try next at one node each."""
    num_actions = work.shape[2]
    floats, ints, work = floats[roots, rows], ints[roots, rows], work[roots]
    if switches[RULE] == PUCT:
        action = choice_numpy.puct_action(floats, ints, num_actions, exploration, constants[EPSILON])
    elif switches[RULE] == UCB:
        action = choice_numpy.ucb_action(floats, ints, num_actions, exploration, work)
    elif is_root:
        simulation = state[NEXT_ROW, roots] - state[FIRST_ROW, roots]
        considered = sequence[state[NUM_CONSIDERED, roots], simulation]
        action = choice_numpy.gumbel_root_action(
            floats, ints, num_actions, considered, switches, constants, work
        )
    else:
        action = choice_numpy.gumbel_action(floats, ints, num_actions, switches, constants)
    is_chance = ints[:, KIND] == CHANCE
    if is_chance.any():
        action = np.where(is_chance, choice_numpy.chance_action(floats, ints, num_actions), action)
    return action


def refresh_q_values(floats, ints, roots, rows, num_actions):
    """Bring Q-values up to date with states that were visited by other ways."""
    child = np.maximum(ints[roots, rows, EDGE_VISITS + num_actions :], 0)
    tree = roots[:, None]
    mean = floats[tree, np.maximum(ints[tree, child, STATE], 0), MEAN]
    fresh = floats[tree, child, REWARD] + floats[tree, child, DISCOUNT] * mean
    old = floats[roots, rows, PRIOR + num_actions :]
    visited = ints[roots, rows, EDGE_VISITS : EDGE_VISITS + num_actions] > 0
    floats[roots, rows, PRIOR + num_actions :] = np.where(visited, fresh, old)


def descend(floats, ints, path, roots, state, work, exploration, sequence, switches, constants):
    """Walk from R roots to edges without a row, or to states that are not to be gone past.

    Returns:
        Depths and rows [R] of the states reached; the row is NO_ROW where the model must be asked.
    """
    num_actions = work.shape[2]
    reached = np.full(len(roots), NO_ROW)
    depths = np.zeros(len(roots), dtype=np.int64)
    walking, rows, depth = np.arange(len(roots)), np.zeros(len(roots), dtype=np.int64), 0
    while len(walking):
        trees = roots[walking]
        if switches[MERGE]:
            refresh_q_values(floats, ints, trees, rows, num_actions)
        action = choose(
            floats, ints, trees, rows, depth == 0, state, work, exploration, sequence, switches, constants
        )
        path[trees, depth, 0], path[trees, depth, 1] = rows, action
        depth += 1
        depths[walking] = depth
        child = ints[trees, rows, EDGE_VISITS + num_actions + action]
        known = child != NO_ROW
        trees, walking = trees[known], walking[known]
        rows = ints[trees, child[known], STATE].astype(np.int64)
        stops = (ints[trees, rows, KIND] == END) | (depth >= switches[MAX_DEPTH])
        reached[walking[stops]] = rows[stops]
        walking, rows = walking[~stops], rows[~stops]
    return depths, reached


def back_up(floats, ints, path, roots, depths, target, work, switches):
    """Carry returns [R] from the paths' ends to their roots; each state's mean takes them in."""
    num_actions = work.shape[2]
    for step in range(int(depths.max(initial=0)) - 1, -1, -1):
        on = depths > step
        tree = roots[on]
        row, action = path[tree, step, 0], path[tree, step, 1]
        child = ints[tree, row, EDGE_VISITS + num_actions + action]
        mean = floats[tree, ints[tree, child, STATE], MEAN]
        reward, discount = floats[tree, child, REWARD], floats[tree, child, DISCOUNT]
        target[on] = reward + discount * target[on]
        visits = ints[tree, row, VISITS].astype(floats.dtype)
        floats[tree, row, MEAN] = (floats[tree, row, MEAN] * visits + target[on]) / (visits + 1)
        ints[tree, row, VISITS] += 1
        ints[tree, row, EDGE_VISITS + action] += 1
        floats[tree, row, PRIOR + num_actions + action] = reward + discount * mean
        shared = ints[tree, child, STATE] != child
        floats[tree[shared], child[shared], MEAN] = mean[shared]
        count = ints[tree, row, EDGE_VISITS + action]
        ints[tree[shared], child[shared], VISITS] = count[shared]
    if switches[RULE] == UCB:
        note_means(floats, ints, path, roots, depths, work)


def note_means(floats, ints, path, roots, depths, work):
    """Widen the extremes of each tree by the means along its path."""
    num_actions = work.shape[2]
    for step in range(int(depths.max(initial=0))):
        tree = roots[depths > step]
        row, action = path[tree, step, 0], path[tree, step, 1]
        end = ints[tree, ints[tree, row, EDGE_VISITS + num_actions + action], STATE]
        for mean in (floats[tree, row, MEAN], floats[tree, end, MEAN]):
            work[tree, ROOT_SCORE, 0] = np.minimum(work[tree, ROOT_SCORE, 0], mean)
            work[tree, ROOT_SCORE, 1] = np.maximum(work[tree, ROOT_SCORE, 1], mean)


def find_states(ints, handles, states_by_hash, roots, rows, depths):
    """Rows [R] of equal states at the same depth; a row itself, now registered, where there is none."""
    mask = states_by_hash.shape[1] - 1
    mixed = (handles[roots, rows] + depths * HASH_DEPTH) * HASH_FACTOR
    bucket = (mixed ^ (mixed >> 29)) & mask
    found = rows.copy()
    searching = np.arange(len(roots))
    while len(searching):
        tree, row = roots[searching], rows[searching]
        other = states_by_hash[tree, bucket[searching]]
        empty = other == NO_ROW
        states_by_hash[tree[empty], bucket[searching[empty]]] = row[empty]
        equal = ~empty & (handles[tree, other] == handles[tree, row])
        equal &= ints[tree, other, DEPTH] == depths[searching]
        found[searching[equal]] = other[equal]
        searching = searching[~empty & ~equal]
        bucket[searching] = (bucket[searching] + 1) & mask
    return found


def write_edges(floats, ints, roots, rows, prior_logits, legal_mask):
    """Fill new rows' priors and links.

    Returns:
        Which rows [R] have logits that are no distribution.
    """
    num_actions = prior_logits.shape[1]
    with np.errstate(invalid="ignore"):
        shifted = np.where(legal_mask, prior_logits, -np.inf)
        prior = np.where(legal_mask, np.exp(shifted - shifted.max(axis=1, keepdims=True)), 0)
    total = prior.sum(axis=1, keepdims=True)
    bad = legal_mask.any(axis=1) & ~(total[:, 0] >= 1)
    floats[roots, rows, PRIOR : PRIOR + num_actions] = prior / np.where(total >= 1, total, 1)
    floats[roots, rows, PRIOR + num_actions :] = 0
    ints[roots, rows, EDGE_VISITS : EDGE_VISITS + num_actions] = np.where(legal_mask, 0, BLOCKED)
    ints[roots, rows, EDGE_VISITS + num_actions :] = NO_ROW
    return bad


def expand(
    floats, ints, handles, states_by_hash, path, roots, depths, rows, switches,
    handle, reward, discount, value, prior_logits, legal_mask, is_chance,
):  # fmt: skip
    """Write the model's answers into new rows and link them to their parents.

    Returns:
        Which answers [R] can be used.
    """
    num_actions = prior_logits.shape[1]
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(reward) & np.isfinite(value) & (discount >= -1) & (discount <= 1)
    parent, action = path[roots, depths - 1, 0], path[roots, depths - 1, 1]
    for column, values in ((PARENT, parent), (ACTION, action), (DEPTH, depths), (VISITS, 1), (STATE, rows)):
        ints[roots, rows, column] = values
    ends = ~legal_mask.any(axis=1) | ((discount == 0) & (not switches[EXPAND_ENDS]))
    ints[roots, rows, KIND] = np.where(ends, END, np.where(is_chance, CHANCE, DECISION))
    for column, values in ((REWARD, reward), (DISCOUNT, discount), (RAW, value), (MEAN, value)):
        floats[roots, rows, column] = values
    handles[roots, rows] = handle
    ints[roots, parent, EDGE_VISITS + num_actions + action] = rows
    usable &= ~write_edges(floats, ints, roots, rows, prior_logits, legal_mask)
    if switches[MERGE]:
        tree, row = roots[~ends], rows[~ends]
        found = find_states(ints, handles, states_by_hash, tree, row, depths[~ends])
        ints[tree, row, STATE] = found
        floats[tree, row, MEAN] = floats[tree, found, MEAN]
    return usable


def clear_rows(floats, ints, handles, roots, rows):
    """Mark rows that their simulations did not need."""
    num_actions = (ints.shape[2] - EDGE_VISITS) // 2
    empty = np.zeros(ints.shape[2], dtype=np.int32)
    empty[[PARENT, ACTION, STATE]] = NO_ROW
    empty[EDGE_VISITS + num_actions :] = NO_ROW
    ints[roots, rows] = empty
    floats[roots, rows] = 0
    handles[roots, rows] = NO_ROW


def are_decided(ints, roots, state, num_actions, switches):
    """Where [R] the simulations still to come cannot change the choice of the root."""
    started = state[NEXT_ROW, roots] > state[FIRST_ROW, roots]
    if switches[RULE] == GUMBEL:
        return started & (state[NUM_CONSIDERED, roots] == 1)
    visits = np.sort(ints[roots, 0, EDGE_VISITS : EDGE_VISITS + num_actions], axis=1)
    most, second = visits[:, -1], visits[:, -2] if num_actions > 1 else np.full(len(roots), BLOCKED)
    remaining = state[END_ROW, roots] - state[NEXT_ROW, roots]
    return started & ((second < 0) | (most > second + remaining))


def simulate(floats, ints, handles, path, roots, state, work, exploration, sequence, switches, constants):
    """Run simulations at all of R roots until the model has to be asked or all are done."""
    num_actions = work.shape[2]
    while True:
        roots = roots[state[NEXT_ROW, roots] < state[END_ROW, roots]]
        if switches[EARLY_STOP]:
            decided = are_decided(ints, roots, state, num_actions, switches)
            state[END_ROW, roots[decided]] = state[NEXT_ROW, roots[decided]]
            roots = roots[~decided]
        if not len(roots):
            return
        depths, rows = descend(
            floats, ints, path, roots, state, work, exploration, sequence, switches, constants
        )
        asks = rows == NO_ROW
        state[SLOT, roots[asks]] = 0
        state[LEAF_DEPTH, roots[asks]] = depths[asks]
        roots, depths, rows = roots[~asks], depths[~asks], rows[~asks]
        ints[roots, rows, VISITS] += 1
        back_up(floats, ints, path, roots, depths, floats[roots, rows, RAW], work, switches)
        clear_rows(floats, ints, handles, roots, state[NEXT_ROW, roots])
        state[NEXT_ROW, roots] += 1


def advance(
    floats, ints, handles, path, state, work, states_by_hash, exploration, sequence, switches, constants,
    node, reward, discount, value, prior_logits, legal_mask, is_chance,
):  # fmt: skip
    """Twin of `kernels.advance`."""
    roots = np.flatnonzero(state[SLOT] != IDLE)
    slot, rows, depths = state[SLOT, roots], state[NEXT_ROW, roots], state[LEAF_DEPTH, roots]
    usable = expand(
        floats, ints, handles, states_by_hash, path, roots, depths, rows, switches,
        node[slot], reward[slot], discount[slot], value[slot], prior_logits[slot], legal_mask[slot],
        is_chance[slot],
    )  # fmt: skip
    if not usable.all():
        state[PROBLEM, roots[~usable]] = 1
        return -1
    back_up(floats, ints, path, roots, depths, floats[roots, rows, MEAN], work, switches)
    state[NEXT_ROW, roots] += 1
    state[SLOT] = IDLE
    simulate(
        floats, ints, handles, path, np.arange(state.shape[1]), state, work,
        exploration, sequence, switches, constants,
    )  # fmt: skip
    waiting = np.flatnonzero(state[SLOT] != IDLE)
    step = state[LEAF_DEPTH, waiting] - 1
    state[ASKED_PARENT, : len(waiting)] = handles[waiting, path[waiting, step, 0]]
    state[ASKED_ACTION, : len(waiting)] = path[waiting, step, 1]
    state[SLOT, waiting] = np.arange(len(waiting))
    return len(waiting)


def best_rows(ints, action, out):
    """Twin of `kernels.best_rows`."""
    num_actions = (ints.shape[2] - EDGE_VISITS) // 2
    roots, rows, edge = np.arange(len(action)), np.zeros(len(action), dtype=np.int64), action
    while len(roots):
        child = ints[roots, rows, EDGE_VISITS + num_actions + edge]
        known = child != NO_ROW
        roots, child = roots[known], child[known]
        out[roots] = child
        rows = ints[roots, child, STATE]
        visits = ints[roots, rows, EDGE_VISITS : EDGE_VISITS + num_actions]
        onward = (visits > 0).any(axis=1)
        roots, rows, edge = roots[onward], rows[onward], visits[onward].argmax(axis=1)


def improved_policy(floats, ints, work, switches, constants, weights, actions):
    """Twin of `kernels.improved_policy`."""
    num_actions = work.shape[2]
    row, links = floats[:, 0], ints[:, 0]
    weights[:] = choice_numpy.improved_policy(row, links, num_actions, switches, constants)
    new = links[:, EDGE_VISITS : EDGE_VISITS + num_actions] - work[:, OLD_VISITS].astype(np.int64)
    most = np.maximum(new, 0).max(axis=1)
    actions[:] = choice_numpy.gumbel_root_action(row, links, num_actions, most, switches, constants, work)
