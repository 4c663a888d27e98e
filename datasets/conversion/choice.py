"""Which episodes of a source are converted: as the published program draws them, and better.

Letters: E episodes of a source, n episodes chosen, G games.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int

NUM_AGENTS = 5
"""Agents of a game in DQN-Replay, numbered from 1."""


def published_agents(num_games: int) -> list[tuple[int, ...]]:
    """The two agents that the published program reads for each of G games, in ascending order.

    One generator of seed 0 draws for all games in the order of the list, so a game's agents depend on its
    place.
    """
    generator = np.random.RandomState(0)
    agents = np.arange(1, NUM_AGENTS + 1)
    return [tuple(sorted(generator.choice(agents, 2, replace=False).tolist())) for _ in range(num_games)]


def published_choice(
    num_episodes: int, num_source_steps: int, num_steps: int, game_index: int
) -> Int[np.ndarray, "n"]:
    """Episodes that the published program draws: with replacement, so the same one may come twice.

    n is `num_steps` divided by the mean length, rounded up. The mean counts the steps of unfinished episodes
    too, although these are never drawn.

    Args:
        num_episodes: whole episodes of the source (E).
        num_source_steps: steps of the source, those of unfinished episodes included.
        num_steps: about how many steps to draw.
        game_index: place of the game in the list of games, which is the seed.
    """
    count = math.ceil(num_steps / (num_source_steps / num_episodes))
    return np.sort(np.random.RandomState(game_index).randint(0, num_episodes, count))


def choose_episodes(
    lengths: Int[np.ndarray, "E"], num_steps: int | None, seed: tuple[int, int]
) -> Int[np.ndarray, "n"]:
    """As few different episodes, drawn evenly, as hold `num_steps` steps; all where that is None or too many.

    Args:
        lengths: steps of each episode.
        num_steps: how many steps to reach.
        seed: decides which episodes.
    """
    if num_steps is None:
        return np.arange(len(lengths))
    order = np.random.default_rng(seed).permutation(len(lengths))
    count = int(np.searchsorted(np.cumsum(lengths[order]), num_steps)) + 1
    return np.sort(order[:count])
