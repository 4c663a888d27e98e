"""The planning model, its guides and its features; searches of `planning` in it."""

from __future__ import annotations

import numpy as np

from agents.games.packing.features import FeatureExtractor
from agents.games.packing.guides import SkylineGuide, tightness
from agents.games.packing.heuristics import Heuristic, play_heuristic
from agents.games.packing.planning import PackingModel
from agents.games.packing.rules import PackingRules, Placements
from planning import PlanningModel, TreeOptions, beam_search, best_path, gumbel_muzero
from tests.agents.games.packing.buffers import instance_of, random_instance


def skyline_guide(instance):
    return SkylineGuide(PackingRules(instance), (instance.size, instance.upper - instance.lower))


def play(model: PackingModel, rng: np.random.Generator) -> tuple[float, list[int]]:
    answer = model.root(model.rules.start()[None])
    total, buffers = 0.0, []
    while answer.legal_mask.any():
        assert answer.discount[0] == 1
        buffers.append(int(rng.choice(np.nonzero(answer.legal_mask[0])[0])))
        answer = model.step(answer.node, np.array(buffers[-1:]))
        total += answer.reward[0]
    assert answer.discount[0] == 0
    return total, buffers


def test_a_game_returns_minus_the_peak_over_the_bound():
    for seed in range(10):
        instance = random_instance(seed)
        model = PackingModel(instance)
        assert isinstance(model, PlanningModel)
        total, buffers = play(model, np.random.default_rng(seed))
        assert len(buffers) == instance.num_buffers
        peak = (model.rules.offsets(np.array(buffers)) + instance.size).max()
        assert np.isclose(total, -peak / instance.lower_bound)


def test_a_game_with_a_capacity_returns_minus_the_share_left():
    outcomes = set()
    for seed in range(40):
        instance = random_instance(seed)
        total, buffers = play(
            PackingModel(instance, capacity=instance.lower_bound + 1), np.random.default_rng(seed)
        )
        assert np.isclose(total, len(buffers) / instance.num_buffers - 1)
        outcomes.add(total == 0)
    assert outcomes == {True, False}


def test_equal_states_have_equal_handles_whatever_led_there():
    instance = instance_of([(0, 2, 3), (4, 6, 5), (0, 6, 1)])
    model = PackingModel(instance, placements=Placements.ANY)
    root = model.root(model.rules.start()[None])
    pair = model.step(np.repeat(root.node, 2), np.array([0, 1]))
    met = model.step(pair.node, np.array([1, 0]))
    assert met.node[0] == met.node[1]
    assert pair.node[0] != pair.node[1]


def test_look_ahead_is_the_reward_and_the_value_of_the_state_after():
    instance = random_instance(2)
    for capacity in (None, instance.lower_bound):
        model = PackingModel(instance, skyline_guide(instance), capacity, look_ahead=True)
        root = model.root(model.rules.start()[None])
        for action in np.nonzero(root.legal_mask[0])[0]:
            after = model.step(root.node, np.array([action]))
            assert np.isclose(root.q_value[0, action], after.reward[0] + after.value[0])


def test_a_rollout_is_the_skyline_heuristic():
    for seed in range(20):
        instance = random_instance(seed, num_buffers=30)
        guide = skyline_guide(instance)
        start = PackingRules(instance).start()[None]
        assert -guide.values(start)[0] == play_heuristic(instance, Heuristic.SKYLINE).peak
        assert (
            guide.prior_logits(start)[0].argmax()
            == np.lexsort((instance.lower - instance.upper, -instance.size))[0]
        )


def test_searches_of_the_planning_package_do_no_worse_than_their_guide():
    instance = random_instance(5, num_buffers=16)
    guide = skyline_guide(instance)
    model = PackingModel(instance, guide, look_ahead=True)
    start = model.rules.start()[None]
    result = beam_search(model, start, beam_width=4, horizon=instance.num_buffers)
    buffers, _ = best_path(result, 0)
    peak = int((model.rules.offsets(buffers) + instance.size).max())
    assert peak <= play_heuristic(instance, Heuristic.SKYLINE).peak
    tree = gumbel_muzero(
        PackingModel(instance, guide, capacity=instance.lower_bound), start, num_simulations=64,
        options=TreeOptions(merge_equal_states=True),
    )  # fmt: skip
    assert model.root(start).legal_mask[0, tree.action[0]]


def test_tightness_is_the_most_alive_in_a_buffers_life():
    assert tightness(instance_of([(0, 3, 4), (3, 5, 9), (2, 4, 1), (7, 8, 2)])).tolist() == [5, 10, 10, 2]


def test_features_are_of_the_state_alone_and_in_the_unit_of_the_bound():
    instance = instance_of([(0, 3, 4), (3, 5, 9), (2, 4, 1), (7, 8, 2)])
    rules = PackingRules(instance, capacity=20, placements=Placements.ANY)
    states = rules.start()[None].repeat(2, axis=0)
    rules.step(states[1:], np.array([2]))
    features = FeatureExtractor(rules)(states)
    assert np.allclose(features.overall[0], [0, 2, 0, 1, 1])
    assert np.allclose(features.overall[1], [0.1, 2, 0.25, 0.75, 1])
    assert np.allclose(features.buffers[:, :, 0], [[1, 1, 1, 1], [1, 1, 0, 1]])
    assert np.allclose(features.buffers[0, :, 4], [0.5, 1, 1, 0.2])
    assert np.allclose(features.buffers[1, 0, 5:7], [0.1, 0.5])
    assert not features.buffers[1, 2].any()
    assert np.allclose(features.sections[0, :, 1], [0.5, 1, 0.2])
    assert np.allclose(features.sections[1, :, 0], [0.1, 0.1, 0])
    assert features.overall.dtype == features.buffers.dtype == features.sections.dtype == np.float32
