"""The planning model, its guides and its features; searches of `planning` in it."""

from __future__ import annotations

import numpy as np

from agents.games.guides import UniformGuide
from agents.games.jobshop.features import FeatureExtractor
from agents.games.jobshop.guides import RolloutGuide
from agents.games.jobshop.heuristics import Rule, play_rule
from agents.games.jobshop.planning import JobShopModel
from agents.games.jobshop.rules import JobShopRules, Schedules
from agents.games.jobshop.solution import schedule_of
from planning import PlanningModel, TreeOptions, beam_search, best_path, gumbel_muzero
from tests.agents.games.jobshop.shops import random_shop, square_shop


def test_a_game_returns_minus_the_makespan_over_the_bound():
    for seed in range(10):
        instance = random_shop(seed)
        model, rng = JobShopModel(instance), np.random.default_rng(seed)
        assert isinstance(model, PlanningModel)
        answer = model.root(model.rules.start()[None])
        total, jobs = 0.0, []
        while answer.legal_mask.any():
            assert answer.discount[0] == 1
            action = rng.choice(np.nonzero(answer.legal_mask[0])[0])
            jobs.append(action)
            answer = model.step(answer.node, np.array([action]))
            total += answer.reward[0]
        assert answer.discount[0] == 0
        assert len(jobs) == instance.total_operations
        assert np.isclose(total, -schedule_of(instance, np.array(jobs)).makespan / instance.lower_bound)


def test_equal_states_have_equal_handles_whatever_led_there():
    model = JobShopModel(square_shop(4), schedules=Schedules.SEMI_ACTIVE)
    root = model.root(model.rules.start()[None])
    machine = model.rules.machine[:, 0]
    first = 0
    second = int(np.nonzero(machine != machine[first])[0][0])
    pair = model.step(np.repeat(root.node, 2), np.array([first, second]))
    met = model.step(pair.node, np.array([second, first]))
    assert met.node[0] == met.node[1]
    assert pair.node[0] != pair.node[1]
    assert np.array_equal(model.states(met.node)[0], model.states(met.node)[1])


def test_look_ahead_is_the_reward_and_the_value_of_the_state_after():
    instance = square_shop(2)
    guide = RolloutGuide(JobShopRules(instance), Rule.MOPNR)
    model = JobShopModel(instance, guide, look_ahead=True)
    root = model.root(model.rules.start()[None])
    for action in np.nonzero(root.legal_mask[0])[0]:
        after = model.step(root.node, np.array([action]))
        assert np.isclose(root.q_value[0, action], after.reward[0] + after.value[0])


def test_a_rollout_is_the_rule_played_to_the_end():
    instance = square_shop(7)
    for rule in Rule:
        guide = RolloutGuide(JobShopRules(instance), rule)
        start = guide_state(instance)
        assert -guide.values(start)[0] == play_rule(instance, rule).makespan
        logits = guide.prior_logits(start)[0]
        assert abs(logits.mean()) < 1e-9
    longest = RolloutGuide(JobShopRules(instance), Rule.LPT).prior_logits(guide_state(instance))[0]
    assert longest.argmax() == instance.duration[:, 0].argmax()


def guide_state(instance):
    return JobShopRules(instance).start()[None]


def test_searches_of_the_planning_package_do_no_worse_than_their_guide():
    instance = square_shop(11)
    guide = RolloutGuide(JobShopRules(instance), Rule.MWKR, Schedules.ACTIVE)
    model = JobShopModel(instance, guide, look_ahead=True)
    start = model.rules.start()[None]
    alone = play_rule(instance, Rule.MWKR, Schedules.ACTIVE).makespan
    result = beam_search(model, start, beam_width=4, horizon=instance.total_operations)
    jobs, _ = best_path(result, 0)
    assert schedule_of(instance, jobs).makespan <= alone
    tree = gumbel_muzero(
        JobShopModel(instance, guide), start, num_simulations=64, options=TreeOptions(merge_equal_states=True)
    )
    assert JobShopModel(instance).root(start).legal_mask[0, tree.action[0]]


def test_an_unguided_tree_search_runs_with_merged_states():
    instance = random_shop(5)
    model = JobShopModel(instance, UniformGuide(instance.num_jobs))
    result = gumbel_muzero(
        model, model.rules.start()[None], num_simulations=200, options=TreeOptions(merge_equal_states=True)
    )
    assert result.visit_counts.sum() > 0


def test_features_are_of_the_state_alone_and_in_the_unit_of_the_bound():
    instance = square_shop(3)
    rules = JobShopRules(instance)
    extract = FeatureExtractor(rules)
    states = rules.start()[None].repeat(2, axis=0)
    fresh = extract(states)
    assert fresh.overall[0, 0] == 0
    assert np.isclose(fresh.overall[0, 4] * instance.lower_bound, instance_bound_without_tails(instance))
    assert np.allclose(fresh.jobs[0, :, 3] * instance.lower_bound, instance.duration.sum(axis=1))
    assert np.array_equal(fresh.jobs[0, :, 0] > 0, rules.legal_mask(states)[0])
    job = int(np.nonzero(rules.legal_mask(states)[0])[0][0])
    rules.step(states[1:], np.array([job]))
    after = extract(states)
    assert np.array_equal(after.jobs[0], fresh.jobs[0])
    assert np.isclose(after.overall[1, 0] * instance.lower_bound, instance.duration[job, 0])
    assert np.isclose(after.jobs[1, job, 2], 1 - 1 / instance.num_operations[job])
    assert after.overall.dtype == after.jobs.dtype == after.machines.dtype == np.float32


def instance_bound_without_tails(instance):
    loads = [instance.duration[instance.machine == machine].sum() for machine in range(instance.num_machines)]
    return max(*loads, instance.duration.sum(axis=1).max())
