"""Games of memory mapping to learn from that a local search found, not the network.

Letters: A accesses of the program.
"""

from __future__ import annotations

import numpy as np

from agents.games.memory.following import find_wishes, instead_of
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.self_play import Episode, Move

CHANGES, WORK = 4000, 600_000
"""Changes tried for a game: so many, or fewer in large programs (changes x accesses)."""
SMOOTHING = 0.05
"""Share of the target that is spread over all legal actions: many decisions hardly matter."""


def demonstrate(game: MemorySearchGame, seed: int) -> Episode:
    """A game by the best wishes that a local search of a fixed number of steps finds.

    It starts from the advice. The same seed finds the same game.
    """
    wishes = game.advice.action
    changes = min(CHANGES, WORK // max(len(wishes), 1))
    wishes, _ = find_wishes(game.game, wishes, changes, seed)
    positions, moves, done = game.start(1), [], False
    while not done:
        seen = game.observe(positions)
        action = instead_of(int(wishes[game.access(positions)[0]]), seen.legal_mask[0])
        policy = SMOOTHING * seen.legal_mask[0] / seen.legal_mask[0].sum()
        policy[action] += 1 - SMOOTHING
        positions, rewards, over = game.step(positions, np.array([action]))
        moves.append(Move(seen, action, float(rewards[0]), policy))
        done = bool(over[0])
    return Episode.of(moves)
