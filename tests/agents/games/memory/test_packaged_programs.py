"""The programs that come with the project."""

from pathlib import Path

import pytest

from agents.games.memory.heuristics import xla_style
from agents.games.memory.plans import export_plan
from agents.games.memory.programs import FOLDER, packaged_programs
from agents.games.memory.validator import find_violations
from agents.search_agent.train_config import SearchTrainConfig
from agents.train_search import training_games
from datasets.programs import HloSource, extract

DATA = Path(__file__).parents[3] / "data"


def test_they_are_small_and_different():
    programs = packaged_programs()
    assert len(programs) == 6
    assert len({program.name for program in programs}) == 6
    assert all(path.stat().st_size < 60_000 for path in FOLDER.glob("*.json"))
    assert max(len(program.buffers) for program in programs) > 100
    # Some have loops, with groups of buffers that take their memory over.
    assert sum(any(entry.region for entry in program.instructions) for program in programs) == 2
    assert sum(bool(program.groups) for program in programs) == 2


def test_fast_memory_pays_on_each_and_plans_are_valid():
    for program in packaged_programs():
        plan = xla_style(program)
        assert plan.share < 0.95, program.name
        assert find_violations(program, export_plan(plan)) == []


@pytest.mark.parametrize(
    ("name", "share"), [("mlp_step", 0.3), ("recurrent_scan", 0.4), ("layered_step", 0.2)]
)
def test_the_command_makes_those_of_hlo_texts(name, share, tmp_path):
    extract(HloSource(DATA / f"{name}.hlo", tmp_path / "made.json", capacity_fraction=share))
    assert (tmp_path / "made.json").read_bytes() == (FOLDER / f"{name}.json").read_bytes()


def test_training_takes_them_where_no_others_are_named(tmp_path):
    games = training_games(SearchTrainConfig(game="memory-mapping", run=tmp_path))
    assert len(games) > len(packaged_programs())
