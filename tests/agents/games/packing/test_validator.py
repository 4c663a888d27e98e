"""The validator refuses every kind of broken packing and names what is broken."""

from __future__ import annotations

import numpy as np
import pytest

from agents.games.packing.heuristics import Heuristic, play_heuristic
from agents.games.packing.validator import violations
from tests.agents.games.packing.buffers import instance_of, random_instance

BUFFERS = instance_of([(0, 4, 2), (2, 6, 3), (4, 9, 2)])
GOOD = [0, 2, 0]


def test_a_valid_packing_has_no_violation():
    assert violations(BUFFERS, GOOD, capacity=5, peak=5) == []


@pytest.mark.parametrize(
    ("offsets", "invariant", "detail"),
    [
        ([0, 2], "complete", "2 offsets and 3 buffers"),
        ([0, -1, 0], "offset", "buffer b1 lies at -1"),
        ([0, 2.5, 0], "offset", "buffer b1 lies at 2.5"),
        ([0, 1, 7], "overlap", "at time 2 buffer b0 takes 0 to 2 and buffer b1 takes 1 to 4"),
        ([0, 2, 9], "capacity", "buffer b2 ends at 11, the capacity is 9"),
    ],
)
def test_what_is_broken_is_named(offsets, invariant, detail):
    found = violations(BUFFERS, offsets, capacity=9)
    assert [violation.invariant for violation in found] == [invariant]
    assert detail in str(found[0])


def test_a_wrong_peak_is_named():
    assert [found.invariant for found in violations(BUFFERS, GOOD, peak=6)] == ["peak"]


MUTATIONS = ("slide down", "onto another", "drop a buffer", "below zero", "beyond the capacity", "wrong peak")


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutated_packings_are_refused(mutation):
    """The skyline leaves no buffer room to slide down, so each of these breaks an invariant."""
    refused = 0
    for seed in range(80):
        instance, rng = random_instance(seed), np.random.default_rng(seed)
        packing = play_heuristic(instance, Heuristic.SKYLINE)
        offsets, peak = list(packing.offsets), packing.peak
        meeting = [
            (a, b)
            for a in np.nonzero(instance.size)[0]
            for b in np.nonzero(instance.size)[0]
            if a != b and instance.lower[a] < instance.upper[b] and instance.lower[b] < instance.upper[a]
        ]
        buffer, other = meeting[rng.integers(len(meeting))]
        if mutation == "slide down":
            buffer = int(rng.choice(np.nonzero(np.array(offsets) * instance.size)[0]))
            offsets[buffer] -= 1
        elif mutation == "onto another":
            offsets[buffer] = offsets[other]
        elif mutation == "drop a buffer":
            del offsets[int(rng.integers(len(offsets)))]
        elif mutation == "below zero":
            offsets[buffer] = -1
        elif mutation == "beyond the capacity":
            offsets[buffer] = peak
        else:
            peak += int(rng.choice([-1, 1]))
        assert violations(instance, offsets, capacity=packing.peak, peak=peak), (mutation, seed)
        refused += 1
    assert refused == 80
