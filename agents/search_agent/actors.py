"""Self-play spread over workers: each plays a share of a round's games."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import pairwise

from agents.search_agent.games import SearchGame
from agents.search_agent.network import SearchNetwork
from agents.search_agent.self_play import Episode, PlayConfig, play
from datasets.executor import Executor, Here, Report, Tally

Share = tuple[int, int]
"""Numbers of the first game and of the one behind the last."""


def play_round(
    executor: Executor, game: SearchGame, network: SearchNetwork, config: PlayConfig, *, count: int, seed: int
) -> list[Episode]:
    """Play an instance `count` times, as `self_play.play` does, by all workers of an executor.

    Game b is the same whoever plays it, up to the rounding of batched arithmetic. The games of a dead worker
    are played again and none counts twice. Workers are started anew for each round, which takes seconds: they
    pay where a round takes much longer.
    """
    if isinstance(executor, Here):
        return play(game, network, config, count=count, seed=seed)
    workers = min(executor.workers, count)
    bounds = [count * place // workers for place in range(workers + 1)]
    make = partial(make_actor, game, network, config, seed)
    shares = list(pairwise(bounds))
    with closing(executor.run(make, shares, lambda _: None)) as played:
        return [episode for episodes in played for episode in episodes]


def make_actor(
    game: SearchGame, network: SearchNetwork, config: PlayConfig, seed: int
) -> Callable[[Share, Report], list[Episode]]:
    """A worker that plays shares of a round."""

    def act(share: Share, report: Report) -> list[Episode]:
        first, behind = share
        episodes = play(game, network, config, count=behind - first, seed=seed, first=first)
        report(Tally(sum(len(episode.actions) for episode in episodes), len(episodes)))
        return episodes

    return act
