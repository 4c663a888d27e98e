"""Plans as pages for the browser."""

import re
import xml.etree.ElementTree as ElementTree

from agents.games.memory.book import BLOCKS, COPIES
from agents.games.memory.heuristics import xla_style
from agents.games.memory.page import MEMORY, WIDTH, write_page
from tests.agents.games.memory.programs import random_program


def test_every_block_and_copy_is_there_and_inside(tmp_path):
    solution = xla_style(random_program(3), clock_lambda=0.0)
    assert solution.book.words[BLOCKS] > 0
    path = tmp_path / "plan.html"
    write_page(path, solution)
    page = path.read_text()
    drawing = ElementTree.fromstring(re.search(r"<svg.*?</svg>", page, re.DOTALL).group())
    rectangles = [{name: shape.get(name) for name in shape.keys()} for shape in drawing]  # noqa: SIM118
    copies = [one for one in rectangles if "is copied" in one["data-about"]]
    waits = [one for one in rectangles if "waits for" in one["data-about"]]
    blocks = [one for one in rectangles if "bytes at offset" in one["data-about"]]
    assert len(blocks) == solution.book.words[BLOCKS]
    assert len(copies) == solution.book.words[COPIES]
    assert len(waits) == (solution.game.simulate_stalls(solution.book)[1] > 0).sum()
    for one in blocks:
        assert 0 <= float(one["x"]) <= WIDTH
        assert float(one["y"]) >= -1e-6
        assert float(one["y"]) + float(one["height"]) <= MEMORY + 0.02
    assert "http" not in page


def test_names_cannot_break_the_page(tmp_path):
    from dataclasses import replace

    program = random_program(3)
    buffers = tuple(replace(buffer, name='<b onclick="x">') for buffer in program.buffers)
    write_page(tmp_path / "p.html", xla_style(replace(program, buffers=buffers)))
    assert "<b onclick" not in (tmp_path / "p.html").read_text()
