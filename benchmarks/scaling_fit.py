"""A scaling law: a loss as the sum of what is left over and of what size, play and steps each lack.

Letters: P points; 7 numbers of a law: floor, and factors and exponents of parameters, decisions, steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

Loss = Literal["next_token", "action"]

EXPONENTS = (0.2, 0.6)
FLOORS = (0.3, 0.9)
"""Exponents, and shares of the lowest loss left over, that fits begin with; the best fit is taken."""
ROBUST = 0.01
"""Relative error from which a point counts less than its square."""


@dataclass(frozen=True)
class Point:
    """Losses of one checkpoint on held-out play."""

    width: int
    """Of the transformer."""
    parameters: int
    """Trained ones."""
    decisions: int
    """Of play that it learned from."""
    steps: int
    """Gradient steps so far."""
    seconds_a_step: float
    """CPU seconds that a step takes."""
    next_token: float
    """Cross-entropy of the next token, in nats."""
    action: float
    """Cross-entropy of the recorded action by Q / temperature, in nats."""

    @property
    def axes(self) -> tuple[int, int, int]:
        """What the law is a function of."""
        return self.parameters, self.decisions, self.steps


@dataclass(frozen=True)
class ScalingLaw:
    """E + A / parameters^a + B / decisions^b + C / steps^c."""

    floor: float
    """E."""
    factors: tuple[float, float, float]
    """A, B, C."""
    exponents: tuple[float, float, float]
    """a, b, c."""

    def __call__(self, parameters: float, decisions: float, steps: float) -> float:
        """The loss, in nats."""
        terms = zip(self.factors, (parameters, decisions, steps), self.exponents, strict=True)
        return self.floor + sum(factor * amount**-exponent for factor, amount, exponent in terms)


def fit_law(points: Sequence[Point], loss: Loss) -> ScalingLaw:
    """Fit the law to logarithms of losses, robustly (Hoffmann et al. 2022, arXiv 2203.15556).

    Args:
        points: none after its training's lowest loss, where the law does not hold; see `falling`.
        loss: which.
    """
    axes = np.array([point.axes for point in points], dtype=float)
    losses = np.array([getattr(point, loss) for point in points])
    middle = np.exp(np.log(axes).mean(axis=0))  # far from 1, factors and exponents could hardly be told apart

    def of(numbers: Float[np.ndarray, "7"]) -> Float[np.ndarray, " P"]:
        return np.exp(numbers[0]) + np.exp(numbers[1:4] - numbers[4:] * np.log(axes / middle)).sum(axis=1)

    def errors(numbers: Float[np.ndarray, "7"]) -> Float[np.ndarray, " P"]:
        return np.log(of(numbers) / losses)

    low, high = np.r_[np.full(4, -20.0), np.zeros(3)], np.r_[np.full(4, 5.0), np.full(3, 3.0)]
    fits = []
    for floor, *exponents in product(FLOORS, EXPONENTS, EXPONENTS, EXPONENTS):
        rest = np.log((1 - floor) * np.median(losses) / 3)
        start = np.r_[np.log(floor * losses.min()), np.full(3, rest), exponents]
        fits.append(least_squares(errors, start, bounds=(low, high), loss="soft_l1", f_scale=ROBUST))
    best = min(fits, key=lambda fit: fit.cost).x
    factors = np.exp(best[1:4] + best[4:] * np.log(middle))
    return ScalingLaw(float(np.exp(best[0])), tuple(map(float, factors)), tuple(map(float, best[4:])))


def trainings(points: Sequence[Point]) -> list[list[Point]]:
    """Points of each training in order of steps, trainings in order of size and play."""
    found: dict[tuple[int, int], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.axes):
        found.setdefault((point.parameters, point.decisions), []).append(point)
    return list(found.values())


def falling(points: Sequence[Point], loss: Loss) -> list[Point]:
    """The points of every training up to its lowest loss; later ones have memorised."""
    kept = []
    for training in trainings(points):
        lowest = min(range(len(training)), key=lambda place: getattr(training[place], loss))
        kept += training[: lowest + 1]
    return kept
