"""The agent alone: games played by the network, one batch after the other, until the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agents.search_agent.games import SearchGame
from agents.search_agent.network import SearchNetwork
from agents.search_agent.self_play import Episode, PlayConfig, play

GAMES_AT_ONCE = 8
"""Games played side by side; a network's evaluation of a few positions costs little more than of one."""


def play_until(
    deadline: float,
    games: Sequence[SearchGame],
    network: SearchNetwork,
    config: PlayConfig,
    *,
    seed: int,
    found: Callable[[int, Episode], None],
    count: int = GAMES_AT_ONCE,
) -> None:
    """Play some games of one instance in turns.

    Args:
        deadline: on `time.perf_counter`; a batch that is not over by then is given up.
        games: the instance, or several views of it, such as a shop forwards and backwards.
        network: in evaluation mode.
        config: how moves are chosen.
        seed: of the noise.
        found: takes the number of the game in `games` and an episode of it.
        count: games in a batch.
    """
    turn = 0
    while time.perf_counter() < deadline:
        place = turn % len(games)
        turn_seed = 1000 * seed + turn
        for episode in play(games[place], network, config, count=count, seed=turn_seed, deadline=deadline):
            found(place, episode)
        turn += 1
