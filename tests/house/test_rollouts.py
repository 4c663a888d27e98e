"""Evaluation, collection and self-play by workers one of which is killed, against one process left alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.acting import ActingConfig
from agents.evaluate import EvaluateConfig, evaluate
from agents.rollout import RolloutConfig
from agents.search_agent.actors import play_round
from agents.search_agent.job_shop import JobShopSearchGame, random_shops
from agents.search_agent.self_play import PlayConfig
from agents.search_agent.train_config import SearchTrainConfig
from agents.search_agent.training import fresh_network
from datasets.collect import CollectConfig, collect
from datasets.executor import Executor, Here, LocalProcesses, Report, Show, Tally, Worker
from datasets.ray_cluster import RayCluster
from tests.agents.fakes import random_model, random_tokenizer
from world_model.checkpoint import save_checkpoint

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class OneDeath:
    """An executor one of whose workers is killed when it has done a part of its task."""

    inner: Executor
    folder: Path
    shown: list[Tally] = field(default_factory=list)

    @property
    def workers(self) -> int:
        return self.inner.workers

    def run(self, make: Callable[[], Worker[Any, Any]], tasks: Iterable[Any], show: Show) -> Generator[Any]:
        def noting(tally: Tally) -> None:
            self.shown.append(tally)
            show(tally)

        yield from self.inner.run(partial(make_mortal, make, self.folder), tasks, noting)
        assert (self.folder / "died").exists()


def make_mortal(make: Callable[[], Worker[Any, Any]], folder: Path) -> Worker[Any, Any]:
    worker = make()

    def work(task: Any, report: Report) -> Any:
        def deadly(tally: Tally) -> bool:
            go_on = report(tally)
            try:
                (folder / "died").touch(exist_ok=False)
            except FileExistsError:
                return go_on
            os.kill(os.getpid(), signal.SIGKILL)
            return False

        return worker(task, deadly)

    return work


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A cluster of two nodes of one CPU each."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(params=["local", "ray"])
def mortal(request, tmp_path) -> OneDeath:
    if request.param == "ray":
        return OneDeath(RayCluster(2, request.getfixturevalue("ray_address")), tmp_path)
    return OneDeath(LocalProcesses(2), tmp_path)


def test_evaluation_loses_no_episode_and_counts_none_twice(mortal, tmp_path, monkeypatch):
    save_checkpoint(
        tmp_path / "run" / "checkpoints" / "step_00000010",
        step=10,
        tokenizer=random_tokenizer(),
        model=random_model(),
        optimizer={},
        training={},
    )
    config = EvaluateConfig(
        checkpoint=tmp_path / "run",
        game="Pong",
        acting=ActingConfig(planner="greedy", epsilon=0.2),
        rollout=RolloutConfig(episodes=8, envs=2, max_decisions=6),
        device="cpu",
    )
    alone = evaluate(config)
    monkeypatch.setattr("agents.evaluate.find_executor", lambda *_: mortal)
    assert evaluate(config).results == alone.results
    assert [result.index for result in alone.results] == list(range(8))
    assert mortal.shown[-1] == Tally(decisions=48, episodes=8)


def test_collection_writes_the_same_file(mortal, tmp_path, monkeypatch):
    config = CollectConfig(
        "Pong", tmp_path / "alone.h5", 150, "tracker@0.1..0.5:2,random:1", max_episode_decisions=40
    )
    monkeypatch.setattr("datasets.collect.find_executor", lambda *_: Here())
    collect(config)
    monkeypatch.setattr("datasets.collect.find_executor", lambda *_: mortal)
    collect(replace(config, out=tmp_path / "shared.h5"))
    assert (tmp_path / "shared.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()


def test_self_play_plays_each_game_once(mortal, tmp_path):
    [game] = [JobShopSearchGame(shop) for shop in random_shops(1, seed=5)]
    network = fresh_network(SearchTrainConfig("job-shop", tmp_path, width=16), game).eval()
    config = PlayConfig(num_simulations=3)
    alone = play_round(Here(), game, network, config, count=4, seed=4)
    shared = play_round(mortal, game, network, config, count=4, seed=4)
    assert len({tuple(episode.actions) for episode in alone}) == 4
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        assert one.total == other.total
    assert mortal.shown[-1] == Tally(sum(len(episode.actions) for episode in alone), 4)
