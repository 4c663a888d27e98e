"""Schedules as files, reversed shops and pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from agents.games.jobshop.drawing import draw_schedule
from agents.games.jobshop.heuristics import Rule, play_rule
from agents.games.jobshop.solution import read_schedule, reversed_schedule, schedule_of, write_schedule
from agents.games.jobshop.validator import violations
from datasets.errors import UserError
from tests.agents.games.jobshop.shops import random_shop, square_shop


def test_a_schedule_is_read_as_written(tmp_path):
    instance = random_shop(1)
    schedule = schedule_of(instance, play_rule(instance, Rule.MWKR).jobs)
    write_schedule(schedule, tmp_path / "plan.json")
    assert read_schedule(tmp_path / "plan.json", instance) == schedule


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "other"}, "format must be"),
        ({"instance": "ft06"}, "instance is 'ft06', not 'square1'"),
        ({"makespan": "x"}, "makespan is 'x'"),
        ({"makespan": 1}, "starts do not make a schedule; makespan"),
        ({"starts": [[0]]}, "complete"),
        ({"starts": 3}, "starts must be a list"),
        ({"starts": [[0, "a"]]}, r"starts\[0\]\[1\] is 'a'"),
    ],
)
def test_a_fault_is_named_with_its_field(tmp_path, change, named):
    instance, path = square_shop(1), tmp_path / "plan.json"
    write_schedule(schedule_of(instance, play_rule(instance, Rule.SPT).jobs), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=named):
        read_schedule(path, instance)


def test_a_schedule_of_the_reversed_shop_becomes_one_no_longer():
    for seed in range(30):
        instance = random_shop(seed)
        backwards = schedule_of(instance.reversed(), play_rule(instance.reversed(), Rule.MWKR).jobs)
        schedule = reversed_schedule(instance, backwards)
        assert schedule.makespan <= backwards.makespan
        assert violations(instance, schedule.starts, schedule.makespan) == []


def test_a_drawing_is_a_picture_with_colours(tmp_path):
    instance = square_shop(0)
    draw_schedule(
        instance, schedule_of(instance, play_rule(instance, Rule.MWKR).jobs), tmp_path / "gantt.png"
    )
    with Image.open(tmp_path / "gantt.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] > 1000
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 6
