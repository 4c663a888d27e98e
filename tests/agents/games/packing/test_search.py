"""The searches: what they find is valid, and what they prove is so."""

from __future__ import annotations

import numpy as np
import pytest

from agents.games.guides import UniformGuide
from agents.games.packing.depth_first import IMPOSSIBLE, PACKED, STOPPED, begin, descend
from agents.games.packing.heuristics import best_of_heuristics
from agents.games.packing.instance import read_instance
from agents.games.packing.rules import PackingRules, Placements
from agents.games.packing.search import PackingSearchConfig, fit, minimise
from agents.games.packing.validator import violations
from tests.agents.games.packing.buffers import instance_of, lowest_peak, random_instance
from tests.conftest import SHARED


def search(instance, capacity, order, most_nodes=10**6):
    rules = PackingRules(instance)
    problem, scratch = begin(rules, capacity, order, most_nodes)
    status = descend(problem, scratch, 0, rules.num_sections, 0, len(order), 0, -1, 0)
    return status, scratch


def test_a_packing_is_found_if_and_only_if_there_is_one():
    """By any order of the buffers, whatever the search leaves out."""
    for seed in range(150):
        instance = random_instance(seed, num_buffers=9, times=7)
        lowest = lowest_peak(instance, Placements.ANY)
        rng = np.random.default_rng(seed)
        for _ in range(5):
            status, scratch = search(instance, lowest, rng.permutation(9))
            assert status == PACKED
            assert violations(instance, scratch.position.tolist(), capacity=lowest) == []
            assert search(instance, lowest - 1, rng.permutation(9))[0] == IMPOSSIBLE


def test_a_search_leaves_its_scratch_as_it_was():
    """What was placed on one side of a cut must not stand in the way of trying the other side again."""
    for seed in range(60):
        instance = random_instance(seed, num_buffers=20, times=25)
        for capacity in (instance.lower_bound, instance.lower_bound - 1, best_of_heuristics(instance).peak):
            _, scratch = search(instance, capacity, np.random.default_rng(seed).permutation(20))
            fresh = begin(PackingRules(instance), capacity, np.arange(20), 1)[1]
            assert not scratch.offset.any()
            assert np.array_equal(scratch.left, fresh.left)


def test_a_search_stops_after_its_nodes():
    instance = random_instance(0, num_buffers=40, times=30)
    status, scratch = search(instance, best_of_heuristics(instance).peak, np.arange(40), most_nodes=3)
    assert status == STOPPED
    assert scratch.counters[0] == 4


def test_what_cannot_be_is_proved():
    assert fit(instance_of([(0, 3, 4), (2, 4, 3)]), 6, 5).is_impossible
    # At most 5 bytes are alive at one time, but no packing does with them.
    rows = [(0, 3, 2), (0, 2, 3), (2, 4, 2), (2, 5, 1), (3, 4, 1), (3, 5, 1), (4, 6, 3), (5, 6, 2)]
    instance = instance_of(rows)
    assert instance.lower_bound == 5
    assert lowest_peak(instance, Placements.ANY) == 6
    result = fit(instance, 5, 5)
    assert result.is_impossible
    assert result.packing is None
    assert minimise(instance, 5).peak == 6


def test_fit_takes_its_order_from_a_guide_and_does_not_need_it():
    instance = random_instance(4, num_buffers=30, times=20)
    capacity = best_of_heuristics(instance).peak
    for guide in (None, UniformGuide(30)):
        packing = fit(instance, capacity, 10, guide, PackingSearchConfig(workers=1)).packing
        assert packing is not None
        assert violations(instance, packing.offsets, capacity=capacity, peak=packing.peak) == []


@pytest.mark.parametrize("name", ["D", "F", "G", "J"])
def test_challenging_instances_are_packed_at_their_capacity(name):
    path = SHARED / "games" / "packing" / f"{name}.1048576.csv"
    if not path.is_file():
        pytest.skip("../shared/games/packing is not here")
    instance = read_instance(path)
    result = fit(instance, 1048576, 30)
    assert result.packing is not None
    assert violations(instance, result.packing.offsets, capacity=1048576, peak=result.packing.peak) == []


def test_attempts_are_long_enough_for_all_buffers():
    instance = instance_of([(number, number + 3, 1) for number in range(40)])
    assert fit(instance, 3, 10, config=PackingSearchConfig(workers=1, nodes=1)).attempts == 1
