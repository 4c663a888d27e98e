"""Where the tree searches keep their trees: a few preallocated arrays, and what each place holds.

Letters: B roots, M rows of a tree, A actions, W words of a record, P steps of the longest path.

A row is made by one simulation and stands for one edge and the state it leads to. Its record holds
a header, then one slot for each action tried so far in the order of trying, then for each action a
key: untried actions are tried in descending order of their keys. (All untried actions of a state
score alike but for their prior, or at a Gumbel root their noise and logit, so the best untried one
is always the one of the highest key.) What a simulation reads of a state is therefore the header
and the few slots behind it, mostly one or two cache lines, and not A of everything.

`ints` and `floats` are two views of the same words, int32 beside float32 or int64 beside float64.
Rows are numbered through all trees: tree b owns rows b M to b M + M - 1, the first of them its root.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A record begins with what every visit reads: integers,
VISITS = 0  # evaluations of the state and simulations through it
STATE = 1  # row that holds the state: the row itself, or an earlier row of an equal state
KIND = 2  # one of the kinds below
NUM_TRIED = 3  # slots in use
NEXT_ACTION = 4  # the untried action of the highest key, or NO_ROW
# and floats.
REWARD = 5  # of the transition into the row's state
DISCOUNT = 6  # factor on everything after that transition
MEAN = 7  # mean of the returns that were backed up through the state, its own estimate first
NEXT_PRIOR = 8  # policy's probability of NEXT_ACTION
RAW = 9  # the model's estimate of the state
UNTRIED_PRIOR = 10  # policy's probability of all untried legal actions together
# Slot j starts at SLOTS + j SLOT_WORDS: integers, then floats.
SLOTS, SLOT_WORDS = 11, 5
SLOT_ACTION, SLOT_VISITS, SLOT_CHILD, SLOT_PRIOR, SLOT_Q_VALUE = range(SLOT_WORDS)
# Keys start at SLOTS + A SLOT_WORDS; -inf marks an action that was tried or is illegal.
# The last words, counted from the end, are integers that are seldom read.
PARENT = -1  # row of the state that the edge starts from
ACTION = -2  # action of the edge
DEPTH = -3  # edges from the root
NUM_LEGAL = -4  # legal actions
LAST_WORDS = 4
LINE_WORDS = 16  # words of float32 in a cache line

DECISION, CHANCE, END = 0, 1, 2  # kinds of states; nothing follows an END
NO_ROW = -1
UNLIMITED = 2**31 - 1  # a depth that no tree reaches

# Rows of `state` [STATE_ROWS, B], int64: one search's progress at each root.
STATE_ROWS = 10
(
    ASKED_PARENT,  # handles that the model is to step, one per waiting root, in root order
    ASKED_ACTION,  # and the actions
    ANSWER,  # the root's place among them, or IDLE
    LEAF_DEPTH,  # edges from the root to the state being asked for
    LEAF_ACTION,  # and the action that leads to it
    NEXT_ROW,  # row of the next simulation
    END_ROW,  # row at which the search ends
    FIRST_ROW,  # row of the first simulation
    NUM_CONSIDERED,  # Gumbel: actions that take part in the halving
    PROBLEM,  # 1 where the model's answer cannot be used
) = range(STATE_ROWS)
IDLE = -1

# Rows of `work` [B, WORK_ROWS, A], floats.
WORK_ROWS = 4
(
    ROOT_PRIOR,  # policy at the root
    ROOT_SCORE,  # Gumbel: noise and logit of each action; UCB: lowest and highest mean of the tree
    OLD_VISITS,  # by slot, root visits that were there before this search
    SCRATCH,
) = range(WORK_ROWS)

# Entries of `switches`, int64, and `constants`, floats.
PUCT, GUMBEL, UCB = 0, 1, 2
NUM_SWITCHES = 7
RULE, MAX_DEPTH, EXPAND_ENDS, MERGE, EARLY_STOP, RESCALE, MIXED = range(NUM_SWITCHES)
NUM_CONSTANTS = 4
VALUE_SCALE, VISIT_OFFSET, EPSILON, TINY = range(NUM_CONSTANTS)

LOWEST_SCORE = -1e9
"""Floor under the scores of legal root actions in the Gumbel rule."""
UCB_LOWEST_PRIOR = 1e-12
"""Actions of a lower prior are never tried by the UCB rule."""
HASH_DEPTH, HASH_FACTOR = 0x1E3779B97F4A7C15, 0x2545F4914F6CDD1D
"""Odd numbers that spread handles over buckets; both fit int64."""

_LINE = 64
"""Bytes of a cache line."""


@dataclass(frozen=True)
class Buffers:
    """The arrays of one search; kernels write into them."""

    floats: np.ndarray
    """[B M, W] records, see above."""
    ints: np.ndarray
    """[B M, W] the same words as integers."""
    handles: np.ndarray
    """[B M] int64, the model's names of the states."""
    path: np.ndarray
    """[B, P, 2] rows and slots of the simulation under way."""
    state: np.ndarray
    """[STATE_ROWS, B] int64, see above."""
    work: np.ndarray
    """[B, WORK_ROWS, A] floats, see above."""
    states_by_hash: np.ndarray
    """[B, H] rows of distinct states by hash where equal states are merged; H is a power of 2, or 0."""

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self.work.shape[2]

    @property
    def root_rows(self) -> np.ndarray:
        """[B] rows of the roots."""
        batch = len(self.work)
        return np.arange(batch) * (len(self.floats) // batch)


def allocate(
    rows_used: np.ndarray,
    num_actions: int,
    num_simulations: int,
    max_depth: int | None,
    dtype: type,
    merge: bool,
) -> Buffers:
    """Make room for trees that hold `rows_used` [B] rows and grow by one row a simulation.

    Records are written by the simulations that reach them, and hold nothing of meaning before.
    """
    batch, rows = len(rows_used), int(rows_used.max()) + num_simulations
    floats = _aligned(batch * rows, SLOTS + (SLOT_WORDS + 1) * num_actions + LAST_WORDS, dtype)
    ints = floats.view(np.int32 if floats.itemsize == 4 else np.int64)
    state = np.zeros((STATE_ROWS, batch), dtype=np.int64)
    state[ANSWER] = IDLE
    state[NEXT_ROW] = state[FIRST_ROW] = np.arange(batch) * rows + rows_used
    state[END_ROW] = state[FIRST_ROW] + num_simulations
    buckets = 2 << (rows - 1).bit_length() if merge else 0
    return Buffers(
        floats=floats,
        ints=ints,
        handles=np.empty(batch * rows, dtype=np.int64),
        path=np.empty((batch, min(max_depth or rows, rows), 2), dtype=np.int32),
        state=state,
        work=np.zeros((batch, WORK_ROWS, num_actions), dtype=dtype),
        states_by_hash=np.full((batch, buckets), NO_ROW, dtype=np.int32),
    )


def _aligned(rows: int, words: int, dtype: type) -> np.ndarray:
    """An uninitialised array [rows, at least `words`] whose rows begin with a cache line.

    A row has an odd number of lines: with an even one, the rows' beginnings would share few cache sets.
    """
    size = np.dtype(dtype).itemsize
    words = (-(-words * size // _LINE) | 1) * _LINE // size
    memory = np.empty(rows * words * size + _LINE, dtype=np.uint8)
    first = -memory.ctypes.data % _LINE
    return memory[first : first + rows * words * size].view(dtype).reshape(rows, words)
