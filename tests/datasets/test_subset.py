"""The first transitions of larger stores."""

import numpy as np
import pytest

from datasets.errors import UserError
from datasets.store import EpisodeStore
from datasets.subset import write_first
from tests.datasets.episodes import make_episode, write_store
from tests.house.small_store import write_small_store


@pytest.fixture
def stores(tmp_path):
    """Two stores; the second begins with what the first lacks."""
    first = write_small_store(tmp_path / "first.h5", games=("Pong",), lengths=(7, 5))
    second = write_small_store(tmp_path / "second.h5", games=("Breakout", "Pong"), lengths=(6, 4))
    return [EpisodeStore(first), EpisodeStore(second)]


def lengths(store: EpisodeStore, game: str) -> list[int]:
    return [info.length for info in store.episodes if info.game == game]


def test_each_game_is_filled_up_in_the_order_of_the_stores(stores, tmp_path):
    write_first(stores, ("Breakout", "Pong"), 14, tmp_path / "few.h5")
    few = EpisodeStore(tmp_path / "few.h5")
    assert lengths(few, "Pong") == [7, 5, 2]
    assert lengths(few, "Breakout") == [6, 4]  # all there are
    assert [info.ended for info in few.episodes if info.game == "Pong"] == [True, True, False]


def test_what_is_copied_is_the_beginning_of_the_original(stores, tmp_path):
    write_first(stores, ("Pong",), 9, tmp_path / "few.h5")
    few = EpisodeStore(tmp_path / "few.h5")
    assert few.games == ("Pong",)
    for copy, info in zip(few.episodes, stores[0].episodes, strict=True):
        length = copy.length
        assert (copy.behaviour, copy.seed) == (info.behaviour, info.seed)
        assert np.array_equal(few.frames(copy.key), stores[0].frames(info.key)[:length])
        assert np.array_equal(few.actions(copy.key), stores[0].actions(info.key)[:length])
        assert np.array_equal(few.rewards(copy.key), stores[0].rewards(info.key)[:length])
        assert np.array_equal(few.ends(copy.key), stores[0].ends(info.key)[:length])
        assert few.lives(copy.key) is None


def test_lives_are_copied_where_there_are_some(tmp_path):
    lives = np.array([5, 5, 5, 4, 4, 4, 3], dtype=np.uint8)
    store = write_store(tmp_path / "play.h5", [make_episode(7, "Breakout", lives=lives)])
    write_first([store], ("Breakout",), 5, tmp_path / "few.h5")
    assert EpisodeStore(tmp_path / "few.h5").lives("000000").tolist() == [5, 5, 5, 4, 4]


def test_a_count_that_ends_with_an_episode_leaves_no_empty_one(stores, tmp_path):
    write_first(stores, ("Pong",), 12, tmp_path / "few.h5")
    assert lengths(EpisodeStore(tmp_path / "few.h5"), "Pong") == [7, 5]


def test_a_whole_copy_has_the_contents_of_the_original(stores, tmp_path):
    write_first(stores[1:], ("Breakout", "Pong"), 1000, tmp_path / "all.h5")
    assert EpisodeStore(tmp_path / "all.h5").content_id == stores[1].content_id


def test_nothing_to_copy_leaves_no_file(stores, tmp_path):
    with pytest.raises(UserError, match="no episode was added"):
        write_first(stores, ("Freeway",), 10, tmp_path / "few.h5")
    assert not (tmp_path / "few.h5").exists()
