"""What a network sees of a memory game: fixed-size float32 arrays for programs of any size (SPEC section 6).

Letters: M states, K accesses shown (17), F numbers of an access, G of the state, A actions (3), C numbers of
an action, H offset bins (32), W time bins (32), P actions shown (8).

The unit of time is what it takes to fill fast memory by the copy engine, that of sizes is fast memory, that
of savings a thousandth of the time with everything slow; what can be large is shown as log(1 + x).

"Advised", "relaxation" and "rank" are from `advice`: what a heuristic would do, and what a plan without
offsets would hold. "Its run can go on" and "lost by others" are known only with offsets by the sparing rule,
else 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from agents.games.memory.advice import Advice, advise
from agents.games.memory.blocks import blocks_between
from agents.games.memory.book import (
    FIRST_COPY,
    HARM,
    LOG_SIZE,
    NONE,
    PICOSECONDS,
    SAVED,
    UNDECIDED,
    undo,
)
from agents.games.memory.compiled import kernel, part
from agents.games.memory.nodes import ACCESS, MASK, move_to
from agents.games.memory.rules import COPY, NUM_ACTIONS, attempt
from agents.games.memory.sparing import is_live
from agents.games.memory.tables import (
    BYTES,
    COPY_TIME,
    IS_GROUP,
    IS_OUTPUT,
    IS_STORED,
    IS_WRITE,
    MAY_BE_FAST,
    NEXT,
    PLACES,
    STEP,
    UNIT,
)
from agents.games.memory.tree import StateTree

SHOWN, OFFSET_BINS, TIME_BINS, PAST_ACTIONS = 17, 32, 32, 8
WINDOW = 2.0
"""Image and lane show this long before the current access, in units of time; the image as long after."""

ACCESS_FEATURES = (
    "exists", "size", "share of the buffer", "is a write", "was in slow memory at the start", "is a group",
    "is an output", "may be in fast memory", "copy time", "saving", "uses left", "time to the next use",
    "held to the next use by the relaxation", "held from the last use by the relaxation",
    "rank of holding to the next use", "rank of holding from the last use",
    "advised: drop", "advised: keep", "advised: copy",
    "time from the current access", "may still be anywhere", "is in a block", "is in slow memory",
    "its run can go on",
)  # fmt: skip
GLOBAL_FEATURES = (
    "share of accesses done", "saved so far, share of all slow", "free at this time",
    "largest gap at this time", "copy engine busy in the window", "clock lambda",
    "drop is legal", "keep is legal", "copy is legal",
)  # fmt: skip


ACTION_FEATURES = (
    "is legal", "is advised", "saves now", "lost by others", "saves more than others lose",
    "books a write-back", "room taken before the use",
)  # fmt: skip
"""What an action does at once, found by taking it and taking it back."""
STATIC = 19
"""Leading `ACCESS_FEATURES` that are the same in all states."""


@dataclass(frozen=True)
class Features:
    """Features of M states; all zero where the game is finished."""

    overall: Float[np.ndarray, "M G"]
    """`GLOBAL_FEATURES`."""
    accesses: Float[np.ndarray, "M K F"]
    """`ACCESS_FEATURES` of the current access and the next ones."""
    consequences: Float[np.ndarray, "M A C"]
    """`ACTION_FEATURES` of each action."""
    image: Float[np.ndarray, "M H W"]
    """Share of each cell of fast memory (offset, time) that is taken; the current time is in the middle."""
    lane: Float[np.ndarray, "M W"]
    """Share of each time bin up to the current access in which the copy engine is busy."""
    actions: Float[np.ndarray, "M P A"]
    """The last actions at accesses before, the latest first, one-hot; forced ones included."""


class FeatureExtractor:
    """Features of the states of one tree."""

    def __init__(self, tree: StateTree, advice: Advice | None = None) -> None:
        """Prepare what does not change while the program is played.

        Args:
            tree: the states.
            advice: of the program under the game's clock, if it is at hand.
        """
        self._tree = tree
        self._advice = advice or advise(tree.game.program, tree.game.clock_lambda)
        hardware = tree.game.program.hardware
        self._time = max(hardware.fast_capacity, 1) / hardware.bw_dma * 1e9
        self._static = _static_features(tree, self._time, self._advice)

    def __call__(self, node: Int[np.ndarray, "M"]) -> Features:
        """Look at M states."""
        count = len(node)
        features = Features(
            overall=np.zeros((count, len(GLOBAL_FEATURES)), dtype=np.float32),
            accesses=np.zeros((count, SHOWN, len(ACCESS_FEATURES)), dtype=np.float32),
            consequences=np.zeros((count, NUM_ACTIONS, len(ACTION_FEATURES)), dtype=np.float32),
            image=np.zeros((count, OFFSET_BINS, TIME_BINS), dtype=np.float32),
            lane=np.zeros((count, TIME_BINS), dtype=np.float32),
            actions=np.zeros((count, PAST_ACTIONS, NUM_ACTIONS), dtype=np.float32),
        )
        game = self._tree.game
        self._tree.make_room_to_look()
        _observe(
            self._tree.book, game.tables, self._tree.nodes, np.asarray(node, dtype=np.int64), self._static,
            self._time, game.all_slow_seconds, game.clock_lambda,
            self._advice.action, features.overall, features.accesses, features.consequences, features.image,
            features.lane, features.actions,
        )  # fmt: skip
        return features


def _static_features(tree: StateTree, time: float, advice: Advice) -> np.ndarray:
    """The first `STATIC` `ACCESS_FEATURES` of every access, float32."""
    game = tree.game
    tables = game.tables
    access, unit = tables.access, tables.unit[tables.access[:, UNIT]]
    alignment = game.program.hardware.alignment
    following = access[:, NEXT]
    gap = tables.clock[access[np.maximum(following, 0), STEP]] - tables.clock[access[:, STEP] + 1]
    uses, before = np.zeros(len(access)), np.full(len(access), NONE)
    before[following[following != NONE]] = np.flatnonzero(following != NONE)
    has_before, earlier = before != NONE, np.maximum(before, 0)
    for row in range(len(access) - 1, -1, -1):
        uses[row] = 0 if following[row] == NONE else uses[following[row]] + 1
    columns = [
        np.ones(len(access)),
        np.minimum(unit[:, PLACES] / max(tables.capacity, 1), 4),
        np.minimum(access[:, BYTES] / (unit[:, PLACES] * alignment), 1),
        access[:, IS_WRITE],
        unit[:, IS_STORED],
        unit[:, IS_GROUP],
        unit[:, IS_OUTPUT],
        unit[:, MAY_BE_FAST],
        np.minimum(unit[:, COPY_TIME] / time, 4),
        np.log1p(game.benefit / game.all_slow_seconds * 1e3),
        np.log1p(uses),
        np.where(following == NONE, 0, np.log1p(np.maximum(gap, 0) / time)),
        advice.held,
        has_before & advice.held[earlier],
        advice.rank,
        np.where(has_before, advice.rank[earlier], 0),
        *(advice.action == action for action in range(NUM_ACTIONS)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


@kernel
def _observe(
    book, tables, nodes, states, static, time, all_slow_seconds, clock_lambda, advised, overall, accesses,
    consequences, image, lane, actions,
):  # fmt: skip
    for index in range(len(states)):
        if nodes.row[states[index], MASK] == 0:
            continue
        move_to(book, nodes, states[index])
        current = nodes.row[states[index], ACCESS]
        now = tables.clock[tables.access[current, STEP]]
        _look_at_accesses(book, tables, static, current, now, time, accesses[index])
        unit_of_saving = PICOSECONDS * all_slow_seconds / 1e3
        mask = nodes.row[states[index], MASK]
        _look_at_actions(
            book, tables, current, mask, advised[current], time, unit_of_saving, consequences[index]
        )
        _paint(book, tables, now, time, image[index])
        busy = _fill_lane(book, now, time, lane[index])
        free, gap = _free_places(book, tables, now)
        row = overall[index]
        row[0] = current / len(tables.access)
        row[1] = book.words[SAVED] / PICOSECONDS / all_slow_seconds
        row[2] = free / tables.capacity
        row[3] = gap / tables.capacity
        row[4] = busy
        row[5] = clock_lambda
        for action in range(NUM_ACTIONS):
            row[6 + action] = (nodes.row[states[index], MASK] >> action) & 1
        for back in range(min(PAST_ACTIONS, current)):
            actions[index, back, book.words[book.access_action + current - 1 - back]] = 1


@part
def _look_at_accesses(book, tables, static, current, now, time, rows):
    words = book.words
    for index in range(min(SHOWN, len(tables.access) - current)):
        access = current + index
        unit = tables.access[access, UNIT]
        rows[index, :STATIC] = static[access]
        rows[index, STATIC] = np.log1p((tables.clock[tables.access[access, STEP]] - now) / time)
        rows[index, STATIC + 1] = words[book.unit_decision + unit] == UNDECIDED
        rows[index, STATIC + 2] = words[book.unit_run + unit] != NONE
        rows[index, STATIC + 3] = words[book.unit_stored + unit] <= now
        rows[index, STATIC + 4] = tables.is_sparing and is_live(book, unit)


@part
def _look_at_actions(book, tables, access, mask, advised, time, unit_of_saving, rows):
    """Take each legal action and take it back."""
    words = book.words
    unit = tables.access[access, UNIT]
    for action in range(NUM_ACTIONS):
        if not (mask >> action) & 1:
            continue
        mark, saved, harm = words[LOG_SIZE], words[SAVED], words[HARM]
        back = words[book.unit_back + unit]
        attempt(book, tables, access, action, NONE)
        row = rows[action]
        gain, loss = (words[SAVED] - saved) / unit_of_saving, (words[HARM] - harm) / unit_of_saving
        row[0] = 1
        row[1] = action == advised
        row[2] = np.log1p(gain)
        row[3] = np.log1p(loss)
        row[4] = np.sign(gain - loss) * np.log1p(abs(gain - loss))
        row[5] = words[book.unit_back + unit] != back
        run = words[book.unit_run + unit]
        if action == COPY and run != NONE:
            row[6] = np.log1p(
                (tables.clock[tables.access[access, STEP]] - words[book.block_start + run]) / time
            )
        undo(book, mark)


@part
def _paint(book, tables, now, time, image):
    """Add up what blocks take of the cells around the current time."""
    words = book.words
    start = now - WINDOW * time
    width = 2 * WINDOW * time / TIME_BINS
    height = tables.capacity / OFFSET_BINS
    for index in range(blocks_between(book, max(0, int(start)), int(now + WINDOW * time) + 1)):
        block = book.keys[index]
        left = max(0.0, (words[book.block_start + block] - start) / width)
        right = min(float(TIME_BINS), (words[book.block_end + block] - start) / width)
        low = words[book.block_offset + block] / height
        high = low + tables.unit[words[book.block_unit + block], PLACES] / height
        for row in range(int(low), min(OFFSET_BINS, int(np.ceil(high)))):
            share = min(high, row + 1.0) - max(low, float(row))
            for column in range(int(left), min(TIME_BINS, int(np.ceil(right)))):
                image[row, column] += share * (min(right, column + 1.0) - max(left, float(column)))


@part
def _fill_lane(book, now, time, lane):
    """Add up the copies in each time bin; return the busy share of them all."""
    words = book.words
    start = now - WINDOW * time
    width = WINDOW * time / TIME_BINS
    copy = words[FIRST_COPY]
    total = 0.0
    # The latest copies are wanted, and the queue is a list from the first: begin at the cell of the window.
    for cell in range(int(max(start, 0)) >> book.copy_shift, -1, -1):
        if words[book.copy_heads + cell] != NONE:
            copy = words[book.copy_heads + cell]
            break
    while copy != NONE and words[book.copy_start + copy] < now:
        left = max(0.0, (words[book.copy_start + copy] - start) / width)
        right = min(float(TIME_BINS), (words[book.copy_end + copy] - start) / width)
        for column in range(int(left), min(TIME_BINS, int(np.ceil(right)))):
            share = min(right, column + 1.0) - max(left, float(column))
            lane[column] += share
            total += share / TIME_BINS
        copy = words[book.copy_after + copy]
    return total


@part
def _free_places(book, tables, now):
    """Places of fast memory that are free now, and the largest gap between those taken."""
    words, keys = book.words, book.keys
    number = blocks_between(book, now, now + 1)
    for index in range(number):
        block = keys[index]
        offset = words[book.block_offset + block]
        keys[index] = (offset << 31) + offset + tables.unit[words[book.block_unit + block], PLACES]
    keys[:number].sort()
    free, largest, until = tables.capacity, 0, 0
    for index in range(number):
        offset, after = keys[index] >> 31, keys[index] & 0x7FFFFFFF
        largest = max(largest, offset - until)
        until = max(until, after)
        free -= after - offset
    return free, max(largest, tables.capacity - until)
