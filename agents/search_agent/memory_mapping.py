"""Memory mapping as the search agent plays it: every access of a program dropped, kept or copied.

Letters: B positions, A = 3 actions, K accesses shown, W time bins, H offset bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.games.guides import Guide
from agents.games.memory.features import TIME_BINS, WINDOW, FeatureExtractor, Features
from agents.games.memory.game import MemoryGame
from agents.games.memory.heuristics import CLOCKS, Solution
from agents.games.memory.planning import StatePlanningModel
from agents.games.memory.program import Program
from agents.games.memory.rules import NUM_ACTIONS
from agents.games.memory.tree import StateTree
from agents.search_agent.observation import Observation, observe

TREE_SHIFT = 32
RETURN_RANGE = (-0.5, 1.0)
"""A game returns the share of the all-slow time that its plan saves; waiting for copies may cost some."""


class MemorySearchGame:
    """`games.SearchGame` of one program under one clock. Positions are states of a `Forest`, int64 [B]."""

    return_range = RETURN_RANGE
    num_actions = NUM_ACTIONS
    unit = 1.0

    def __init__(self, program: Program, clock_lambda: float = 1.0) -> None:
        self.game = MemoryGame(program, clock_lambda)
        self.name = program.name
        self.start(1)

    def start(self, count: int) -> np.ndarray:
        """Nothing decided yet, `count` times; what was found out before is forgotten."""
        self.forest = Forest(self.game, count)
        return self.forest.roots()

    def observe(self, positions: np.ndarray) -> Observation:
        """The current access; the ones to come and fast memory over time as context."""
        seen = self.forest.features(positions)
        rows, shown, numbers = seen.accesses.shape
        current = seen.accesses[:, 0]
        one_hot = np.broadcast_to(np.eye(NUM_ACTIONS, dtype=np.float32), (rows, NUM_ACTIONS, NUM_ACTIONS))
        actions = np.concatenate([one_hot, np.repeat(current[:, None], NUM_ACTIONS, axis=1)], axis=-1)
        when = np.broadcast_to(np.linspace(-WINDOW, WINDOW, TIME_BINS, dtype=np.float32), seen.lane.shape)
        bins = np.concatenate([np.swapaxes(seen.image, 1, 2), seen.lane[..., None], when[..., None]], axis=-1)
        context = np.zeros((rows, shown + TIME_BINS, numbers + bins.shape[-1]), dtype=np.float32)
        context[:, :shown, :numbers] = seen.accesses
        context[:, shown:, numbers:] = bins
        overall = np.concatenate([seen.overall, current, seen.actions.reshape(rows, -1)], axis=-1)
        return observe(overall, actions, context, self.legal_mask(positions))

    def legal_mask(self, positions: np.ndarray) -> Bool[np.ndarray, "B A"]:
        """Drop, keep and copy."""
        return self.forest.legal_mask(positions)

    def step(
        self, positions: np.ndarray, actions: Int[np.ndarray, " B"]
    ) -> tuple[np.ndarray, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Decide one access each, and whatever follows by force."""
        after = self.forest.step(positions, actions)
        return after, self.forest.total(after) - self.forest.total(positions), self.forest.is_done(after)

    def model(self, guide: Guide | None) -> StatePlanningModel:
        """The exact rules, in the forest of positions itself."""
        return StatePlanningModel(self.forest, guide)

    def score(self, total: float) -> float:
        """Simulated time in percent of that with everything slow."""
        return 100 * (1 - total)

    def solution(self, actions: Int[np.ndarray, " T"]) -> Solution:
        """The plan of a whole game."""
        tree, node = StateTree(self.game), np.zeros(1, dtype=np.int64)
        for action in actions:
            node = tree.step(node, np.array([action]))
        return tree.solution(int(node[0]))


class Forest:
    """States of several plays of one game, each play in a tree of its own.

    Going from one state of a tree to another costs as many writes as lie between them, so plays that differ
    from their first move on are kept apart. A handle is a tree's number and, below it, the state's.
    """

    def __init__(self, game: MemoryGame, count: int) -> None:
        self._trees = [StateTree(game) for _ in range(count)]
        self._extract = [FeatureExtractor(tree) for tree in self._trees]

    def roots(self) -> Int[np.ndarray, " B"]:
        """The start in each tree."""
        return np.arange(len(self._trees), dtype=np.int64) << TREE_SHIFT

    def step(self, handles: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """States after one action each."""
        after = np.empty(len(handles), dtype=np.int64)
        for number, rows, nodes in self._by_tree(handles):
            after[rows] = self._trees[number].step(nodes, actions[rows]) + (number << TREE_SHIFT)
        return after

    def total(self, handles: np.ndarray) -> Float[np.ndarray, " B"]:
        """Return from the start to each state."""
        return self._gather(handles, np.empty(len(handles)), StateTree.total)

    def is_done(self, handles: np.ndarray) -> Bool[np.ndarray, " B"]:
        """Whether each game is over."""
        return self._gather(handles, np.empty(len(handles), dtype=np.bool_), StateTree.is_done)

    def legal_mask(self, handles: np.ndarray) -> Bool[np.ndarray, "B A"]:
        """What is legal in each state."""
        out = np.empty((len(handles), NUM_ACTIONS), dtype=np.bool_)
        return self._gather(handles, out, StateTree.legal_mask)

    def features(self, handles: np.ndarray) -> Features:
        """What there is to see of each state, rows in order."""
        parts, order = [], []
        for number, rows, nodes in self._by_tree(handles):
            parts.append(self._extract[number](nodes))
            order.append(rows)
        back = np.argsort(np.concatenate(order))
        columns = (
            np.concatenate([getattr(part, field.name) for part in parts])[back] for field in fields(Features)
        )
        return Features(*columns)

    def _gather(
        self, handles: np.ndarray, out: np.ndarray, ask: Callable[[StateTree, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        for number, rows, nodes in self._by_tree(handles):
            out[rows] = ask(self._trees[number], nodes)
        return out

    def _by_tree(self, handles: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Number of each tree that occurs, its rows, and its states in these."""
        trees = handles >> TREE_SHIFT
        for number in np.unique(trees).tolist():
            rows = np.nonzero(trees == number)[0]
            yield number, rows, handles[rows] & ((1 << TREE_SHIFT) - 1)


def varied_programs(programs: Sequence[Program], count: int, seed: int) -> list[MemorySearchGame]:
    """Games to learn from: programs under all clocks, with more or less fast memory and bandwidth."""
    games = []
    for number in range(count):
        random = np.random.default_rng((seed, number))
        program = programs[number % len(programs)]
        hardware = program.hardware
        places = int(hardware.fast_capacity * 2.0 ** random.uniform(-1, 1) / hardware.alignment)
        varied = replace(
            hardware,
            fast_capacity=max(places, 1) * hardware.alignment,
            bw_dma=hardware.bw_dma * 2.0 ** random.uniform(-1, 1),
        )
        clock = CLOCKS[int(random.integers(len(CLOCKS)))]
        games.append(MemorySearchGame(replace(program, hardware=varied), clock))
    return games
