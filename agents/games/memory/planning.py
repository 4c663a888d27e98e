"""The exact rules of the memory game as a `PlanningModel`: what planners and the search agent play against.

Letters: B roots, M evaluated nodes, A actions (3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from agents.games.memory.game import MemoryGame
from agents.games.memory.rules import NUM_ACTIONS
from agents.games.memory.tree import StateTree
from planning.model import Evaluation


@dataclass(frozen=True)
class Guess:
    """What is thought of M states."""

    value: Float[np.ndarray, "M"]
    """Return expected from each state on, a share of the time with everything slow."""
    prior_logits: Float[np.ndarray, "M A"]
    """Unnormalised log-probabilities of a policy."""
    q_value: Float[np.ndarray, "M A"]
    """Return expected from each action, its own reward included."""


class Guide(Protocol):
    """A policy and a value of states, for example a network."""

    def guess(self, tree: StateTree, node: Int[np.ndarray, "M"]) -> Guess:
        """Judge M states of a tree, finished ones included (their value is not used)."""
        ...


class NoGuide:
    """Knows nothing: every action is as likely, nothing more is gained."""

    def guess(self, tree: StateTree, node: Int[np.ndarray, "M"]) -> Guess:
        """Judge M states."""
        shape = (len(node), NUM_ACTIONS)
        return Guess(np.zeros(len(node)), np.zeros(shape), np.zeros(shape))


class StatePlanningModel:
    """Plans from states of a tree that its owner keeps: an observation is an array of B of their numbers.

    No state is forgotten, so those of all plans stay valid until the owner calls `StateTree.keep_first`.
    """

    def __init__(self, tree: StateTree, guide: Guide | None = None) -> None:
        """Wrap a tree.

        Args:
            tree: states of one game.
            guide: prior and value of states; none is `NoGuide`.
        """
        self.tree = tree
        self._guide = NoGuide() if guide is None else guide

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
        before = self.tree.total(parent)
        node = self.tree.step(parent, action)
        return self._evaluate(node, self.tree.total(node) - before)

    def _evaluate(self, node: np.ndarray, reward: np.ndarray) -> Evaluation:
        guess = self._guide.guess(self.tree, node)
        done = self.tree.is_done(node)
        return Evaluation(
            node=node,
            reward=reward,
            discount=np.where(done, 0.0, 1.0),
            value=np.where(done, 0.0, guess.value),
            q_value=guess.q_value,
            prior_logits=guess.prior_logits,
            legal_mask=self.tree.legal_mask(node),
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
            guide: prior and value of states; none is `NoGuide`.
        """
        super().__init__(StateTree(game), guide)
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
