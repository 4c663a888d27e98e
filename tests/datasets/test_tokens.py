"""A token cache holds what the tokenizer says of every frame, and is made again whenever that changes."""

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from datasets.errors import UserError
from datasets.store import EpisodeStore
from datasets.tokens import TokenCache, build_token_cache, token_cache_path
from tests.datasets.episodes import FakeTokenizer, make_episode, write_store

EPISODES = [
    make_episode(5),
    make_episode(20, "Breakout", 1),
    make_episode(1, seed=2),
    make_episode(9, seed=3),
]


@pytest.fixture
def store(tmp_path):
    """A store of two games."""
    return write_store(tmp_path / "play.h5", EPISODES)


def build(store, tokenizer, **options):
    return build_token_cache(store, tokenizer, progress=False, **options)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 20, 100])
def test_tokens_are_those_of_every_frame_in_order(store, batch_size):
    tokenizer = FakeTokenizer()
    cache = build(store, tokenizer, batch_size=batch_size)
    np.testing.assert_array_equal(cache.tokens, tokenizer.expected(EPISODES))
    assert cache.tokens.dtype == np.uint16
    assert tokenizer.frames_seen == store.num_steps
    assert set(tokenizer.batch_sizes[:-1]) <= {batch_size}


def test_the_file_is_plain_safetensors_tied_to_tokenizer_and_store(store):
    cache = build(store, FakeTokenizer("c"))
    np.testing.assert_array_equal(load_file(cache.path)["tokens"], cache.tokens)
    with safe_open(cache.path, "np") as file:
        metadata = file.metadata()
    assert (metadata["tokenizer"], metadata["content_id"]) == ("c" * 64, store.content_id)
    assert cache.path == token_cache_path(store.path, "c" * 64)
    assert cache.path.name == "play.tokens-cccccccccccc.safetensors"


def test_a_cache_that_fits_is_used_as_it_is(store):
    first = build(store, FakeTokenizer())
    before = first.path.stat()
    tokenizer = FakeTokenizer()
    again = build(EpisodeStore(store.path), tokenizer)
    assert tokenizer.frames_seen == 0
    assert again.path.stat().st_mtime_ns == before.st_mtime_ns
    assert again.path.stat().st_ino == before.st_ino


def test_each_tokenizer_has_its_own_cache(store):
    first = build(store, FakeTokenizer("a"))
    second = build(store, FakeTokenizer("b", tokens_per_frame=6, offset=7))
    assert first.path != second.path
    assert second.tokens.shape == (store.num_steps, 6)
    np.testing.assert_array_equal(TokenCache(first.path).tokens, FakeTokenizer().expected(EPISODES))


def test_a_cache_is_extended_when_the_store_has_grown(store):
    old = build(store, FakeTokenizer())
    added = [make_episode(6, seed=8), make_episode(3, "Alien", 9)]
    grown = write_store(store.path, added, append=True)
    tokenizer = FakeTokenizer()
    cache = build(grown, tokenizer)
    assert tokenizer.frames_seen == 9
    np.testing.assert_array_equal(cache.tokens, tokenizer.expected(EPISODES + added))
    assert cache.content_id == grown.content_id
    assert len(old.tokens) == store.num_steps, "whoever has the old cache open keeps it"
    assert len([name for name in os.listdir(store.path.parent) if "tokens" in name]) == 1


@pytest.mark.parametrize("other", [EPISODES[::-1], EPISODES[:2], [make_episode(5, seed=5), *EPISODES[1:]]])
def test_a_cache_of_other_contents_is_built_again(store, other):
    build(store, FakeTokenizer())
    replaced = write_store(store.path, other)
    tokenizer = FakeTokenizer()
    cache = build(replaced, tokenizer)
    np.testing.assert_array_equal(cache.tokens, tokenizer.expected(other))
    assert tokenizer.frames_seen == replaced.num_steps


