"""Packings as files and as pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from agents.games.packing.drawing import draw_packing
from agents.games.packing.heuristics import Heuristic, play_heuristic
from agents.games.packing.solution import packing_of, read_packing, write_packing
from datasets.errors import UserError
from tests.agents.games.packing.buffers import instance_of, random_instance

BUFFERS = instance_of([(0, 4, 2), (2, 6, 3), (4, 9, 2)])
GOOD = packing_of(BUFFERS, [0, 2, 0], capacity=6)


def test_a_packing_is_read_as_written(tmp_path):
    write_packing(BUFFERS, GOOD, tmp_path / "plan.json")
    assert read_packing(tmp_path / "plan.json", BUFFERS) == GOOD
    assert GOOD.peak == 5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "other"}, "format must be"),
        ({"instance": "A"}, "instance is 'A', not 'small'"),
        ({"peak": 4}, "offsets do not make a packing; peak"),
        ({"peak": "x"}, "peak is 'x'"),
        ({"capacity": 4}, "capacity: buffer b1 ends at 5"),
        ({"offsets": [0, 2, 0]}, "offsets must be an object"),
        ({"offsets": {"b0": 0, "b1": 2}}, "offsets has no buffer b2"),
        (
            {"offsets": {"b0": 0, "b1": 2, "b2": 0, "b3": 0}},
            r"offsets\[b3\]: the instance has no such buffer",
        ),
        ({"offsets": {"b0": 0, "b1": 1.5, "b2": 0}}, r"offsets\[b1\] is 1.5"),
        ({"offsets": {"b0": 0, "b1": 1, "b2": 0}}, "overlap: at time 2"),
    ],
)
def test_a_fault_is_named_with_its_field(tmp_path, change, named):
    path = tmp_path / "plan.json"
    write_packing(BUFFERS, GOOD, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=named):
        read_packing(path, BUFFERS)


def test_a_drawing_is_a_picture_with_colours(tmp_path):
    instance = random_instance(0)
    draw_packing(instance, play_heuristic(instance, Heuristic.SKYLINE), tmp_path / "packing.png")
    with Image.open(tmp_path / "packing.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] > 1000
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 6
