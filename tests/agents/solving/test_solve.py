"""Solving an instance from the command line, as a user would."""

import json

import numpy as np
import pytest

from agents.games.jobshop.instance import read_instance
from agents.games.jobshop.solution import read_schedule
from agents.games.memory.plans import read_plan
from agents.games.memory.program_file import read_program, write_program
from agents.games.memory.validator import check_plan
from agents.games.packing.instance import read_instance as read_packing_instance
from agents.games.packing.solution import read_packing
from agents.search_agent.job_shop import JobShopSearchGame, random_shops
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.packing import PackingSearchGame, random_packings
from agents.search_agent.released import released_checkpoint
from agents.search_agent.self_play import PlayConfig
from agents.search_agent.train_config import SearchTrainConfig
from agents.search_agent.training import train_search
from agents.solve import main
from agents.solving.job_shop import JobShopTask
from datasets.errors import UserError
from tests.agents.games.memory.programs import random_program


def untrained(game, games, run):
    config = SearchTrainConfig(
        game=game, run=run, iterations=1, games_per_iteration=1, play=PlayConfig(num_simulations=1), width=8
    )
    train_search(config, games)
    return run


@pytest.fixture
def shop(tmp_path):
    random = np.random.default_rng(0)
    jobs = [[[int(m), int(random.integers(1, 20))] for m in random.permutation(4)] for _ in range(6)]
    path = tmp_path / "shop.json"
    path.write_text(json.dumps({"name": "shop", "jobs": jobs}))
    return path


def solve(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["solve", *map(str, arguments)])
    main()


def test_a_job_shop(tmp_path, shop, monkeypatch, capsys):
    games = [JobShopSearchGame(one) for one in random_shops(1, seed=0)]
    checkpoint = untrained("job-shop", games, tmp_path / "run")
    out = tmp_path / "plan.json"
    solve(
        monkeypatch, "job-shop", "--instance", shop, "--out", out, "--time-limit", 3, "--starts", 1,
        "--checkpoint", checkpoint, "--at-least", "heuristic",
    )  # fmt: skip
    printed = capsys.readouterr().out
    schedule = read_schedule(out, read_instance(shop))
    rows = {line[:12].strip(): line for line in printed.splitlines() if "%" in line}
    assert {"SPT", "MWKR", "this plan"} <= set(rows)
    assert f"{schedule.makespan:,}" in rows["this plan"]
    worst = min(float(rows[name].split()[1].replace(",", "")) for name in ("SPT", "MWKR"))
    assert schedule.makespan <= worst
    assert out.with_suffix(".png").stat().st_size > 1000


def test_at_least_heuristic_is_never_worse(tmp_path, shop, monkeypatch, capsys):
    """Not in any game, even if the network knows nothing and there is no time to find anything."""
    buffers, program = tmp_path / "buffers.csv", tmp_path / "program.json"
    instance = random_packings(1, seed=1)[0]
    rows = zip(instance.ids, instance.lower, instance.upper, instance.size, strict=True)
    buffers.write_text("id,lower,upper,size\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    write_program(program, random_program(5))
    fresh = {
        "job-shop": ("--instance", shop, [JobShopSearchGame(one) for one in random_shops(1, seed=0)]),
        "packing": ("--instance", buffers, [PackingSearchGame(instance)]),
        "memory-mapping": ("--program", program, [MemorySearchGame(random_program(5))]),
    }
    for game, (option, path, games) in fresh.items():
        solve(
            monkeypatch, game, option, path, "--out", tmp_path / "plan.json", "--time-limit", 0.01,
            "--starts", 1, "--at-least", "heuristic", "--checkpoint", untrained(game, games, tmp_path / game),
        )  # fmt: skip
        table = capsys.readouterr().out.split("above the bound")[-1]
        rows = {line.rsplit(maxsplit=2)[0]: line.split()[-2] for line in table.splitlines() if "%" in line}
        reached = float(rows.pop("this plan").replace(",", ""))
        assert len(rows) >= 5
        assert reached <= min(float(figure.replace(",", "")) for figure in rows.values()), game


def test_a_pytorch_function_in_one_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny_model_of_mine.py").write_text(
        "import torch\n"
        "def training_step():\n"
        "    def step(x, w):\n"
        "        y = torch.tanh(x @ w)\n"
        "        return (y * y).sum(0), w - y.t() @ y\n"
        "    return step, [torch.randn(64, 64), torch.randn(64, 64)]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "plan.json"
    solve(
        monkeypatch, "memory-mapping", "--program", "tiny_model_of_mine:training_step", "--capacity-fraction",
        0.5, "--out", out, "--time-limit", 0.5, "--starts", 1, "--at-least", "heuristic",
    )  # fmt: skip
    program = read_program(tmp_path / "plan.program.json")
    check_plan(program, read_plan(out), "plan.json")
    assert out.with_suffix(".png").stat().st_size > 1000
    assert "<rect" in out.with_suffix(".html").read_text()
    assert "this plan" in capsys.readouterr().out


def test_games_by_the_beam(shop):
    """The network's own games, moves chosen by the beam planner."""
    instance = read_instance(shop)
    play = PlayConfig(planner="beam", num_simulations=6, beam_width=2)
    task = JobShopTask(instance, released_checkpoint("job-shop"), play)
    found = []
    task.play_alone(seed=0, seconds=5, found=found.append)
    assert len({schedule.makespan for schedule in found}) > 1
    assert not any(task.violations(schedule) for schedule in found)


def test_a_packing(tmp_path, monkeypatch, capsys):
    game = PackingSearchGame(random_packings(1, seed=0)[0])
    checkpoint = untrained("packing", [game], tmp_path / "run")
    path, out = tmp_path / "buffers.csv", tmp_path / "plan.json"
    path.write_text("id,lower,upper,size\na,0,4,10\nb,2,6,5\nc,5,9,10\n")
    solve(
        monkeypatch, "packing", "--instance", path, "--out", out, "--time-limit", 3, "--starts", 1,
        "--checkpoint", checkpoint,
    )  # fmt: skip
    packing = read_packing(out, read_packing_instance(path))
    assert packing.peak == 15
    assert "this plan" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "value"), [("--time-limit", "0"), ("--starts", "0")])
def test_senseless_options_are_refused(tmp_path, shop, monkeypatch, option, value):
    with pytest.raises(UserError, match=option.strip("-").replace("-", "_")):
        solve(monkeypatch, "job-shop", "--instance", shop, "--out", tmp_path / "p.json", option, value)


def test_a_network_of_another_game_is_refused(tmp_path, shop, monkeypatch):
    game = PackingSearchGame(random_packings(1, seed=0)[0])
    checkpoint = untrained("packing", [game], tmp_path / "run")
    with pytest.raises(UserError, match="plays packing, not job-shop"):
        solve(
            monkeypatch,
            "job-shop",
            "--instance",
            shop,
            "--out",
            tmp_path / "p.json",
            "--checkpoint",
            checkpoint,
        )
