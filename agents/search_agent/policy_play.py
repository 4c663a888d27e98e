"""Playing by the network's policy alone, without search: the fastest way to whole games.

Letters: B games, T moves, A actions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from agents.search_agent.games import SearchGame
from agents.search_agent.guide import NetworkGuide
from agents.search_agent.network import SearchNetwork


def play_policy(
    game: SearchGame,
    network: SearchNetwork,
    temperatures: Float[np.ndarray, " B"] | Sequence[float],
    *,
    seed: int,
    deadline: float | None = None,
) -> list[tuple[Int[np.ndarray, " T"], float]]:
    """Play an instance once for each temperature, side by side.

    Args:
        game: the instance.
        network: in evaluation mode.
        temperatures: of the policy that the moves of each game are drawn from; at 0 the likeliest is taken.
        seed: of the draws.
        deadline: give games up that are not over by then, on the clock of `time.perf_counter`.

    Returns:
        Actions and total reward of each game that was played to its end.
    """
    noise_scale = np.asarray(temperatures, dtype=np.float64)
    guide, random = NetworkGuide(network, game), np.random.default_rng(seed)
    positions = game.start(len(noise_scale))
    going = np.flatnonzero(game.legal_mask(positions).any(axis=1))
    positions = positions[going]
    totals, moves = np.zeros(len(noise_scale)), [[] for _ in noise_scale]
    while len(going):
        if deadline is not None and time.perf_counter() > deadline:
            break
        legal_mask = game.legal_mask(positions)
        logits = guide.prior_logits(positions)
        noise = random.gumbel(size=logits.shape) * noise_scale[going, None]
        actions = np.where(legal_mask, logits + noise, -np.inf).argmax(axis=1)
        positions, rewards, done = game.step(positions, actions)
        totals[going] += rewards
        for b, action in zip(going, actions, strict=True):
            moves[b].append(action)
        positions, going = positions[~done], going[~done]
    over = np.setdiff1d(np.arange(len(noise_scale)), going)
    return [(np.array(moves[b]), float(totals[b])) for b in over]
