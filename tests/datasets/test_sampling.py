"""Batches hold what the stores hold, and depend on the seed and the step alone."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.errors import UserError
from datasets.games import find_game
from datasets.sampling import FrameSampler, Parts, SamplingConfig, SegmentSampler, batches
from datasets.segments import Episode, SegmentConfig, cut_episodes
from datasets.tokens import TokenCache, build_token_cache
from tests.conftest import SHARED
from tests.datasets.episodes import FakeTokenizer, make_episode, write_store

FIRST = [make_episode(5), make_episode(20, "Breakout", 1), make_episode(1, seed=2), make_episode(9, seed=3)]
SECOND = [make_episode(13, "Breakout", 4, ended=False), make_episode(3, "Alien", 5), make_episode(30, seed=6)]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two stores that share a game."""
    folder = tmp_path_factory.mktemp("stores")
    return [write_store(folder / "first.h5", FIRST), write_store(folder / "second.h5", SECOND)]


@pytest.fixture(scope="module")
def caches(stores):
    """Their token caches."""
    return [build_token_cache(store, FakeTokenizer(), progress=False) for store in stores]


def fields_of(batch):
    return vars(batch)


def assert_equal(first, second):
    assert fields_of(first).keys() == fields_of(second).keys()
    for name, tensor in fields_of(first).items():
        assert tensor.dtype == fields_of(second)[name].dtype
        assert torch.equal(tensor, fields_of(second)[name]), name


def segment_by_definition(episode, start, config):
    """One row of a batch as plain lists, step by step."""
    rewards = [float(r) if config.raw_rewards else float(np.sign(r)) for r in episode.rewards]
    returns = [0.0]
    for reward in reversed(rewards):
        returns.append(reward + config.discount * returns[-1])
    returns = returns[:0:-1]
    tokens = FakeTokenizer().expected([episode])
    rows = []
    for step in range(start, start + config.segment_length):
        if 0 <= step < len(rewards):
            seen = (tokens[step].tolist(), int(episode.actions[step]))
            rows.append((*seen, rewards[step], int(episode.ends[step]), returns[step], True))
        else:
            rows.append(([0, 0, 0, 0], 0, 0.0, 0, 0.0, False))
    return [list(column) for column in zip(*rows, strict=True)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.builds(
        SegmentConfig,
        segment_length=st.integers(1, 10),
        stride=st.integers(1, 10),
        padding=st.sampled_from(["right", "left"]),
        published_semantics=st.booleans(),
        discount=st.sampled_from([0.0, 0.9, 1.0]),
        raw_rewards=st.booleans(),
    )
)
def test_every_segment_is_that_of_its_episode(stores, caches, config):
    episodes = FIRST + SECOND
    sampler = SegmentSampler(stores, caches, SamplingConfig(), config, split="all")
    cut = cut_episodes(np.array([len(episode.actions) for episode in episodes]), config)
    games = [episode.game for episode in episodes]
    # Segments are numbered by game, in alphabetical order, and then as they are cut.
    order = [row for game in sorted(set(games)) for row, e in enumerate(cut.episode) if games[e] == game]
    assert len(sampler) == len(order)
    batch = sampler.load(np.arange(len(order)))
    for row, segment in enumerate(order):
        episode = episodes[cut.episode[segment]]
        expected = segment_by_definition(episode, int(cut.start[segment]), config)
        got = [batch.tokens, batch.actions, batch.rewards, batch.ends, batch.returns, batch.mask]
        assert [tensor[row].tolist() for tensor in got[:4]] == expected[:4]
        assert batch.returns[row].tolist() == pytest.approx(expected[4], rel=1e-5, abs=1e-6)
        assert batch.mask[row].tolist() == expected[5]
        assert batch.task_id[row] == find_game(episode.game).task_id
        assert batch.legal_mask[row].tolist() == find_game(episode.game).legal_mask.tolist()
    assert batch.mask.any(dim=1).all()


