"""Memory mapping as the search agent plays it: every access of a program dropped, kept or copied.

Letters: B positions, A = 3 actions, K accesses shown, W time bins, H offset bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.games.guides import Guide
from agents.games.memory.advice import Advice, advise, sparing_game
from agents.games.memory.features import TIME_BINS, WINDOW, FeatureExtractor, Features
from agents.games.memory.game import MemoryGame
from agents.games.memory.hardware import TPU_V4I_LIKE
from agents.games.memory.heuristics import CLOCKS, Solution
from agents.games.memory.outlook import Outlook
from agents.games.memory.planning import StatePlanningModel
from agents.games.memory.program import Program
from agents.games.memory.rules import NUM_ACTIONS
from agents.games.memory.tree import StateTree
from agents.search_agent.observation import Observation, observe
from datasets.program_sources.random_models import random_model
from datasets.program_sources.torch_trace import trace_function
from datasets.programs import with_capacity

TREE_SHIFT = 32
RETURN_RANGE = (-0.5, 0.5)
"""How far a game's return, a share of the all-slow time, is from what `Outlook` estimates."""

VALUE_SHARE = 0.0
"""The learned correction errs by more than a decision is worth, so it only blurs the estimate."""


class MemorySearchGame:
    """`games.SearchGame` of one program under one clock. Positions are states of a `Forest`, int64 [B]."""

    return_range = RETURN_RANGE
    value_share = VALUE_SHARE
    num_actions = NUM_ACTIONS
    unit = 1.0

    def __init__(self, program: Program, clock_lambda: float = 1.0) -> None:
        self.advice = advise(program, clock_lambda)
        self.game = sparing_game(program, clock_lambda, self.advice)
        self.name = program.name
        self.start(1)

    def start(self, count: int) -> np.ndarray:
        """Nothing decided yet, `count` times; what was found out before is forgotten."""
        self.forest = Forest(self.game, count, self.advice)
        return self.forest.roots()

    def observe(self, positions: np.ndarray) -> Observation:
        """The current access; the ones to come and fast memory over time as context."""
        seen = self.forest.features(positions)
        rows, shown, numbers = seen.accesses.shape
        current = seen.accesses[:, 0]
        one_hot = np.broadcast_to(np.eye(NUM_ACTIONS, dtype=np.float32), (rows, NUM_ACTIONS, NUM_ACTIONS))
        repeated = np.repeat(current[:, None], NUM_ACTIONS, axis=1)
        actions = np.concatenate([one_hot, seen.consequences, repeated], axis=-1)
        when = np.broadcast_to(np.linspace(-WINDOW, WINDOW, TIME_BINS, dtype=np.float32), seen.lane.shape)
        bins = np.concatenate([np.swapaxes(seen.image, 1, 2), seen.lane[..., None], when[..., None]], axis=-1)
        context = np.zeros((rows, shown + TIME_BINS, numbers + bins.shape[-1]), dtype=np.float32)
        context[:, :shown, :numbers] = seen.accesses
        context[:, shown:, numbers:] = bins
        overall = np.concatenate([seen.overall, current, seen.actions.reshape(rows, -1)], axis=-1)
        estimate = self.forest.outlook(positions)
        return observe(overall, actions, context, self.legal_mask(positions), estimate)

    def legal_mask(self, positions: np.ndarray) -> Bool[np.ndarray, "B A"]:
        """Drop, keep and copy."""
        return self.forest.legal_mask(positions)

    def step(
        self, positions: np.ndarray, actions: Int[np.ndarray, " B"]
    ) -> tuple[np.ndarray, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Decide one access each, and whatever follows by force."""
        after = self.forest.step(positions, actions)
        return after, self.forest.total(after) - self.forest.total(positions), self.forest.is_done(after)

    def access(self, positions: np.ndarray) -> Int[np.ndarray, " B"]:
        """The access that each position has to decide."""
        return self.forest.access(positions)

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

    def __init__(self, game: MemoryGame, count: int, advice: Advice | None = None) -> None:
        advice = advice or advise(game.program, game.clock_lambda)
        self._trees = [StateTree(game) for _ in range(count)]
        self._extract = [FeatureExtractor(tree, advice) for tree in self._trees]
        self._outlook = [Outlook(tree, advice) for tree in self._trees]

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

    def access(self, handles: np.ndarray) -> Int[np.ndarray, " B"]:
        """The access to decide in each state."""
        return self._gather(handles, np.empty(len(handles), dtype=np.int64), StateTree.access)

    def outlook(self, handles: np.ndarray) -> Float[np.ndarray, " B"]:
        """What is still to be saved in each state, by `outlook`."""
        out = np.empty(len(handles))
        for number, rows, nodes in self._by_tree(handles):
            out[rows] = self._outlook[number](nodes)
        return out

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
    """Games to learn from: programs under all clocks, with more or less fast memory and bandwidth.

    Draws in which nothing is left to decide, as nothing fits, are passed over.
    """
    games, number = [], -1
    while len(games) < count:
        number += 1
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
        game = MemorySearchGame(replace(program, hardware=varied), clock)
        if game.legal_mask(game.start(1)).any():
            games.append(game)
    return games


def random_programs(count: int, seed: int) -> list[Program]:
    """Programs of small networks drawn at random, a tenth to half of which fits into fast memory at once."""
    programs = []
    for number in range(count):
        kind, (function, inputs) = random_model(seed + number)
        program = trace_function(function, inputs, f"{kind}-{number}", TPU_V4I_LIKE)
        share = np.random.default_rng((seed, number)).uniform(0.1, 0.5)
        programs.append(with_capacity(program, float(share)))
    return programs
