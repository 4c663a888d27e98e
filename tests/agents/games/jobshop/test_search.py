"""Beam searches: rollouts are the rules' plays, what is found is valid and as good as it must be."""

from __future__ import annotations

import numpy as np
import pytest

from agents.games.guides import UniformGuide
from agents.games.jobshop.beam import beam_play, play_out, rollout
from agents.games.jobshop.guides import RolloutGuide
from agents.games.jobshop.heuristics import Rule, best_of_rules, play_rule, remaining_work
from agents.games.jobshop.instance import read_instance
from agents.games.jobshop.rules import JobShopRules, Schedules
from agents.games.jobshop.search import JobShopSearchConfig, solve
from agents.games.jobshop.solution import schedule_of
from agents.games.jobshop.validator import violations
from tests.agents.games.jobshop.shops import random_shop, square_shop
from tests.conftest import SHARED

GOES_ON = np.zeros(1, dtype=np.int64)


def work_priorities(rules: JobShopRules) -> np.ndarray:
    return np.ascontiguousarray(-remaining_work(rules.instance)[:, :-1].astype(np.float32))


def test_a_rollout_is_the_play_by_the_rules():
    for seed in range(200):
        instance = random_shop(seed) if seed % 2 else square_shop(seed)
        rules = JobShopRules(instance)
        priorities = np.random.default_rng(seed).random(rules.machine.shape, dtype=np.float32)
        state = rules.start()
        makespan = rollout(rules.machine, rules.duration, rules.num_operations, priorities, state)
        assert not state.any()
        jobs = np.empty(rules.length, dtype=np.int64)
        play_out(rules.machine, rules.duration, rules.num_operations, priorities, rules.start(), jobs)
        assert schedule_of(instance, jobs).makespan == makespan


def test_a_rollout_of_the_work_remaining_is_the_rule():
    for seed in range(30):
        instance = square_shop(seed)
        rules = JobShopRules(instance)
        makespan = rollout(
            rules.machine, rules.duration, rules.num_operations, work_priorities(rules), rules.start()
        )
        assert makespan == play_rule(instance, Rule.MWKR, Schedules.ACTIVE).makespan


@pytest.mark.parametrize("width", [1, 3, 20])
def test_a_beam_is_valid_and_no_worse_than_its_priorities(width):
    better = 0
    for seed in range(30):
        instance = random_shop(seed) if seed % 2 else square_shop(seed)
        rules = JobShopRules(instance)
        play = beam_play(rules, work_priorities(rules), width, seed, GOES_ON)
        assert play is not None
        schedule = schedule_of(instance, play.jobs)
        assert violations(instance, schedule.starts, play.makespan) == []
        alone = play_rule(instance, Rule.MWKR, Schedules.ACTIVE).makespan
        assert play.makespan <= alone
        better += play.makespan < alone
    assert better > 10


def test_a_beam_that_keeps_everything_finds_an_optimum():
    """In small shops: so what counts as one state can lose nothing."""

    def best_makespan(rules: JobShopRules, state: np.ndarray) -> int:
        legal = np.nonzero(rules.legal_mask(state[None])[0])[0]
        after = np.repeat(state[None], len(legal), axis=0)
        rules.step(after, legal)
        return min((best_makespan(rules, child) for child in after), default=int(state[-1]))

    for seed in range(15):
        rules = JobShopRules(square_shop(seed, num_jobs=3, num_machines=3))
        play = beam_play(rules, work_priorities(rules), 2000, seed, GOES_ON)
        assert play is not None
        assert play.makespan == best_makespan(rules, rules.start())


def test_a_beam_stops_when_told():
    rules = JobShopRules(square_shop(0))
    assert beam_play(rules, work_priorities(rules), 2, 0, np.ones(1, dtype=np.int64)) is None


@pytest.mark.parametrize("guided", [False, True])
def test_a_search_is_valid_and_no_worse_than_all_rules(guided):
    for seed in range(3):
        instance = random_shop(seed, num_jobs=8, num_machines=5, longest=40)
        seen = []
        guide = RolloutGuide(JobShopRules(instance)) if guided else None
        result = solve(instance, 0.3, guide, on_improvement=seen.append)
        schedule = result.schedule
        assert violations(instance, schedule.starts, schedule.makespan) == []
        assert schedule.makespan <= best_of_rules(instance).makespan
        assert [made.makespan for made in seen] == [makespan for _, makespan in result.progress]
        assert seen[-1] == schedule
        assert sorted({made.makespan for made in seen}, reverse=True) == [made.makespan for made in seen]


def test_a_search_ends_when_it_meets_the_bound():
    instance = square_shop(0, num_jobs=1)
    result = solve(instance, 60, config=JobShopSearchConfig(workers=1))
    assert result.schedule.makespan == instance.lower_bound


def test_an_uninformed_guide_does_not_stand_in_the_way():
    instance = square_shop(3)
    result = solve(
        instance, 0.3, UniformGuide(instance.num_jobs), JobShopSearchConfig(workers=1, first_width=2)
    )
    assert result.schedule.makespan <= best_of_rules(instance).makespan


def test_fisher_and_thompsons_six_jobs_are_solved_to_the_optimum():
    path = SHARED / "games" / "jobshop" / "ft06.json"
    if not path.is_file():
        pytest.skip("../shared/games/jobshop is not here")
    assert solve(read_instance(path), 2).schedule.makespan == 55
