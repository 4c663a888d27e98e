"""The benchmark of learning: stages that run once, what is reported, and the players it compares with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.rollout import RolloutConfig, play_episodes
from benchmarks.learning import (
    LearningConfig,
    Stage,
    apart,
    network_apart,
    planning,
    playing,
    run_stages,
    training,
    write_scores,
)
from benchmarks.learning_games import LEARNING_GAMES, find_learning_game, greedy_players, planners_of
from benchmarks.learning_report import differences, read_scores, report
from datasets.behaviour_mixtures import parse_mixture
from datasets.errors import UserError
from datasets.games import find_game
from tests.agents.fakes import random_tokenizer
from tests.house.processes import ROOT, assert_ends_with_parent
from tests.house.small_store import write_small_store
from world_model.sizes import SIZES
from world_model.world_action_model import WorldActionModel


def finished_folder(folder: Path, scores: dict[str, list[float]]) -> Path:
    """A seed's folder as the stages leave it."""
    (folder / "scores").mkdir(parents=True)
    (folder / "run").mkdir()
    write_small_store(folder / "play.h5", games=("Pong",))
    (folder / "trained.json").write_text('{"cpu_minutes": 1.5, "resumed": false}')
    lines = [{"step": step, "phase": "joint", "loss/td": 2.0 - step / 10} for step in range(10)]
    lines.append({"step": 9, "phase": "joint", "held_out": {"loss/td": 1.5}})
    (folder / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name, values in scores.items():
        episodes = [{"score": value} for value in values]
        (folder / "scores" / f"{name}.json").write_text(json.dumps({"episodes": episodes}))
    return folder


def test_two_networks_apart_are_as_large_as_the_one_that_does_both():
    def learned(module):
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    made = (replace(size, vocab_size=1024, max_blocks=6) for size in (SIZES["tiny"], network_apart()))
    joint, alone = map(WorldActionModel, made)
    for_q, for_world = {"head_q", "head_value"}, {"head_observations", "head_rewards", "head_ends"}
    shared = sum(learned(m) for name, m in alone.named_children() if name not in for_q | for_world)
    assert learned(alone) + shared == pytest.approx(learned(joint), rel=0.01)


def test_the_network_apart_learns_no_world(tmp_path):
    game = find_learning_game("Pong")
    joint = training(LearningConfig("Pong", minutes=10.0), game, tmp_path, 0)
    alone = apart(joint, tmp_path)
    assert alone.loss.supervised_weight == 0
    assert alone.world_steps == 0
    assert alone.total_steps == joint.total_steps
    assert alone.run != joint.run


def test_a_report_compares_all_players(tmp_path):
    scores = {
        "random": [-21.0, -20.0],
        "clone": [-10.0, -12.0],
        "greedy": [1.0, 3.0],
        "beam 2x2": [6.0, 8.0],
        "curve step_00000010": [0.0, 1.0],
    }
    folders = [finished_folder(tmp_path / str(seed), scores) for seed in range(2)]
    text = report("Pong", folders, tmp_path / "pong.png")
    assert (tmp_path / "pong.png").stat().st_size > 0
    found = read_scores(folders)
    assert list(found) == ["the data", "random", "clone", "greedy", "beam 2x2"]
    assert found["the data"].shape == (2, 3)
    rows = dict(differences(found))
    assert rows["greedy - clone"].startswith("13.00")
    assert rows["beam 2x2 - greedy"].startswith("5.00")
    assert "greedy - conservative" not in rows
    assert "beam 2x2" in text
    assert "CPU minutes of our training: 1.5, 1.5" in text


def test_planners_play_after_all_others(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.learning.list_checkpoints", lambda run: [run / "step_00000010"])
    monkeypatch.setattr("benchmarks.learning.best_checkpoint", lambda run: run / "step_00000010")
    game = find_learning_game("Pong")
    first, later = (
        [stage.name for stage in stages(LearningConfig("Pong"), game, tmp_path, 0)]
        for stages in (playing, planning)
    )
    assert {"play greedy", "play clone", "play conservative", "play random", "play Q network apart"} < {
        *first
    }
    assert {"play tree search", "play beam 2x2", "play curve step_00000010"} < {*later}
    assert not {*first} & {*later}


def leave(path: Path) -> None:
    path.write_text("done")


def fail() -> None:
    raise UserError("the disk is full")


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "no checkpoint yet"])
def test_baselines_alone_play_and_are_reported_without_our_agent(tmp_path, begun):
    folder = finished_folder(tmp_path / "seed_0", {"clone": [4.0, 6.0]})
    if not begun:
        shutil.rmtree(folder / "run")
    (folder / "trained.json").unlink()
    names = [s.name for s in playing(LearningConfig("Pong"), find_learning_game("Pong"), folder, 0)]
    assert "play clone" in names
    assert "play greedy" not in names
    text = report("Pong", [folder], tmp_path / "picture.png")
    assert "5.0" in text
    assert "not trained" in text
    assert (tmp_path / "picture.png").exists()