def test_types_are_those_of_the_contract(stores, caches):
    batch = SegmentSampler(stores, caches, SamplingConfig(batch_size=7), SegmentConfig()).batch(0)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in fields_of(batch).items()} == {
        "tokens": (torch.int64, (7, 8, 4)),
        "actions": (torch.int64, (7, 8)),
        "rewards": (torch.float32, (7, 8)),
        "ends": (torch.int64, (7, 8)),
        "returns": (torch.float32, (7, 8)),
        "value_returns": (torch.float32, (7, 8)),
        "mask": (torch.bool, (7, 8)),
        "task_id": (torch.int64, (7,)),
        "legal_mask": (torch.bool, (7, 18)),
    }


def test_the_value_head_learns_returns_or_failures(tmp_path):
    lives = np.array([2, 2, 1, 1, 1], dtype=np.uint8)
    quiet = np.array([0, 1, 0, 1, 0], dtype=np.float32)
    store = write_store(tmp_path / "a.h5", [make_episode(5, "Breakout", lives=lives, rewards=quiet)])
    cache = build_token_cache(store, FakeTokenizer(), progress=False)
    rule = SegmentConfig(segment_length=5, stride=5, discount=0.5)
    got = {}
    for value_of in ("returns", "failures"):
        sampling, segments = SamplingConfig(batch_size=1), replace(rule, value_of=value_of)
        got[value_of] = SegmentSampler([store], [cache], sampling, segments, split="all").batch(0)
    assert torch.equal(got["returns"].value_returns, got["returns"].returns)
    assert torch.equal(got["failures"].returns, got["returns"].returns)
    assert got["failures"].value_returns[0].tolist() == [-0.5, -1.0, -0.25, -0.5, -1.0]


def test_failures_need_recorded_lives(stores, caches):
    with pytest.raises(UserError, match=r"first\.h5: episode 000000 does not say how many lives .* collect"):
        SegmentSampler(stores, caches, SamplingConfig(), SegmentConfig(value_of="failures"))


def samplers_of(stores, caches, **config):
    config = SamplingConfig(batch_size=6, **config)
    return [SegmentSampler(stores, caches, config, SegmentConfig()), FrameSampler(stores, config)]


@pytest.mark.parametrize("kind", [0, 1])
def test_batches_do_not_depend_on_the_number_of_workers(stores, caches, kind):
    sampler = samplers_of(stores, caches)[kind]
    expected = [sampler.batch(step) for step in range(3, 12)]
    state = torch.random.get_rng_state()
    for num_workers in (0, 1, 2):
        loaded = list(batches(sampler, 3, 12, num_workers))
        assert len(loaded) == 9
        for first, second in zip(loaded, expected, strict=True):
            assert_equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state), "loading must not touch the global generator"


@pytest.mark.parametrize("kind", [0, 1])
def test_batches_depend_on_seed_and_step_alone(stores, caches, kind):
    sampler = samplers_of(stores, caches, seed=1)[kind]
    late = sampler.batch(40)
    fresh = samplers_of(stores, caches, seed=1)[kind]
    assert_equal(fresh.batch(40), late)
    assert not np.array_equal(fresh.indices(41), fresh.indices(40))
    assert not np.array_equal(samplers_of(stores, caches, seed=2)[kind].indices(40), fresh.indices(40))


@pytest.mark.parametrize("kind", [0, 1])
def test_the_shares_of_several_processes_make_the_whole_batch(stores, caches, kind):
    sampler = samplers_of(stores, caches)[kind]
    whole, indices = sampler.batch(5), sampler.indices(5)
    shares = [sampler.load(indices[rank::3]) for rank in range(3)]
    for rank, share in enumerate(shares):
        for name, tensor in fields_of(share).items():
            assert torch.equal(tensor, fields_of(whole)[name][rank::3])


@pytest.mark.parametrize("kind", [0, 1])
def test_a_sampler_can_be_pickled(stores, caches, kind):
    sampler = samplers_of(stores, caches)[kind]
    assert_equal(pickle.loads(pickle.dumps(sampler)).batch(3), sampler.batch(3))


