"""The benchmark of the games: plans count once, a stopped run goes on, tables are what was measured."""

import json
from dataclasses import replace

import pytest

from agents.games.memory.program_file import write_program
from agents.games.packing.heuristics import Heuristic, play_heuristic
from agents.games.packing.instance import read_instance
from agents.search_agent.packing import random_packings
from benchmarks import ablation
from benchmarks.game_comparison import GameConfig
from benchmarks.game_tables import markdown
from benchmarks.games import games
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program


@pytest.fixture
def buffers(tmp_path):
    """A packing that is to fit in its capacity, in a file."""
    instance = random_packings(4, seed=3)[2]
    path = tmp_path / f"Z.{instance.lower_bound}.csv"
    rows = zip(instance.ids, instance.lower, instance.upper, instance.size, strict=True)
    path.write_text("id,lower,upper,size\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    return path


def test_packing_goes_on_where_it_was_stopped(buffers, capsys):
    instance = read_instance(buffers)
    peak = play_heuristic(instance, Heuristic("ff_size")).peak
    out = buffers.with_name("packing.json")
    out.write_text(json.dumps({"compare 2 s": {instance.name: {"search": [instance.lower_bound, 0.5]}}}))
    config = GameConfig(folder=buffers.parent, seconds=2, workers=1, out=out)
    methods = ("ff_size", "search", "agent alone")
    games("packing", replace(config, methods=methods))
    row = json.loads(out.read_text())["compare 2 s"][instance.name]
    assert row["search"] == [instance.lower_bound, 0.5], "what was there is not measured again"
    assert row["ff_size"][0] == peak
    table = capsys.readouterr().out
    assert "| fits, 0.5 s |" in table
    assert f"+{100 * (peak / instance.lower_bound - 1):.1f}%" in table
    assert row["agent alone"][0] is None or row["agent alone"][0] >= instance.lower_bound
    assert out.with_suffix(".png").stat().st_size > 1000
    with pytest.raises(UserError, match="there is none named magic"):
        games("packing", replace(config, methods=("magic",)))


def test_memory_mapping_writes_every_plan(tmp_path, capsys):
    program = random_program(3)
    write_program(tmp_path / f"{program.name}.json", program)
    config = GameConfig(
        folder=tmp_path,
        methods=("myopic", "no-copy"),
        out=tmp_path / "out" / "m.json",
        plans=tmp_path / "plans",
    )
    games("memory-mapping", config)
    assert {path.name for path in (tmp_path / "plans").iterdir()} == {
        f"{program.name}.{method}.json" for method in ("myopic", "no-copy")
    }
    assert "| geometric mean |" in capsys.readouterr().out
    games("memory-mapping", replace(config, task="episodes", episodes=3))
    assert "3 random games, all valid" in capsys.readouterr().out


def test_random_packings_are_all_valid(buffers, capsys):
    games("packing", GameConfig(task="episodes", folder=buffers.parent, episodes=6))
    assert "6 random games on 1 instances: all packings valid" in capsys.readouterr().out


def test_arms_of_the_ablation_look_at_as_many_positions(buffers, monkeypatch, capsys):
    arms = ["uniform", "prior, value", "beam of 2", "fine-tuned"]
    out = buffers.with_name("ablation.json")
    monkeypatch.setattr(
        "sys.argv",
        ["ablation", "packing", "--instances", str(buffers), "--arms", *arms, "--simulations", "4", "--games",
         "1", "--fine-tuning-rounds", "1", "--out", str(out)],
    )  # fmt: skip
    ablation.main()
    (run,) = json.loads(out.read_text()).values()
    for arm in arms:
        assert run["Z"][arm]["looked at"] == pytest.approx(4, abs=0.2)
        assert len(run["Z"][arm]["scores"]) == 1
    assert "| of uniform |  | 1.00 |" in capsys.readouterr().out
    assert out.with_name("ablation_packing.png").stat().st_size > 1000


def test_a_table_is_markdown():
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
