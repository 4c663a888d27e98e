"""Games of memory mapping to learn from that a local search found, not the network.

Letters: A accesses of the program.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from agents.games.memory.following import find_wishes, instead_of
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.network import SearchNetwork
from agents.search_agent.policy_play import play_policy
from agents.search_agent.self_play import Episode, Move

CHANGES, WORK = 4000, 600_000
"""Changes tried for a game: so many, or fewer in large programs (changes x accesses)."""
SMOOTHING = 0.05
"""Share of the target that is spread over all legal actions: many decisions hardly matter."""


def demonstrate(game: MemorySearchGame, network: SearchNetwork, seed: int) -> Episode:
    """A game by the best wishes that a local search of a fixed number of steps finds.

    It starts from the advice or from the network's likeliest moves, whichever end better. The same seed and
    network find the same game.
    """
    starts = [game.advice.action, own_wishes(game, network)]
    wishes = min(starts, key=lambda start: find_wishes(game.game, start, 0, seed)[1])
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


def own_wishes(game: MemorySearchGame, network: SearchNetwork) -> Int[np.ndarray, "A"]:
    """What is done at each access in the game of the network's likeliest moves, forced actions included."""
    ((actions, _),) = play_policy(game, network, [0.0], seed=0)
    book = game.solution(actions).book
    return book.words[book.access_action : book.access_action + len(game.advice.action)].copy()