@pytest.mark.parametrize("kind", [0, 1])
def test_every_tensor_of_a_batch_is_pinned_for_a_gpu(stores, caches, kind, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, device=None: pinned.append(self) or self)
    parts = Parts(samplers_of(stores, caches)[kind], [range(3)])
    # What a DataLoader calls where there is a GPU.
    [batch] = torch.utils.data._utils.pin_memory.pin_memory(parts.batch(0))
    assert type(batch) is type(parts.batch(0)[0])
    assert len(pinned) == len(fields_of(batch))


def test_the_splits_share_no_episode_and_miss_none(stores, caches):
    sampling = SamplingConfig(held_out_fraction=0.3)
    episodes = {}
    for split in ("train", "held_out", "all"):
        frames = FrameSampler(stores, sampling, split)
        segments = SegmentSampler(stores, caches, sampling, SegmentConfig(), split)
        episodes[split] = set(frames.mixture.episodes.tolist())
        assert episodes[split] == set(segments.mixture.episodes.tolist())
    assert episodes["train"] | episodes["held_out"] == episodes["all"] == set(range(7))
    assert not episodes["train"] & episodes["held_out"]
    assert episodes["held_out"]


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_only_the_best_episodes_of_a_split_are_drawn(stores, caches, split):
    config = SegmentConfig(stride=1)
    everything = SamplingConfig(held_out_fraction=0.3, batch_size=200)
    of_split = SegmentSampler(stores, caches, everything, config, split)
    best = SegmentSampler(stores, caches, replace(everything, best_share=0.5), config, split)
    infos = [info for store in stores for info in store.episodes]
    left_out = set(of_split.mixture.episodes.tolist()) - set(best.mixture.episodes.tolist())
    assert left_out or split == "held_out"
    for game in {infos[episode].game for episode in of_split.mixture.episodes}:
        of_game = [e for e in of_split.mixture.episodes.tolist() if infos[e].game == game]
        kept = [e for e in of_game if e not in left_out]
        assert sum(infos[e].length for e in kept) >= 0.5 * sum(infos[e].length for e in of_game)
        worst = min(infos[e].total_reward for e in kept)
        assert all(infos[e].total_reward <= worst for e in of_game if e in left_out)
    drawn, _ = best.mixture.locate(best.indices(0))
    assert not left_out & set(drawn.tolist())


def test_frames_from_memory_and_from_disk_are_those_of_the_store(stores):
    sampling = SamplingConfig(batch_size=20, seed=3)
    in_memory = FrameSampler(stores, sampling, "all")
    on_disk = FrameSampler(stores, sampling, "all", memory_limit=0)
    for step in range(5):
        assert_equal(in_memory.batch(step), on_disk.batch(step))
    batch = in_memory.load(np.arange(len(in_memory)))
    by_seed = {episode.seed: episode for episode in FIRST + SECOND}
    seen = set()
    for frame, task_id in zip(batch.frames.numpy(), batch.task_id.tolist(), strict=True):
        step, seed = int(frame[0, 0]) + 256 * int(frame[0, 1]), int(frame[0, 2])
        np.testing.assert_array_equal(frame, by_seed[seed].frames[step])
        assert task_id == find_game(by_seed[seed].game).task_id
        seen.add((seed, step))
    assert len(seen) == len(in_memory) == sum(store.num_steps for store in stores)


def test_only_the_games_asked_for_are_drawn(stores, caches):
    for sampler in samplers_of(stores, caches, games=("Alien", "Breakout")):
        drawn = {task_id for step in range(20) for task_id in sampler.batch(step).task_id.tolist()}
        assert drawn == {find_game("Alien").task_id, find_game("Breakout").task_id}


def test_a_game_that_the_stores_do_not_hold_is_refused(stores, caches):
    message = r"first\.h5, .*second\.h5: no episodes of Freeway, only of Alien, Breakout, Pong"
    with pytest.raises(UserError, match=message):
        SegmentSampler(stores, caches, SamplingConfig(games=("Freeway",)), SegmentConfig())
    with pytest.raises(UserError, match=message):
        FrameSampler(stores, SamplingConfig(games=("Pong", "Freeway=2")))


