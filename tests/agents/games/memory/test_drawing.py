"""Pictures of plans."""

import imageio.v3 as imageio
import numpy as np

from agents.games.memory.drawing import colour, draw_plan
from agents.games.memory.heuristics import myopic
from tests.agents.games.memory.programs import random_program


def test_a_plan_is_drawn_with_its_blocks(tmp_path):
    solution = myopic(random_program(1), 1.0)
    draw_plan(tmp_path / "plan.png", solution)
    image = imageio.imread(tmp_path / "plan.png")[..., :3]
    unit = int(solution.book.words[solution.book.block_unit])
    wanted = np.round(np.array(colour(unit)) * 255)
    assert (np.abs(image.astype(int) - wanted).max(axis=-1) <= 1).sum() > 100
