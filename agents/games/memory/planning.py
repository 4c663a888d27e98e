"""The exact rules of the memory game as a `PlanningModel`: what planners and the search agent play against.

Letters: B roots, M evaluated nodes, A actions (3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.games.guides import Guide, UniformGuide
from agents.games.memory.game import MemoryGame
from agents.games.memory.rules import NUM_ACTIONS
from agents.games.memory.tree import StateTree
from planning.model import Evaluation


class States(Protocol):
    """States of a game by number: those of a `StateTree`, or of several."""

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"], /) -> Int[np.ndarray, "M"]:
        """The states that one legal action each leads to."""
        ...

    def total(self, node: Int[np.ndarray, "M"], /) -> Float[np.ndarray, "M"]:
        """Return from the start to each state."""
        ...

    def is_done(self, node: Int[np.ndarray, "M"], /) -> Bool[np.ndarray, "M"]:
        """Whether the game is over in each state."""
        ...

    def legal_mask(self, node: Int[np.ndarray, "M"], /) -> Bool[np.ndarray, "M A"]:
        """What is legal in each state."""
        ...


class StatePlanningModel:
    """Plans from states that their owner keeps: an observation is an array of B of their numbers.

    No state is forgotten, so those of all plans stay valid until the owner calls `StateTree.keep_first`.
    """

    def __init__(self, states: States, guide: Guide | None = None) -> None:
        """Wrap states of one game.

        Args:
            states: a tree of them, or several.
            guide: prior and value of their numbers; none knows nothing.
        """
        self._states = states
        self._guide = UniformGuide(NUM_ACTIONS) if guide is None else guide

    @property
    def num_actions(self) -> int:
        """Drop, keep (NoCopy) and copy."""
        return NUM_ACTIONS

    def root(self, observation: Sequence) -> Evaluation:
        """Look at B states of the tree."""
        node = np.asarray(observation, dtype=np.int64)
        return self._evaluate(node, np.zeros(len(node)))

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"]) -> Evaluation:
        """Take one action in each of M states.

        Raises:
            PlanningError: an action is not legal.
        """
        before = self._states.total(parent)
        node = self._states.step(parent, action)
        return self._evaluate(node, self._states.total(node) - before)

    def _evaluate(self, node: np.ndarray, reward: np.ndarray) -> Evaluation:
        value = self._guide.values(node)
        done = self._states.is_done(node)
        return Evaluation(
            node=node,
            reward=reward,
            discount=np.where(done, 0.0, 1.0),
            value=np.where(done, 0.0, value),
            q_value=np.repeat(value[:, None], NUM_ACTIONS, axis=1),
            prior_logits=self._guide.prior_logits(node),
            legal_mask=self._states.legal_mask(node),
        )


class MemoryPlanningModel(StatePlanningModel):
    """Plans from the decisions so far: an observation is the list of actions of each of B roots.

    Only actions count that were taken where there was something to choose. A root that goes on from the one
    before costs only the new decisions. Handles are valid until the next `root`.
    """

    def __init__(self, game: MemoryGame, guide: Guide | None = None) -> None:
        """Begin a tree of states of a game.

        Args:
            game: program and clock.
            guide: prior and value of numbers of states; none knows nothing.
        """
        self.tree = StateTree(game)
        super().__init__(self.tree, guide)
        self._history: list[int] = []
        self._line = [0]

    def root(self, observation: Sequence[Sequence[int]]) -> Evaluation:
        """Start from the states that B histories lead to and forget all others.

        Raises:
            PlanningError: a history holds an action that was not legal.
        """
        histories = [[int(action) for action in history] for history in observation]
        shared = _shared_length(histories)
        self._follow(histories[0][:shared] if histories else [])
        roots = []
        for history in histories:
            node = np.array(self._line[-1:])
            for action in history[shared:]:
                node = self.tree.step(node, np.array([action]))
            roots.append(int(node[0]))
        return super().root(roots)

    def _follow(self, history: list[int]) -> None:
        """Keep only the states along a history: the first of the tree, so they stay valid over many roots."""
        same = _shared_length([history, self._history])
        self._line = self._line[: same + 1]
        self.tree.keep_first(self._line[-1] + 1)
        self._history = history[:same]
        for action in history[same:]:
            reached = self.tree.step(np.array(self._line[-1:]), np.array([action]))
            self._line.append(int(reached[0]))
            self._history.append(action)


def _shared_length(histories: list[list[int]]) -> int:
    """Number of leading actions that all histories have in common."""
    if not histories:
        return 0
    length = 0
    for actions in zip(*histories, strict=False):
        if any(action != actions[0] for action in actions):
            break
        length += 1
    return length
