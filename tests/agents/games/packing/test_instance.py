"""Reading instances: what is right is kept, what is wrong is named with its line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents.games.packing.instance import read_instance, sections
from datasets.errors import UserError
from tests.agents.games.packing.buffers import instance_of, random_instance
from tests.conftest import SHARED

HEADER = "id,lower,upper,size\n"


def test_a_file_is_read_as_written(tmp_path):
    path = tmp_path / "B.4096.csv"
    path.write_text(HEADER + "x,3,9,4\ny,0,4,0\n")
    instance = read_instance(path)
    assert (instance.name, instance.ids, instance.capacity) == ("B.4096", ("x", "y"), 4096)
    assert (instance.lower.tolist(), instance.upper.tolist(), instance.size.tolist()) == (
        [3, 0],
        [9, 4],
        [4, 0],
    )
    assert read_instance(path, capacity=7).capacity == 7


def test_columns_are_found_by_their_names(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("size,id,lower,upper\n4,x,3,9\n")
    instance = read_instance(path)
    assert (instance.size[0], instance.ids[0], instance.lower[0], instance.upper[0]) == (4, "x", 3, 9)
    assert instance.capacity is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("id,lower,upper\n", "line 1: the columns must be id,lower,upper,size"),
        ("", "line 1: the columns must be"),
        (HEADER, "holds no buffer"),
        (HEADER + "x,3,9,4\ny,5,5,1\n", r"line 3: the lifetime of buffer y is empty, 5 to 5"),
        (HEADER + "x,9,3,4\n", "line 2: the lifetime of buffer x is empty"),
        (HEADER + "x,3,9,4\ny,1,2,1\nx,3,9,4\n", "line 4: id x is that of line 2"),
        (HEADER + "x,3,9,-4\n", "line 2: size -4 of buffer x is negative"),
        (HEADER + "x,3,9,4.5\n", "line 2: size is '4.5'"),
        (HEADER + "x,3,,4\n", "line 2: upper is ''"),
        (HEADER + "x,3,9\n", "line 2: there are 3 values"),
        (HEADER + ",3,9,1\n", "line 2: id is empty"),
        (HEADER + f"x,3,9,{2**63}\n", "line 2: size is 9223372036854775808; it must fit"),
        (HEADER + f"x,3,9,{2**61}\ny,3,9,{2**61}\n", "sizes add up"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, text, named):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=named):
        read_instance(path)


def test_an_absent_file_and_a_negative_capacity_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_instance(tmp_path / "absent.csv")
    path = tmp_path / "good.csv"
    path.write_text(HEADER + "x,3,9,4\n")
    with pytest.raises(UserError, match="capacity is -1"):
        read_instance(path, capacity=-1)


def test_buffers_share_a_section_if_and_only_if_they_meet():
    for seed in range(50):
        instance = random_instance(seed)
        first, last, count = sections(instance)
        assert (first < last).all()
        assert last.max() <= count <= instance.num_buffers
        for a in range(instance.num_buffers):
            for b in range(instance.num_buffers):
                meet = instance.lower[a] < instance.upper[b] and instance.lower[b] < instance.upper[a]
                assert meet == (first[a] < last[b] and first[b] < last[a])


def test_the_bound_is_the_most_alive_at_one_time():
    assert instance_of([(0, 3, 4), (3, 5, 9), (2, 4, 1)]).lower_bound == 10
    for seed in range(20):
        instance = random_instance(seed)
        alive = [
            int(instance.size[(instance.lower <= time) & (time < instance.upper)].sum())
            for time in np.unique(instance.lower)
        ]
        assert instance.lower_bound == max(alive)


def test_bounds_of_the_published_instances_are_those_recorded():
    if not (SHARED / "games").is_dir():
        pytest.skip("../shared/games is not here")
    for line in (SHARED / "games" / "baselines" / "packing.jsonl").read_text().splitlines():
        recorded = json.loads(line)
        instance = read_instance(SHARED / "games" / "packing" / f"{recorded['name']}.1048576.csv")
        assert (instance.num_buffers, instance.lower_bound) == (recorded["n"], recorded["lb"])
