"""What merging equal states saves on a game with exact rules: noughts and crosses, all 5,478 positions.

A position's value is 0 until the game is over and all moves are equally likely beforehand, so that the
search has to find out everything itself. A state that is merged into an equal one needs no evaluation of
its own: a model of exact rules that evaluates by a network may keep its answers by handle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planning import TreeOptions, muzero
from planning.table_model import TableModel

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@dataclass(frozen=True)
class Saving:
    """Searches of one length from many positions."""

    simulations: int
    merged: bool
    evaluated: float
    """Mean number of states for which a root needs an evaluation: all that are not merged into others."""
    right: float
    """Share of the roots at which the move taken is one of the best."""


def noughts_and_crosses() -> tuple[TableModel, np.ndarray]:
    """The game as a table, and the value of each position to the player to move under best play."""
    places, boards = {(0,) * 9: 0}, [(0,) * 9]
    moves: list[list[int]] = []
    for board in boards:  # grows while it is walked through
        after = []
        for square in range(9):
            following = tuple(-stone for stone in (*board[:square], 1, *board[square + 1 :]))
            if board[square] or _lost(board):
                after.append(0)
                continue
            if following not in places:
                places[following] = len(boards)
                boards.append(following)
            after.append(places[following])
        moves.append(after)
    board, next_state = np.array(boards), np.array(moves)
    lost, full = np.array([_lost(tuple(row)) for row in board]), (board != 0).all(axis=1)
    legal_mask = (board == 0) & ~lost[:, None]
    ends = lost | full
    model = TableModel(
        next_state=next_state,
        reward=np.where(legal_mask & lost[next_state], 1.0, 0.0),
        discount=np.where(ends[next_state], 0.0, -1.0),
        value=np.zeros(len(board)),
        q_value=np.zeros(board.shape),
        prior_logits=np.zeros(board.shape),
        legal_mask=legal_mask,
    )
    value = np.zeros(len(board))
    for state in np.argsort(-(board != 0).sum(axis=1), kind="stable"):
        if legal_mask[state].any():
            value[state] = best_returns(model, value, state).max()
    return model, value


def _lost(board: tuple[int, ...]) -> bool:
    """Whether the other player, -1, has three in a row."""
    return any(all(board[square] == -1 for square in line) for line in LINES)


def best_returns(model: TableModel, value: np.ndarray, state: int) -> np.ndarray:
    """Return of each move under best play, -inf where illegal."""
    returns = model.reward[state] + model.discount[state] * value[model.next_state[state]]
    return np.where(model.legal_mask[state], returns, -np.inf)


def measure(lengths: tuple[int, ...] = (50, 100, 200, 400, 800, 1600)) -> list[Saving]:
    """Search from all positions of at most 3 stones at which a move can be wrong, merged and not."""
    model, value = noughts_and_crosses()
    returns = np.array([best_returns(model, value, state) for state in range(len(value))])
    legal = model.legal_mask
    best = returns.max(axis=1)
    matters = np.where(legal, returns, np.inf).min(axis=1) < best
    roots = np.flatnonzero(matters & (legal.sum(axis=1) >= 6))
    savings = []
    for simulations in lengths:
        for merged in (False, True):
            options = TreeOptions(precision="float64", merge_equal_states=merged)
            result = muzero(model, roots, num_simulations=simulations, options=options)
            tree = result.tree
            holds = (tree.visits > 0) & (tree.state == np.arange(tree.state.shape[1]))
            right = returns[roots, result.action] == best[roots]
            evaluated = float(holds.sum(axis=1).mean() - 1)
            savings.append(Saving(simulations, merged, evaluated, float(right.mean())))
    return savings
