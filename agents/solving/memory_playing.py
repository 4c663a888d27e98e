"""Playing memory mapping by the network while there is time: all clocks first, then the best ones."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from agents.games.memory.heuristics import CLOCKS, Solution
from agents.games.memory.program import Program
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.network import SearchNetwork
from agents.search_agent.policy_play import play_policy

TEMPERATURES = (0.0, 0.1, 0.2, 0.4)
"""Of the first games under each clock: the likeliest moves, and more and more varied ones."""
KEPT_CLOCKS = 2
"""Clocks that are played on."""


def play_by_network(
    program: Program, network: SearchNetwork, seconds: float, seed: int, found: Callable[[Solution], None]
) -> None:
    """Play games by the policy until the time is over; every one that beats those before is handed over.

    Args:
        program: what to plan.
        network: in evaluation mode.
        seconds: wall time.
        seed: of the draws; it also says which clock is first.
        found: takes a plan.
    """
    deadline, best = time.perf_counter() + seconds, {}
    lowest, turn = float("inf"), 0
    games: dict[float, MemorySearchGame] = {}
    while time.perf_counter() < deadline:
        if turn < len(CLOCKS):
            clock, temperatures = CLOCKS[(turn + seed) % len(CLOCKS)], TEMPERATURES
            games[clock] = MemorySearchGame(program, clock)
        else:
            clock = sorted(best, key=lambda one: best[one])[turn % min(KEPT_CLOCKS, len(best))]
            temperatures = np.random.default_rng((seed, turn)).uniform(0.05, 0.5, size=4)
        for actions, total in play_policy(
            games[clock], network, temperatures, seed=1000 * seed + turn, deadline=deadline
        ):
            score = games[clock].score(total)
            best[clock] = min(score, best.get(clock, float("inf")))
            if score < lowest:
                lowest = score
                found(games[clock].solution(actions))
        turn += 1
        if turn >= len(CLOCKS) and not best:
            return
