"""Training of the search agent: it learns, goes on exactly, and refuses what cannot be right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.job_shop import JobShopSearchGame, random_shops
from agents.search_agent.losses import search_loss
from agents.search_agent.replay import Replay
from agents.search_agent.self_play import PlayConfig, play
from agents.search_agent.train_config import SearchTrainConfig
from agents.search_agent.training import begin, learn, train_search
from datasets.errors import UserError


def config(run, **changes):
    return replace(
        SearchTrainConfig(
            game="job-shop",
            run=run,
            iterations=4,
            games_per_iteration=2,
            play=PlayConfig(num_simulations=3),
            steps_per_iteration=2,
            batch_size=16,
            width=16,
            save_every=2,
        ),
        **changes,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"play": PlayConfig("learned", num_simulations=3), "unroll": 2},
        {"play": PlayConfig(planner="beam", num_simulations=3, beam_width=2)},
    ],
)
def test_stopped_and_resumed_equals_undisturbed(tmp_path, games, changes):
    whole = train_search(config(tmp_path / "a", **changes), games)
    train_search(config(tmp_path / "b", max_iterations=2, **changes), games)
    parts = train_search(config(tmp_path / "b", resume=True, **changes), games)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_losses_fall_on_games_held(tmp_path, games):
    settings = config(tmp_path, unroll=2, steps_per_iteration=30, learning_rate=5e-3)
    train_search(replace(settings, steps_per_iteration=0), games)
    network, optimizer, replay, _ = begin(replace(settings, resume=True), games)
    first = learn(settings, network, optimizer, replay, 0)
    last = learn(settings, network, optimizer, replay, 1)
    for name in ("loss/policy", "loss/value", "loss/reward", "loss/value_error"):
        assert last[name] < first[name], name


def test_networks_and_games_must_fit(tmp_path, games):
    train_search(config(tmp_path / "a", iterations=1), games)
    with pytest.raises(UserError, match="already holds step_000001"):
        train_search(config(tmp_path / "a"), games)
    with pytest.raises(UserError, match="plays job-shop, not packing"):
        train_search(config(tmp_path / "b", game="packing", from_checkpoint=tmp_path / "a"), games)
    with pytest.raises(UserError, match="unroll"):
        config(tmp_path, play=PlayConfig("learned"))


def test_damaged_files_are_named(tmp_path, games):
    train_search(config(tmp_path / "a", iterations=1), games)
    file = next((tmp_path / "a" / "checkpoints").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"step_000001\.safetensors: not a readable"):
        load_search_checkpoint(tmp_path / "a")
    with pytest.raises(UserError, match="no checkpoint there"):
        load_search_checkpoint(tmp_path / "nothing")


def test_random_shops_are_as_asked():
    shops = random_shops(20, seed=1)
    for shop in shops:
        assert 6 <= shop.num_jobs <= 20
        assert 4 <= shop.num_machines <= 12
        for row in shop.machine:
            assert sorted(row) == list(range(shop.num_machines))
    assert len({shop.num_jobs for shop in shops}) > 3
    again = JobShopSearchGame(random_shops(20, seed=1)[7])
    np.testing.assert_array_equal(again.instance.duration, shops[7].duration)


def test_a_release_is_the_network_alone(tmp_path, games):
    network = train_search(config(tmp_path / "a", iterations=2), games)
    release = tmp_path / "network.safetensors"
    train_search(config(tmp_path / "a", iterations=2, resume=True, release=release), games)
    loaded = load_search_checkpoint(release)
    assert not loaded.optimizer
    assert not loaded.replay
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded.network.state_dict()[name]), name


def test_the_value_learns_what_the_estimate_leaves_over(games, network):
    replay = Replay(1000)
    replay.add(0, play(games[0], network, PlayConfig(num_simulations=2), count=2, seed=0))
    sample = replay.sample(8, 2, np.random.default_rng(0))
    shift = np.linspace(-1, 1, 8)
    estimated = replace(sample, observation=replace(sample.observation, estimate=shift))
    lifted = replace(estimated, returns=sample.returns + shift[:, None])
    torch.testing.assert_close(search_loss(network, lifted).total, search_loss(network, sample).total)
    assert search_loss(network, estimated).value != search_loss(network, sample).value
