"""Reading instances: what is right is kept, what is wrong is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents.games.jobshop.instance import instance_from_json, read_instance
from datasets.errors import UserError
from tests.agents.games.jobshop.shops import square_shop
from tests.conftest import SHARED


def test_a_file_is_read_as_written(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps({"jobs": [[[0, 3], [1, 2]], [[1, 4]]], "optimum": None, "upper_bound": 6}))
    instance = read_instance(path)
    assert instance.name == "small"
    assert instance.machine.tolist() == [[0, 1], [1, -1]]
    assert instance.duration.tolist() == [[3, 2], [4, 0]]
    assert instance.num_operations.tolist() == [2, 1]
    assert (instance.num_machines, instance.best_known, instance.proven_bound) == (2, 6, None)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"jobs": []}, "jobs must be a list of at least one job"),
        ({"jobs": [[[0, 3]], []]}, r"jobs\[1\] has no operation"),
        ({"jobs": [[[0, 3], [3, 1]]]}, r"jobs\[0\]\[1\]: machine 3 is unknown; there are 2 machines"),
        ({"jobs": [[[0, 3], [2, 1]]], "machines": 2}, r"jobs\[0\]\[1\]: machine 2 is unknown"),
        ({"jobs": [[[-1, 3]]], "machines": 2}, r"jobs\[0\]\[0\]: machine -1 is unknown"),
        ({"jobs": [[[0, -3]]]}, r"jobs\[0\]\[0\]: duration -3 is negative"),
        ({"jobs": [[[0, 1.5]]]}, r"jobs\[0\]\[0\] is \[0, 1.5\]; it must be \[machine, duration\]"),
        ({"jobs": [[[0]]]}, r"jobs\[0\]\[0\] is \[0\]"),
        ({"jobs": [7]}, r"jobs\[0\] is 7"),
        ({"jobs": [[[0, 2**31]]]}, "durations add up to"),
        ({"jobs": [[[0, 1]]], "machines": 0}, "machines is 0"),
        ({"jobs": [[[0, 1]]], "optimum": "x"}, "optimum is 'x'"),
    ],
)
def test_a_fault_is_named_with_its_field(content, named):
    with pytest.raises(UserError, match=named):
        instance_from_json(content, "shop.json", "shop")


def test_a_file_that_is_no_json_is_named_with_the_line(tmp_path):
    path = tmp_path / "shop.json"
    path.write_text('{"jobs":\n [[[0, 3], ]]}')
    with pytest.raises(UserError, match=r"shop.json is not JSON.*line 2"):
        read_instance(path)
    path.write_text("[1]")
    with pytest.raises(UserError, match="holds no object"):
        read_instance(path)
    with pytest.raises(UserError, match="cannot read"):
        read_instance(tmp_path / "absent.json")


def test_the_bound_is_below_the_best_known_makespan_and_often_equal():
    folder = SHARED / "games" / "jobshop"
    if not folder.is_dir():
        pytest.skip("../shared/games/jobshop is not here")
    instances = [read_instance(path) for path in sorted(folder.glob("*.json"))]
    assert all(instance.lower_bound <= (instance.best_known or 0) for instance in instances)
    assert sum(instance.lower_bound == instance.best_known for instance in instances) >= 15


def test_reversing_twice_changes_nothing():
    instance = square_shop(0)
    twice = instance.reversed().reversed()
    assert np.array_equal(twice.machine, instance.machine)
    assert np.array_equal(twice.duration, instance.duration)
    assert instance.reversed().lower_bound == instance.lower_bound
