"""List heuristics: valid, and equal to the recorded figures."""

from __future__ import annotations

import json

import pytest

from agents.games.packing.heuristics import Heuristic, best_of_heuristics, play_heuristic
from agents.games.packing.instance import read_instance
from agents.games.packing.validator import violations
from tests.agents.games.packing.buffers import instance_of, random_instance
from tests.conftest import SHARED


@pytest.mark.parametrize("heuristic", list(Heuristic))
def test_every_heuristic_gives_valid_packings(heuristic):
    for seed in range(60):
        instance = random_instance(seed, num_buffers=25)
        packing = play_heuristic(instance, heuristic)
        assert violations(instance, packing.offsets, peak=packing.peak) == []
        assert packing.peak >= best_of_heuristics(instance).peak >= instance.lower_bound


def test_best_fit_takes_the_smaller_gap_and_first_fit_the_lower():
    # Largest first, the walls of 9, 8 and 7 stack up; the last two leave gaps of 6 and 5 when they are gone.
    rows = [(0, 2, 9), (0, 1, 8), (0, 2, 7), (0, 1, 6), (0, 2, 5), (1, 2, 4)]
    instance = instance_of(rows)
    first = play_heuristic(instance, Heuristic.FIRST_FIT_SIZE)
    best = play_heuristic(instance, Heuristic.BEST_FIT_SIZE)
    assert first.offsets[:5] == best.offsets[:5] == (0, 9, 17, 24, 30)
    assert first.offsets[5] == 9
    assert best.offsets[5] == 24


def test_peaks_are_those_recorded():
    if not (SHARED / "games").is_dir():
        pytest.skip("../shared/games is not here")
    lines = (SHARED / "games" / "baselines" / "packing.jsonl").read_text().splitlines()
    assert len(lines) == 11
    for line in lines:
        recorded = json.loads(line)
        instance = read_instance(SHARED / "games" / "packing" / f"{recorded['name']}.1048576.csv")
        for heuristic in Heuristic:
            assert play_heuristic(instance, heuristic).peak == recorded[heuristic.value]