def test_a_cache_whose_name_belongs_to_another_tokenizer_is_built_again(store):
    cache = build(store, FakeTokenizer("a"))
    path = token_cache_path(store.path, "b" * 64)
    cache.path.rename(path)
    tokenizer = FakeTokenizer("b", offset=5)
    np.testing.assert_array_equal(build(store, tokenizer).tokens, tokenizer.expected(EPISODES) + 5)


DAMAGE = {
    "truncated": (lambda data: data[:-7], r"is truncated \(\d+ of \d+ bytes\)"),
    "too long": (lambda data: data + b"0", "is truncated"),
    "no tokens": (lambda data: data[:40], "is not a token cache or is damaged"),
    "empty": (lambda data: b"", "is not a token cache or is damaged"),
    "text": (lambda data: b"step,token\n" * 20, "is not a token cache or is damaged"),
    "another version": (
        lambda data: data.replace(b'"version": "1"', b'"version": "2"'),
        "is a token cache of another format or version",
    ),
    "no metadata": (lambda data: data.replace(b"__metadata__", b"__metaquark_"), "is not a token cache or"),
    "impossible shape": (lambda data: data.replace(b"[35, 4]", b"[35,-4]"), "is truncated"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_refused_when_opened_and_built_again_when_needed(store, damage):
    change, message = DAMAGE[damage]
    path = build(store, FakeTokenizer()).path
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    assert path.read_bytes() != whole
    with pytest.raises(UserError, match=rf"safetensors {message}.*; delete it, and it is built again"):
        TokenCache(path)
    build(store, FakeTokenizer())
    assert path.read_bytes() == whole


def test_a_missing_cache_is_told(tmp_path):
    with pytest.raises(UserError, match=r"there is no token cache at .*none"):
        TokenCache(tmp_path / "none")


@pytest.mark.parametrize("offset", [2**16, -(2**16)])
def test_a_token_that_does_not_fit_is_refused(store, offset):
    with pytest.raises(UserError, match=r"was not written: token .* does not fit 16 bits"):
        build(store, FakeTokenizer(offset=offset))
    assert os.listdir(store.path.parent) == ["play.h5"]


class FailingTokenizer(FakeTokenizer):
    """Fails after a few batches."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def encode(self, frames, task_id):
        if self.frames_seen > 10:
            raise self.error
        return super().encode(frames, task_id)


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "No space left on device"), UserError)],
)
def test_what_stops_a_build_leaves_the_old_cache(store, error, told):
    path = build(store, FakeTokenizer()).path
    whole = path.read_bytes()
    grown = write_store(store.path, [make_episode(20, seed=8)], append=True)
    with pytest.raises(told):
        build(grown, FailingTokenizer(error), batch_size=4)
    assert path.read_bytes() == whole
    assert sorted(os.listdir(store.path.parent)) == ["play.h5", path.name]


def test_a_cache_is_pickled_as_its_path(store):
    cache = build(store, FakeTokenizer(tokens_per_frame=36))
    pickled = pickle.dumps(cache)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).tokens, cache.tokens)


def test_a_cache_replaced_before_it_is_opened_again_is_noticed(store):
    pickled = pickle.dumps(build(store, FakeTokenizer()))
    build(write_store(store.path, EPISODES[::-1]), FakeTokenizer())
    with pytest.raises(UserError, match="was replaced after it was opened"):
        pickle.loads(pickled)


@pytest.mark.parametrize("memory", [1, 2**40])
def test_the_tokens_are_mapped_and_read_ahead_only_if_they_fit_in_memory(store, monkeypatch, memory):
    monkeypatch.setattr("datasets.tokens.PHYSICAL_MEMORY", memory)
    cache = build(store, FakeTokenizer())
    assert not cache.tokens.flags.writeable
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("only Linux tells how files are mapped")
    [of_file] = [text for text in maps.read_text().split("VmFlags:")[:-1] if str(cache.path) in text]
    flags = maps.read_text().split(of_file)[1].splitlines()[0].split()
    assert ("rr" in flags) == (memory == 1)