def test_a_stage_that_is_done_is_not_done_again(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("before")
    run_stages([Stage("one", old, partial(leave, old)), Stage("two", new, partial(leave, new))], workers=1)
    assert (old.read_text(), new.read_text()) == ("before", "done")
    assert "two:" in (tmp_path / "logs" / "two.txt").read_text()


def test_a_stage_that_fails_is_named_after_the_others_are_done(tmp_path):
    other = tmp_path / "other"
    stages = [Stage("broken", tmp_path / "broken", fail), Stage("other", other, partial(leave, other))]
    with pytest.raises(UserError, match=r"broken: the disk is full; see .*broken\.txt"):
        run_stages(stages, workers=1)
    assert other.exists()


def test_a_stage_ends_with_the_benchmark_when_that_is_killed(tmp_path):
    told = tmp_path / "pid"
    stage = f"Stage('waits', Path({str(tmp_path / 'done')!r}), partial(tell_and_wait, Path({str(told)!r})))"
    imports = f"from {__name__} import *\nfrom tests.house.processes import tell_and_wait"
    script = f"{imports}\nrun_stages([{stage}], 1)"
    assert_ends_with_parent(script, told)


def test_recipes_name_behaviours_that_exist_and_settings_that_can_act():
    for name, game in LEARNING_GAMES.items():
        parse_mixture(game.behaviour, find_game(name))
        assert game.data_steps(1) == game.data_steps(10) < game.data_steps(30) == game.data_steps(600)
        players = [*greedy_players(game).values(), *planners_of(game).values()]
        assert all(acting.steps_ahead < game.recipe.context_frames for acting in players)
    with pytest.raises(UserError, match="no recipe for Tennis; name one of Freeway"):
        find_learning_game("Tennis")


def test_it_starts_as_a_file_too():
    command = [sys.executable, "benchmarks/learning.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert "--minutes" in done.stdout


@pytest.mark.parametrize("kind", ["clone", "clone the best", "conservative"])
def test_a_baseline_learns_and_plays(kind, tmp_path):
    pytest.importorskip("tianshou", reason="the baselines need the extra `baselines`")
    from benchmarks.learning_baselines import BaselineConfig, BaselinePlayer, train_baseline

    store = write_small_store(tmp_path / "play.h5", games=("Pong",))
    config = BaselineConfig(kind, store, steps=4, held_out_fraction=0.4)
    weights = tmp_path / "weights.safetensors"
    train_baseline(config, weights)
    curve = json.loads(weights.with_suffix(".json").read_text())
    assert [row["step"] for row in curve] == [1, 2, 3, 4]
    assert all(np.isfinite(row["held_out_imitation_loss"]) for row in curve)
    game = find_game("Pong")
    rollout = RolloutConfig(episodes=2, envs=2, max_decisions=5)
    players = [BaselinePlayer(config, weights, game, epsilon=0.5, seed=1) for _ in range(2)]
    first, second = (play_episodes(player, game, rollout, seed=3) for player in players)
    assert [result.frames for result in first] == [result.frames for result in second]
    write_scores(first, tmp_path / "scores.json")
    assert len(json.loads((tmp_path / "scores.json").read_text())["episodes"]) == 2


def test_a_baseline_plays_by_what_a_tokenizer_keeps(tmp_path):
    pytest.importorskip("tianshou", reason="the baselines need the extra `baselines`")
    from benchmarks.learning_baselines import BaselineConfig, train_baseline
    from benchmarks.redrawn import RedrawnPlayer

    store = write_small_store(tmp_path / "play.h5", games=("Pong",))
    config = BaselineConfig("clone", store, steps=1, held_out_fraction=0.4)
    weights = tmp_path / "weights.safetensors"
    train_baseline(config, weights)
    game, tokenizer = find_game("Pong"), random_tokenizer()
    saw, shown = [], []

    class Watched(RedrawnPlayer):
        def seen(self, seats):
            shown.append(np.stack([seat.emulator.frame for seat in seats]))
            saw.append(super().seen(seats))
            return saw[-1]

    player = Watched(tokenizer, config, weights, game, seed=1)
    play_episodes(player, game, RolloutConfig(episodes=2, envs=2, max_decisions=3), seed=3)
    assert len(saw) == 2 + 3  # once as each episode begins, then both games at once
    for frames, redrawn in zip(shown, saw, strict=True):
        tasks = torch.full((len(frames),), game.task_id)
        kept = tokenizer.decode(tokenizer.encode(torch.from_numpy(frames), tasks), tasks).numpy()
        np.testing.assert_array_equal(redrawn, kept)
        assert (redrawn != frames).any()
