"""Random numbers as a pure function of a root's seed, so that a batch draws what its roots draw alone.

Letters: B roots, A actions.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from planning.model import PlanningError

POLICY, CHOICE = 0, 1
"""Streams of a seed: noise on the root's policy, and the draw of the final action."""


def root_seeds(seed: int | Int[np.ndarray, "B"], batch: int) -> Int[np.ndarray, "B"]:
    """One seed for each root: those given, or `seed`, `seed + 1`, and so on.

    Raises:
        PlanningError: for another number of seeds than roots.
    """
    if isinstance(seed, int | np.integer):
        return np.arange(seed, seed + batch)
    if np.shape(seed) != (batch,):
        raise PlanningError(
            f"seed has shape {np.shape(seed)}; give one number, or one for each of {batch} roots"
        )
    return np.asarray(seed)


def given_noise(
    name: str, noise: np.ndarray, legal_mask: Bool[np.ndarray, "B A"]
) -> Float[np.ndarray, "B A"]:
    """Random numbers that the caller supplies.

    Raises:
        PlanningError: for another shape than the roots' actions have, or a number at a legal action
            that is not finite.
    """
    noise = np.asarray(noise)
    if noise.shape != legal_mask.shape:
        raise PlanningError(f"noise.{name} has shape {noise.shape}; it must have shape {legal_mask.shape}")
    bad = ~np.isfinite(noise) & legal_mask
    if bad.any():
        root, action = np.argwhere(bad)[0]
        raise PlanningError(f"noise.{name} is {noise[root, action]} at action {action} of root {root}")
    return noise


def gumbel_noise(seeds: Int[np.ndarray, "B"], stream: int, num_actions: int) -> Float[np.ndarray, "B A"]:
    """Standard Gumbel samples."""
    return -np.log(-np.log(_uniform(_bits(seeds, stream, num_actions))))


def dirichlet_noise(
    seeds: Int[np.ndarray, "B"], stream: int, alpha: float, mask: Bool[np.ndarray, "B A"]
) -> Float[np.ndarray, "B A"]:
    """Symmetric Dirichlet samples of concentration `alpha` over the actions of a mask; 0 elsewhere."""
    log_gamma = _log_gamma_samples(alpha, _bits(seeds, stream, mask.shape[1]))
    log_gamma = np.where(mask, log_gamma, -np.inf)
    gamma = np.exp(log_gamma - log_gamma.max(axis=1, keepdims=True))
    return gamma / gamma.sum(axis=1, keepdims=True)


def _log_gamma_samples(alpha: float, bits: UInt64[np.ndarray, "B A"]) -> Float[np.ndarray, "B A"]:
    """Logarithms of Gamma(alpha) samples: Marsaglia and Tsang 2000, with their boost for alpha < 1.

    Logarithms, because for small alpha the samples themselves fall below the smallest float.
    """
    shape = alpha + 1 - 1 / 3
    scale = 1 / np.sqrt(9 * shape)
    cube = np.zeros(bits.shape)
    todo = np.ones(bits.shape, dtype=bool)
    while todo.any():
        bits = np.where(todo, _mix(bits + _STEP), bits)
        radius = np.sqrt(-2 * np.log(_uniform(_mix(bits ^ _PARTS[0]))))
        normal = radius * np.cos(2 * np.pi * _uniform(_mix(bits ^ _PARTS[1])))
        candidate = np.maximum(1 + scale * normal, 0) ** 3
        log_candidate = np.log(np.maximum(candidate, np.finfo(np.float64).tiny))
        bound = normal**2 / 2 + shape * (1 - candidate + log_candidate)
        accepted = todo & (candidate > 0) & (np.log(_uniform(_mix(bits ^ _PARTS[2]))) < bound)
        cube = np.where(accepted, candidate, cube)
        todo = todo & ~accepted
    # Gamma(alpha) = Gamma(alpha + 1) * uniform^(1/alpha).
    return np.log(shape * cube) + np.log(_uniform(_mix(bits ^ _PARTS[3]))) / alpha


_STEP = np.uint64(0x9E3779B97F4A7C15)
_PARTS = tuple(np.uint64(part) for part in (0xA5A5A5A5, 0x5BD1E995, 0xC2B2AE35, 0x27D4EB2F))


def _bits(seeds: Int[np.ndarray, "B"], stream: int, num_actions: int) -> UInt64[np.ndarray, "B A"]:
    """64 random bits for each root and action."""
    root = _mix(seeds.astype(np.uint64) * _STEP + np.uint64(stream + 1))
    return _mix(root[:, None] + np.arange(1, num_actions + 1, dtype=np.uint64) * _STEP)


def _mix(bits: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _uniform(bits: UInt64[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Uniform samples in the open interval (0, 1)."""
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
