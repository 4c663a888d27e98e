"""The rules against the validator, against replay, and against exhaustive search."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from agents.games.packing.heuristics import fit_in_order
from agents.games.packing.rules import PackingRules, Placements
from agents.games.packing.validator import violations
from agents.games.state_table import StateTable
from tests.agents.games.packing.buffers import instance_of, lowest_peak, random_instance, random_play


@pytest.mark.parametrize("placements", list(Placements))
@pytest.mark.parametrize("room", [None, 1.1])
def test_random_play_gives_only_valid_packings(placements, room):
    won = lost = 0
    for seed in range(40):
        instance = random_instance(seed)
        capacity = None if room is None else int(instance.lower_bound * room) + 1
        rules = PackingRules(instance, capacity, placements)
        for game in range(25):
            buffers, state = random_play(rules, game)
            if len(buffers) < rules.length:
                lost += 1
                continue
            won += 1
            assert (
                violations(instance, rules.offsets(buffers).tolist(), capacity=capacity, peak=int(state[-1]))
                == []
            )
    assert won > 100
    assert (lost > 50) == (room is not None)


def test_canonical_placements_hold_an_optimum():
    better_than_one_game = 0
    for seed in range(15):
        instance = random_instance(seed, num_buffers=7, times=6)
        orders = [np.array(order) for order in permutations(range(7))]
        peaks = [
            int(
                (
                    fit_in_order(instance.lower, instance.upper, instance.size, order, False) + instance.size
                ).max()
            )
            for order in orders
        ]
        assert (
            lowest_peak(instance, Placements.ANY) == lowest_peak(instance, Placements.CANONICAL) == min(peaks)
        )
        _, state = random_play(PackingRules(instance), seed)
        better_than_one_game += min(peaks) < state[-1]
    assert better_than_one_game > 0


def test_canonical_placements_are_fewer_and_never_none():
    for seed in range(20):
        instance = random_instance(seed)
        anything = PackingRules(instance, placements=Placements.ANY)
        canonical = PackingRules(instance)
        buffers, _ = random_play(anything, seed)
        state = anything.start()[None]
        for buffer in buffers:
            few, many = canonical.legal_mask(state)[0], anything.legal_mask(state)[0]
            assert few.any()
            assert (few <= many).all()
            anything.step(state, np.array([buffer]))


def test_of_twins_the_first_comes_first():
    rules = PackingRules(instance_of([(0, 4, 2), (0, 4, 2), (0, 4, 3)]), placements=Placements.ANY)
    state = rules.start()[None]
    assert rules.legal_mask(state)[0].tolist() == [True, False, True]
    rules.step(state, np.array([0]))
    assert rules.legal_mask(state)[0].tolist() == [False, True, True]


def test_a_game_is_lost_when_some_buffer_fits_no_more():
    rules = PackingRules(
        instance_of([(0, 4, 2), (3, 9, 2), (6, 9, 3)]), capacity=5, placements=Placements.ANY
    )
    state = rules.start()[None]
    rules.step(state, np.array([0]))
    assert rules.legal_mask(state)[0].tolist() == [False, True, True]
    rules.step(state, np.array([1]))
    assert not rules.legal_mask(state).any()
    assert rules.placed(state)[0].tolist() == [True, True, False]


def test_a_restored_snapshot_goes_on_like_a_replay():
    for seed in range(30):
        rules = PackingRules(random_instance(seed, num_buffers=70))
        buffers, last = random_play(rules, seed)
        state, snapshots = rules.start()[None], []
        for buffer in buffers:
            snapshots.append(state.copy())
            rules.step(state, np.array([buffer]))
        assert np.array_equal(state[0], last)
        assert rules.placed(state).all()
        for place in (0, len(buffers) // 2, len(buffers) - 1):
            restored = snapshots[place]
            for buffer in buffers[place:]:
                rules.step(restored, np.array([buffer]))
            assert np.array_equal(restored, state)


def test_handles_are_shared_by_equal_states_only():
    rules = PackingRules(random_instance(3, num_buffers=8), placements=Placements.ANY)
    table, seen = StateTable(rules.width, capacity=2), {}
    visited = 0
    for seed in range(60):
        buffers, _ = random_play(rules, seed)
        state = rules.start()[None]
        for buffer in buffers:
            rules.step(state, np.array([buffer]))
            handle = int(table.insert(state)[0])
            assert seen.setdefault(handle, state.tobytes()) == state.tobytes()
            visited += 1
    assert len(table) == len(seen) == len(set(seen.values())) < visited
