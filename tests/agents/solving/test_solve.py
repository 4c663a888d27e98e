"""Solving an instance from the command line, as a user would."""

import json

import numpy as np
import pytest

from agents.games.jobshop.instance import read_instance
from agents.games.jobshop.solution import read_schedule
from agents.games.packing.instance import read_instance as read_packing_instance
from agents.games.packing.solution import read_packing
from agents.search_agent.job_shop import JobShopSearchGame, random_shops
from agents.search_agent.packing import PackingSearchGame, random_packings
from agents.search_agent.self_play import PlayConfig
from agents.search_agent.train_config import SearchTrainConfig
from agents.search_agent.training import train_search
from agents.solve import main
from datasets.errors import UserError


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
