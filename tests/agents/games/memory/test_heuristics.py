"""The heuristics give valid plans, and the figures that the recorded baselines give."""

import json

import pytest

from agents.games.memory.heuristics import HEURISTICS, myopic, tuned, xla_style
from agents.games.memory.plans import export_plan
from agents.games.memory.program_file import read_program
from agents.games.memory.validator import find_violations
from tests.agents.games.memory.programs import random_program
from tests.conftest import SHARED

needs_instances = pytest.mark.skipif(
    not (SHARED / "games").is_dir(), reason="the instances are not beside the checkout"
)
SMALL = ("mlp8_infer", "alexnet_infer", "mlp3_train", "resnet_block_train", "transformer_block_train",
         "lstm_scan_train", "strassen2_matmul")  # fmt: skip


@pytest.mark.parametrize("name", HEURISTICS)
@pytest.mark.parametrize("seed", range(6))
def test_every_heuristic_gives_valid_plans(name, seed):
    program = random_program(seed, loop=seed % 2 == 1)
    solution = HEURISTICS[name](program)
    assert find_violations(program, export_plan(solution)) == []
    assert solution.game.all_fast_seconds <= solution.seconds * (1 + 1e-9)


def test_tuning_is_no_worse_than_what_it_tries():
    program = random_program(7, steps=40)
    assert tuned(program).seconds <= xla_style(program).seconds


@needs_instances
@pytest.mark.parametrize("name", SMALL)
def test_recorded_baselines_are_reproduced(name):
    """Simulated time in % of all slow, to the recorded digit; copies too where they are recorded."""
    lines = (SHARED / "games/baselines/mmap_baselines.jsonl").read_text().splitlines()
    recorded = next(entry for entry in map(json.loads, lines) if entry["name"] == name)
    program = read_program(SHARED / "games" / f"{name}.json")
    ours = {
        "nocopy": myopic(program, copies=False), "myopic": myopic(program), "xla": xla_style(program),
        "tuned": tuned(program),
    }  # fmt: skip
    for method, solution in ours.items():
        assert 100 * solution.share == pytest.approx(recorded[method]["sim"], abs=0.05001), method
        if "cp" in recorded[method]:
            assert solution.book.words[2] == recorded[method]["cp"], method
        assert find_violations(program, export_plan(solution)) == []
