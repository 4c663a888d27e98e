"""Searches side by side: the best valid plan is kept, faults are named."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.solving.race import Improvement, race
from agents.solving.report import table
from datasets.errors import UserError
from tests.house.processes import assert_ends_with_parent, tell_and_wait


@dataclass(frozen=True)
class Counting:
    """Plans are numbers; start s hands over those of its own list."""

    plans: tuple[tuple[int, ...], ...]
    name = "counting"
    objective_name = "number"
    bound = 10.0

    def small(self):
        return Counting(((1,),))

    def search(self, seed, seconds, found):
        for plan in self.plans[seed]:
            if plan < 0:
                raise ValueError("no more numbers")
            found(plan)

    def objective(self, plan):
        return float(plan)

    def violations(self, plan):
        return ["13 is unlucky"] if plan == 13 else []


def run(task, best=None):
    told = []
    found = race(task, seconds=5, starts=len(task.plans), seed=0, improved=told.append, best=best)
    assert told == found
    return found


def test_the_best_of_all_starts_wins_and_failures_are_survived():
    found = run(Counting(((40, 50, 20), (30, 25, -1))))
    assert found[-1].objective == 20
    assert found[-1].by == "start 0"
    assert [one.objective for one in found] == sorted((one.objective for one in found), reverse=True)


def test_plans_of_the_rehearsal_do_not_count():
    # The small instance has a plan of 1.
    assert [one.plan for one in run(Counting(((3, 2),)))] == [3, 2]


def test_only_what_is_better_than_the_heuristic_counts():
    heuristic = Improvement(0.0, 22.0, 22, "rule")
    assert [one.plan for one in run(Counting(((40, 30, 22, 21),)), heuristic)] == [21]


def test_invalid_plans_and_searches_that_find_nothing_are_faults():
    with pytest.raises(UserError, match="not valid \\(13 is unlucky\\)"):
        run(Counting(((14, 13),)))
    with pytest.raises(
        UserError, match="no plan was found, as the search failed: ValueError: no more numbers"
    ):
        run(Counting(((-1,),)))


def test_the_table_puts_the_best_first():
    lines = table(Counting(()), [("rule", 15.0), ("this plan", 12.0)]).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["this", "rule", "lower"]
    assert "20.0%" in lines[1]


@dataclass(frozen=True)
class Waiting(Counting):
    """Tells its process's number, and then finds nothing for long."""

    told: str = ""

    def small(self):
        return Counting(((1,),))

    def search(self, seed, seconds, found):
        tell_and_wait(Path(self.told))


def test_searches_end_when_their_parent_is_killed(tmp_path):
    told = tmp_path / "process"
    assert_ends_with_parent(f"from {__name__} import *\nrun(Waiting(((1,),), told={str(told)!r}))", told)