def test_a_dataset_of_padding_only_is_refused(tmp_path):
    store = write_store(tmp_path / "short.h5", [make_episode(1), make_episode(1, seed=1)])
    cache = build_token_cache(store, FakeTokenizer(), progress=False)
    rule = SegmentConfig(padding="left", published_semantics=True)
    with pytest.raises(
        UserError, match=r"short\.h5: nothing to draw of Pong: every segment would be padding"
    ):
        SegmentSampler([store], [cache], SamplingConfig(), rule)


def test_nothing_held_out_is_told(tmp_path):
    store = write_store(tmp_path / "one.h5", [make_episode(9)])
    with pytest.raises(UserError, match=r"one\.h5: nothing to draw of Pong: no episode is held out; raise"):
        FrameSampler([store], SamplingConfig(), "held_out")


def test_no_store_is_told():
    with pytest.raises(UserError, match=r"no episode store is given"):
        FrameSampler([], SamplingConfig())


def test_caches_that_do_not_belong_are_refused(stores, caches, tmp_path):
    with pytest.raises(UserError, match=r"second\.tokens-.* is not of the present contents of .*first\.h5"):
        SegmentSampler(stores, caches[::-1], SamplingConfig(), SegmentConfig())
    other = build_token_cache(stores[1], FakeTokenizer("b"), progress=False)
    with pytest.raises(UserError, match="are by different tokenizers"):
        SegmentSampler(stores, [caches[0], other], SamplingConfig(), SegmentConfig())
    with pytest.raises(ValueError, match="2 stores but 1 token caches"):
        SegmentSampler(stores, caches[:1], SamplingConfig(), SegmentConfig())


def test_a_sampler_keeps_its_tokens_when_the_cache_is_extended(tmp_path):
    path = tmp_path / "play.h5"
    store = write_store(path, FIRST)
    cache = build_token_cache(store, FakeTokenizer(), progress=False)
    sampler = SegmentSampler([store], [cache], SamplingConfig(), SegmentConfig())
    before = sampler.batch(4)
    build_token_cache(write_store(path, SECOND, append=True), FakeTokenizer(), progress=False)
    assert TokenCache(cache.path).num_episodes == 7
    assert_equal(sampler.batch(4), before)


@pytest.mark.skipif(not SHARED.exists(), reason="the published program's recorded batches are not here")
@pytest.mark.parametrize("padding", ["right", "left"])
def test_batches_equal_the_published_ones(tmp_path, padding):
    h5py = pytest.importorskip("h5py")
    folder = SHARED / "parity" / "jowa" / "data_phoenix"
    legal = np.array(find_game("Phoenix").legal_actions, dtype=np.uint8)
    episodes = []
    with h5py.File(folder / "trajectory" / "data" / "Phoenix.h5") as file:
        for index in range(len(file)):
            group = {name: array[:] for name, array in file[str(index)].items()}
            arrays = (group["observations"], legal[group["actions"]], group["rewards"], group["terminals"])
            episodes.append(Episode(*arrays, game="Phoenix", behaviour="recorded", seed=index))
    store = write_store(tmp_path / "phoenix.h5", episodes)
    tokenizer = FakeTokenizer(tokens_per_frame=36)
    cache = build_token_cache(store, tokenizer, progress=False)
    rule = SegmentConfig(padding=padding, published_semantics=True, raw_rewards=True)
    sampler = SegmentSampler([store], [cache], SamplingConfig(), rule, "all")
    recorded = torch.load(folder / "expected.pt", weights_only=True)["datasets"][f"_{padding}_padding"]
    assert len(sampler) == recorded["length"]
    expected = recorded["batch"]
    batch = sampler.load(np.array(recorded["indices"]))
    for name, ours in (("actions", batch.actions), ("rewards", batch.rewards), ("ends", batch.ends)):
        assert torch.equal(ours, expected[name]), name
    assert torch.equal(batch.mask, expected["mask_padding"])
    assert torch.equal(batch.task_id, expected["envs"])
    tokens = tokenizer.encode(
        expected["observations_u8"].flatten(0, 2), torch.tensor(find_game("Phoenix").task_id)[None]
    )
    assert torch.equal(batch.tokens, tokens.view(16, 8, 36) * batch.mask[:, :, None])
