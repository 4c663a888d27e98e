"""Small packing instances for the tests."""

from __future__ import annotations

import numpy as np

from agents.games.packing.instance import PackingInstance
from agents.games.packing.rules import PackingRules, Placements, play_randomly


def instance_of(rows: list[tuple[int, int, int]], name: str = "small") -> PackingInstance:
    """An instance of (lower, upper, size) rows."""
    lower, upper, size = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return PackingInstance(name, tuple(f"b{number}" for number in range(len(rows))), lower, upper, size)


def random_instance(seed: int, num_buffers: int = 12, times: int = 10, largest: int = 6) -> PackingInstance:
    """Buffers of which some meet, some are twins and some have no size."""
    rng = np.random.default_rng(seed)
    lower = rng.integers(times, size=num_buffers)
    upper = lower + rng.integers(1, times, size=num_buffers)
    size = rng.integers(largest + 1, size=num_buffers)
    rows = list(zip(lower.tolist(), upper.tolist(), size.tolist(), strict=True))
    return instance_of([*rows[:-1], rows[0]], f"random{seed}")


def random_play(rules: PackingRules, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The buffers of a random game in order, and its last state."""
    buffers, state = np.empty(rules.length, dtype=np.int64), rules.start()
    draws = np.random.default_rng(seed).random(rules.length)
    placed = play_randomly(
        rules.first, rules.last, rules.size, rules.twin, state, rules.num_sections, rules.limit,
        int(rules.placements), draws, buffers,
    )  # fmt: skip
    return buffers[:placed], state


def lowest_peak(instance: PackingInstance, placements: Placements) -> int:
    """The lowest peak of all games, by trying them all."""
    rules = PackingRules(instance, placements=placements)
    best: dict[bytes, int] = {}

    def below(state: np.ndarray) -> int:
        key = state.tobytes()
        if key not in best:
            legal = np.nonzero(rules.legal_mask(state[None])[0])[0]
            after = np.repeat(state[None], len(legal), axis=0)
            rules.step(after, legal)
            best[key] = min((below(child) for child in after), default=int(state[-1]))
        return best[key]

    return below(rules.start())
