"""Playing memory mapping by the network while there is time: all clocks first, then the best ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from agents.games.memory.heuristics import CLOCKS, Solution
from agents.games.memory.program import Program
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.network import SearchNetwork
from agents.search_agent.policy_play import play_policy
from agents.search_agent.self_play import PlayConfig, play

SEARCH = PlayConfig(num_simulations=8, gumbel_scale=0.1)
"""Every second batch on the best clocks is played by search; its games differ by a little noise."""
GAMES_AT_ONCE = 4
TEMPERATURES = (0.0, 0.2)
"""Of the first games under each clock: the likeliest moves, and somewhat varied ones."""
KEPT_CLOCKS = 2
"""Clocks that are played on."""


def play_by_network(
    program: Program, network: SearchNetwork, seconds: float, seed: int, found: Callable[[Solution], None]
) -> None:
    """Play games until the time is over; every one that beats those before is handed over.

    After a batch drawn from the policy under each clock, the best two clocks take turns, each with a batch
    drawn from the policy and one by search.

    Args:
        program: what to plan.
        network: in evaluation mode.
        seconds: wall time.
        seed: of the draws; it also says which clock is first.
        found: takes a plan.
    """
    deadline, best = time.perf_counter() + seconds, {}
    lowest, turn, longest = float("inf"), 0, 0
    games: dict[float, MemorySearchGame] = {}
    while time.perf_counter() < deadline:
        if turn < len(CLOCKS):
            clock, temperatures = CLOCKS[(turn + seed) % len(CLOCKS)], list(TEMPERATURES)
            games[clock] = MemorySearchGame(program, clock)
        else:
            clock = sorted(best, key=lambda one: best[one])[turn % min(KEPT_CLOCKS, len(best))]
            temperatures = np.random.default_rng((seed, turn)).uniform(0.05, 0.5, size=GAMES_AT_ONCE).tolist()
        by_search = turn >= len(CLOCKS) and turn % (2 * KEPT_CLOCKS) >= KEPT_CLOCKS
        batch = _search if by_search else _draw
        for actions, total in batch(games[clock], network, temperatures, 1000 * seed + turn, deadline):
            score = games[clock].score(total)
            best[clock] = min(score, best.get(clock, float("inf")))
            if score < lowest:
                lowest = score
                found(games[clock].solution(actions))
            longest = max(longest, len(actions))
        turn += 1
        if turn >= len(CLOCKS) and longest == 0:
            return  # nothing is left to decide, as nothing fits


def _draw(
    game: MemorySearchGame, network: SearchNetwork, temperatures: Sequence[float], seed: int, deadline: float
) -> list[tuple[np.ndarray, float]]:
    return play_policy(game, network, temperatures, seed=seed, deadline=deadline)


def _search(
    game: MemorySearchGame, network: SearchNetwork, temperatures: Sequence[float], seed: int, deadline: float
) -> list[tuple[np.ndarray, float]]:
    episodes = play(game, network, SEARCH, count=GAMES_AT_ONCE, seed=seed, deadline=deadline)
    return [(episode.actions, episode.total) for episode in episodes]
