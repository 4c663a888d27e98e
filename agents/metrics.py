"""Scores of agents: normalised, averaged, and with the uncertainty that goes with them.

Letters: G games, N episodes of each game, R bootstrap resamples.

Method: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv 2108.13264): interquartile means and percentile intervals of a stratified bootstrap. Pure
functions of their arguments; a resampling is a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Statistic = Literal["mean", "iqm"]

CONFIDENCE = 0.95
RESAMPLES = 5000
# Resampled scores held at once; bounds the memory, not the result.
_CHUNK = 2**22


@dataclass(frozen=True)
class Estimate:
    """A statistic of the episodes played and its 95% interval."""

    value: float
    """The statistic of the episodes themselves."""
    low: float | None
    """Lower end of the interval; None where a single episode per game says nothing of the spread."""
    high: float | None
    """Upper end of the interval."""
    episodes: int
    """Episodes that it rests on, over all games."""


def normalised_score(
    score: float | Float[np.ndarray, "*S"], random: float, reference: float
) -> Float[np.ndarray, "*S"]:
    """Scores on the scale where the worse of random and reference play is 0 and the better is 1.

    (score - low) / (high - low) with low = min(random, reference), high = max(random, reference);
    Cheng et al. 2024 (arXiv 2410.00564). Where the reference beats random play, as it usually
    does, this is the familiar normalised score.

    Raises:
        ValueError: random and reference play score the same, so there is no scale.
    """
    low, high = min(random, reference), max(random, reference)
    if low == high:
        raise ValueError(f"random and reference play both score {low}; nothing can be normalised by them")
    return np.asarray((np.asarray(score, dtype=np.float64) - low) / (high - low))


def interquartile_mean(values: Float[np.ndarray, "*S N"]) -> Float[np.ndarray, "*S"]:
    """Mean of the middle half along the last axis: the lowest and highest floor(N / 4) are left out."""
    # Takes half a second to import, which every command would wait for.
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, 0.25, axis=-1))


def summarise(
    scores: Float[np.ndarray, "G N"],
    statistic: Statistic,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A statistic over all episodes of all games, with its stratified-bootstrap 95% interval.

    Each resample draws N episodes of every game with replacement, so a game never weighs more than
    another. Both statistics are of the G x N episodes pooled. (The IQM that papers print over
    games' mean scores is `interquartile_mean` of those means.)

    Args:
        scores: one row per game, normalised if the games' points differ.
        statistic: "mean" or "iqm".
        seed: seed of the resampling.
        resamples: number of resamples R.

    Raises:
        ValueError: no episodes.
    """
    if scores.size == 0:
        raise ValueError("no episodes to summarise")
    value = float(_statistic(scores.reshape(-1), statistic))
    games, episodes = scores.shape
    if episodes == 1:
        return Estimate(value=value, low=None, high=None, episodes=games)
    low, high = _interval(_resampled(scores, statistic, np.random.default_rng(seed), resamples))
    return Estimate(value=value, low=low, high=high, episodes=scores.size)


def summarise_difference(
    first: Float[np.ndarray, "N1"],
    second: Float[np.ndarray, "N2"],
    statistic: Statistic,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """How much more `first` scores than `second` in one game, with its bootstrap 95% interval.

    The two sets of episodes are resampled independently. An interval without 0 is evidence that
    one player is the better one; an interval around 0 is none that they are equal.

    Raises:
        ValueError: either has no episodes.
    """
    if first.size == 0 or second.size == 0:
        raise ValueError("no episodes to compare")
    value = float(_statistic(first, statistic) - _statistic(second, statistic))
    episodes = first.size + second.size
    if min(first.size, second.size) == 1:
        return Estimate(value=value, low=None, high=None, episodes=episodes)
    generator = np.random.default_rng(seed)
    low, high = _interval(
        _resampled(first[None], statistic, generator, resamples)
        - _resampled(second[None], statistic, generator, resamples)
    )
    return Estimate(value=value, low=low, high=high, episodes=episodes)


def _resampled(
    scores: Float[np.ndarray, "G N"], statistic: Statistic, generator: np.random.Generator, resamples: int
) -> Float[np.ndarray, "R"]:
    games, episodes = scores.shape
    at_once = max(1, _CHUNK // scores.size)
    parts = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = generator.integers(episodes, size=(count, games, episodes))
        resampled = scores[np.arange(games)[:, None], drawn]
        parts.append(_statistic(resampled.reshape(count, -1), statistic))
    return np.concatenate(parts)


def _statistic(values: Float[np.ndarray, "*S N"], statistic: Statistic) -> Float[np.ndarray, "*S"]:
    return np.asarray(values.mean(axis=-1) if statistic == "mean" else interquartile_mean(values))


def _interval(resampled: Float[np.ndarray, "R"]) -> tuple[float, float]:
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return float(low), float(high)
