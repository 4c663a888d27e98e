"""Where the tree searches keep their trees: a few preallocated arrays, and what each column holds.

Letters: B roots, M rows of a tree, A actions, P steps of the longest path.

A row is made by one simulation and stands for one edge and the state it leads to. What a search
reads together lies together: `floats[b, row]` holds the numbers of a row's own edge, then the
priors and the Q-values of its A actions; `ints[b, row]` the row's links, then the visits and the
child rows of its A actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Columns of `floats` [B, M, 4 + 2 A].
REWARD = 0  # of the transition into the row's state
DISCOUNT = 1  # factor on everything after that transition
MEAN = 2  # mean of the returns that were backed up through the state, its own estimate first
RAW = 3  # the model's estimate of the state
PRIOR = 4  # A probabilities of the policy, then A Q-values (0 until visited)

# Columns of `ints` [B, M, 6 + 2 A], int32.
PARENT = 0  # row of the state that the edge starts from
ACTION = 1  # action of the edge
DEPTH = 2  # edges from the root
VISITS = 3  # evaluations of the state and simulations through it
STATE = 4  # row that holds the state: the row itself, or an earlier row of an equal state
KIND = 5  # one of the kinds below
EDGE_VISITS = 6  # A counts (BLOCKED where illegal), then A child rows (NO_ROW until visited)

DECISION, CHANCE, END = 0, 1, 2  # kinds of states; nothing follows an END
UNLIMITED = 2**31  # a depth that no tree reaches
NO_ROW = -1
BLOCKED = -1

# Rows of `state` [9, B], int64: one search's progress at each root.
ASKED_PARENT = 0  # handles that the model is to step, one per waiting root, in root order
ASKED_ACTION = 1  # and the actions
SLOT = 2  # the root's place among them, or IDLE
LEAF_DEPTH = 3  # edges from the root to the state being asked for
NEXT_ROW = 4  # row of the next simulation
END_ROW = 5  # row at which the search ends
FIRST_ROW = 6  # row of the first simulation
NUM_CONSIDERED = 7  # Gumbel: actions that take part in the halving
PROBLEM = 8  # 1 where the model's answer cannot be used
STATE_ROWS = 9
IDLE = -1

# Rows of `work` [B, 3, A].
ROOT_SCORE = (
    0  # Gumbel: noise and logit of each root action, -inf where illegal; UCB: 0 lowest, 1 highest mean
)
SCRATCH = 1
OLD_VISITS = 2  # root visits that were there before this search

# Rules of choosing an action.
PUCT, GUMBEL, UCB = 0, 1, 2

# Entries of `switches`, int64.
NUM_SWITCHES = 7
RULE, MAX_DEPTH, EXPAND_ENDS, MERGE, EARLY_STOP, RESCALE, MIXED = range(NUM_SWITCHES)
# Entries of `constants`, floats.
NUM_CONSTANTS = 4
VALUE_SCALE, VISIT_OFFSET, EPSILON, TINY = range(NUM_CONSTANTS)


@dataclass(frozen=True)
class Buffers:
    """The arrays of one search; kernels write into them."""

    floats: np.ndarray
    """[B, M, 4 + 2 A], see above."""
    ints: np.ndarray
    """[B, M, 6 + 2 A], see above."""
    handles: np.ndarray
    """[B, M] int64, the model's names of the states."""
    path: np.ndarray
    """[B, P, 2] int32, rows and actions of the simulation under way."""
    state: np.ndarray
    """[9, B], see above."""
    work: np.ndarray
    """[B, 3, A], see above."""
    states_by_hash: np.ndarray
    """[B, H] int32 rows of distinct states by hash, when equal states are merged; H is a power of 2, or 0."""

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self.work.shape[2]


def allocate(
    first_row: np.ndarray,
    num_actions: int,
    num_simulations: int,
    max_depth: int | None,
    dtype: type,
    merge: bool,
) -> Buffers:
    """Make room for trees that hold `first_row` [B] rows and grow by one row a simulation."""
    batch = len(first_row)
    rows = int(first_row.max()) + num_simulations
    state = np.zeros((STATE_ROWS, batch), dtype=np.int64)
    state[SLOT] = IDLE
    state[NEXT_ROW] = state[FIRST_ROW] = first_row
    state[END_ROW] = first_row + num_simulations
    buckets = 2 << (rows - 1).bit_length() if merge else 0
    # Rows are written by the simulations that reach them, or by `clear_unused_rows`.
    return Buffers(
        floats=np.empty((batch, rows, PRIOR + 2 * num_actions), dtype=dtype),
        ints=np.empty((batch, rows, EDGE_VISITS + 2 * num_actions), dtype=np.int32),
        handles=np.empty((batch, rows), dtype=np.int64),
        path=np.empty((batch, min(max_depth or rows, rows), 2), dtype=np.int32),
        state=state,
        work=np.zeros((batch, 3, num_actions), dtype=dtype),
        states_by_hash=np.full((batch, buckets), NO_ROW, dtype=np.int32),
    )
