"""The published trajectories come in and go out without a change."""

import numpy as np
import pytest
import torch

from datasets.conversion.engine import convert
from datasets.conversion.published_export import ExportPublishedConfig, export_published
from datasets.conversion.published_format import TASK_ALIASES, Meta, published_task_id, write_meta
from datasets.conversion.published_reading import RecordedTokens
from datasets.conversion.published_source import PublishedConfig, plan_published
from datasets.conversion.report import read_report, report_path
from datasets.errors import UserError
from datasets.games import find_game
from datasets.store import EpisodeStore
from datasets.tokens import TokenCache, build_token_cache
from tests.datasets.conversion_sources import write_trajectories
from tests.datasets.episodes import FakeTokenizer, make_episode, write_store

h5py = pytest.importorskip("h5py")
LENGTHS = [5, 12, 1, 9]
META_HEADER = "Total episodes,Total steps,Steps per episode,Downsampled episodes,Downsampled steps\n"


class FakeDecoder(FakeTokenizer):
    """Frames whose first pixels are the tokens."""

    def __init__(self, vocab_size=200):
        super().__init__(tokens_per_frame=36)
        self.config.vocab_size = vocab_size

    def decode(self, tokens, task_id):
        frames = torch.zeros(len(tokens), 84, 84, dtype=torch.uint8)
        frames[:, 0, :36] = tokens.to(torch.uint8)
        frames[:, 1, 0] = task_id.to(torch.uint8)
        return frames


def run(root, out, tokenizer=None, **options):
    path = root / "tokenizer" if tokenizer else None
    config = PublishedConfig(root=root, out=out, tokenizer=path, **options)
    return [convert(plan, out, 1, progress=False).report for plan in plan_published(config, tokenizer)]


def groups(path):
    with h5py.File(path) as file:
        return {key: {name: array[()] for name, array in file[key].items()} for key in file}


def assert_same_trajectories(first, second):
    first, second = groups(first), groups(second)
    assert first.keys() == second.keys()
    for key, arrays in first.items():
        assert arrays.keys() == second[key].keys()
        for name, array in arrays.items():
            assert array.dtype == second[key][name].dtype, name
            np.testing.assert_array_equal(array, second[key][name])


def test_trajectories_come_back_equal(tmp_path):
    source = write_trajectories(tmp_path / "theirs", LENGTHS)
    (report,) = run(tmp_path / "theirs", tmp_path / "ours")
    assert (report.episodes, report.steps) == (4, 27)
    (exported,) = export_published(ExportPublishedConfig(tmp_path / "ours" / "Pong.h5", tmp_path / "back"))
    assert (exported.episodes, exported.steps, exported.unfinished_episodes) == (4, 27, 0)
    assert_same_trajectories(source, exported.path)
    assert exported.path == tmp_path / "back" / "trajectory" / "data" / "Pong.h5"


def test_actions_are_translated(tmp_path):
    source = write_trajectories(tmp_path / "theirs", LENGTHS)
    run(tmp_path / "theirs", tmp_path / "ours")
    store = EpisodeStore(tmp_path / "ours" / "Pong.h5")
    limited = groups(source)["1"]["actions"]
    legal = find_game("Pong").legal_actions
    assert store.actions("000001").tolist() == [legal[action] for action in limited]
    np.testing.assert_array_equal(store.frames("000001"), groups(source)["1"]["observations"])


def test_meta_and_segments_are_kept(tmp_path):
    write_trajectories(tmp_path / "theirs", LENGTHS)
    write_meta(tmp_path / "theirs" / "trajectory" / "meta" / "Pong.csv", Meta(40, 300, 4, 27))
    (report,) = run(tmp_path / "theirs", tmp_path / "ours")
    assert (report.summary.total_episodes, report.summary.total_steps) == (40, 300)
    export_published(ExportPublishedConfig(tmp_path / "ours" / "Pong.h5", tmp_path / "back"))
    assert (tmp_path / "back" / "trajectory" / "meta" / "Pong.csv").read_text() == (
        "Total episodes,Total steps,Steps per episode,Downsampled episodes,Downsampled steps\n"
        "40,300,7.5,4,27.0\n"
    )
    right = (tmp_path / "back" / "segment" / "csv" / "Pong_right_padding.csv").read_text().splitlines()
    left = (tmp_path / "back" / "segment" / "csv" / "Pong_left_padding.csv").read_text().splitlines()
    assert right[0] == left[0] == "Episode index,Start index,End index,Environment"
    assert right[1:] == [
        f"{episode},{start},{start + 8},Pong"
        for episode, length in enumerate(LENGTHS)
        for start in range(0, length, 4)
    ]
    assert left[1:] == [
        f"{episode},{stop - 8},{stop},Pong"
        for episode, length in enumerate(LENGTHS)
        for stop in range(length - 1, 0, -4)
    ]
    (again,) = run(tmp_path / "back", tmp_path / "again")
    assert again.content_id == report.content_id
    assert sum("are those we cut" in note for note in again.summary.notes) == 2


def test_fine_tuning_segments_have_their_own_name(tmp_path):
    store = write_store(tmp_path / "a.h5", [make_episode(5)])
    export_published(ExportPublishedConfig(store.path, tmp_path / "back", stride=1))
    rows = (tmp_path / "back" / "segment" / "csv" / "Pong_tau_1_right_padding.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == ["0", "1", "2", "3", "4"]
    (report,) = run(tmp_path / "back", tmp_path / "ours")
    assert any(
        "Pong_tau_1_left_padding.csv are those we cut with stride 1" in n for n in report.summary.notes
    )


def test_a_report_of_other_contents_is_not_believed(tmp_path):
    write_trajectories(tmp_path / "theirs", LENGTHS)
    write_meta(tmp_path / "theirs" / "trajectory" / "meta" / "Pong.csv", Meta(40, 300, 4, 27))
    run(tmp_path / "theirs", tmp_path / "ours")
    path = tmp_path / "ours" / "Pong.h5"
    assert read_report(report_path(path)) is not None
    write_store(path, [make_episode(6)])
    export_published(ExportPublishedConfig(path, tmp_path / "back"))
    meta = (tmp_path / "back" / "trajectory" / "meta" / "Pong.csv").read_text()
    assert meta.splitlines()[1] == "1,6,6.0,1,6.0"


def test_unfinished_episodes_are_left_out_and_counted(tmp_path):
    episodes = [make_episode(5), make_episode(7, seed=1, ended=False), make_episode(4, "Breakout", 2)]
    store = write_store(tmp_path / "a.h5", episodes)
    breakout, pong = export_published(ExportPublishedConfig(store.path, tmp_path / "back"))
    assert (breakout.game, breakout.episodes, breakout.unfinished_episodes) == ("Breakout", 1, 0)
    assert (pong.episodes, pong.unfinished_episodes, pong.unfinished_steps) == (1, 1, 7)
    assert "dropped: 1 episodes, 7 steps" in pong.text()
    assert list(groups(pong.path)) == ["0"]
    meta = (tmp_path / "back" / "trajectory" / "meta" / "Pong.csv").read_text()
    assert meta.splitlines()[1] == "1,12,12.0,1,5.0"
    only = write_store(tmp_path / "b.h5", [make_episode(5), make_episode(4, "Breakout", ended=False)])
    with pytest.raises(UserError, match="no episode of Breakout has an end"):
        export_published(ExportPublishedConfig(only.path, tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_tokens_come_in_and_go_out(tmp_path):
    source = write_trajectories(tmp_path / "theirs", LENGTHS, tokens=200)
    tokenizer = FakeDecoder()
    (report,) = run(tmp_path / "theirs", tmp_path / "ours", tokenizer)
    assert any("decoded from tokens" in note for note in report.summary.notes)
    store = EpisodeStore(tmp_path / "ours" / "Pong.h5")
    tokens = np.concatenate([groups(source)[str(number)]["observations"] for number in range(4)])
    frames = np.concatenate([store.frames(info.key) for info in store.episodes])
    np.testing.assert_array_equal(frames[:, 0, :36], tokens)
    assert (frames[:, 1, 0] == find_game("Pong").task_id).all()
    cache = build_token_cache(store, RecordedTokens(source, tokenizer), batch_size=4, progress=False)
    np.testing.assert_array_equal(cache.tokens, tokens)
    assert cache.tokenizer_hash == tokenizer.content_hash()
    assert build_token_cache(store, tokenizer, progress=False).path == cache.path
    assert tokenizer.frames_seen == 0
    (exported,) = export_published(ExportPublishedConfig(store.path, tmp_path / "back", tokens=cache.path))
    assert exported.path == tmp_path / "back" / "trajectory" / "token_data" / "Pong.h5"
    assert_same_trajectories(source, exported.path)


def test_tokens_of_another_store_are_refused(tmp_path):
    store = write_store(tmp_path / "a.h5", [make_episode(5)])
    other = write_store(tmp_path / "b.h5", [make_episode(6)])
    cache = build_token_cache(other, FakeTokenizer(), progress=False)
    assert isinstance(cache, TokenCache)
    with pytest.raises(UserError, match="tokens of another store"):
        export_published(ExportPublishedConfig(store.path, tmp_path / "back", tokens=cache.path))
    assert not (tmp_path / "back").exists()


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path):
    write_trajectories(tmp_path / "theirs", LENGTHS, tokens=200)
    with pytest.raises(UserError, match=r"token 1\d\d is outside the tokenizer's vocabulary of 100"):
        run(tmp_path / "theirs", tmp_path / "ours", FakeDecoder(vocab_size=100))
    tokenizer = FakeDecoder()
    tokenizer.config.tokens_per_frame = 16
    with pytest.raises(UserError, match=r"observations: is int64 \[5, 36\], not int64 \[5, 16\]"):
        run(tmp_path / "theirs", tmp_path / "ours", tokenizer)
    assert not list((tmp_path / "ours").glob("*"))


def change(name, value, number="1"):
    def apply(path):
        with h5py.File(path, "a") as file:
            array = file[number][name][()]
            array = value(array)
            del file[number][name]
            if array is not None:
                file[number][name] = array

    return apply


def delete_episode(path):
    with h5py.File(path, "a") as file:
        del file["1"]


def set_at(index, value):
    def apply(array):
        array[index] = value
        return array

    return apply


FAULTS = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:5000]), r"Pong\.h5 is truncated, damaged"),
    "other file": (lambda p: p.write_bytes(b"not HDF5"), "not a file of published trajectories"),
    "lost episode": (delete_episode, "its groups are not the episodes 0 to 2"),
    "lost array": (change("rewards", lambda a: None), "damaged or not a file of published"),
    "no end": (change("terminals", np.zeros_like), "episode 1, terminals: the episode has no end"),
    "end within": (change("terminals", set_at(3, 1)), "episode 1, ends: only the last step"),
    "NaN": (change("rewards", set_at(2, np.nan)), "episode 1, rewards: step 2 is nan"),
    "illegal action": (change("actions", set_at(2, 6)), "episode 1, actions: step 2 takes action 6"),
    "short": (change("rewards", lambda a: a[:-1]), r"episode 1, rewards: is float32 \[11\], not .* \[12\]"),
    "type": (change("actions", lambda a: a.astype(np.int64)), "episode 1, actions: is int64"),
    "frames": (
        change("observations", lambda a: a[:, :80]),
        r"episode 1, observations: is uint8 \[12, 80, 84\]",
    ),
    "no steps": (change("actions", lambda a: a[:0]), "episode 1, rewards"),
}


@pytest.mark.parametrize(("damage", "says"), FAULTS.values(), ids=FAULTS)
def test_a_bad_trajectory_is_named_and_nothing_is_written(tmp_path, damage, says):
    path = write_trajectories(tmp_path / "theirs", LENGTHS)
    damage(path)
    with pytest.raises(UserError, match=says) as error:
        run(tmp_path / "theirs", tmp_path / "ours")
    assert error.match(str(path))
    assert not (tmp_path / "ours").exists()


SEGMENT_FAULTS = {
    "right of its episode": ("right", "1,12,20,Pong", "line 3 .* points outside its episode"),
    "left of its episode": ("left", "1,-8,0,Pong", "line 3 .* points outside its episode"),
    "padded on the wrong side": ("right", "1,-4,4,Pong", "points outside its episode"),
    "past the end on the left": ("left", "1,5,13,Pong", "points outside its episode"),
    "no such episode": ("right", "4,0,8,Pong", r"names an episode that is not there \(there are 4\)"),
    "negative episode": ("right", "-1,0,8,Pong", "names an episode that is not there"),
    "length": ("right", "1,0,7,Pong", "is not 8 steps long"),
    "game": ("right", "1,0,8,Breakout", "is not of Pong"),
    "number": ("right", "1,zero,8,Pong", "not a whole number"),
    "fields": ("right", "1,0,8", "line 3: holds 3 fields"),
}


@pytest.mark.parametrize(("padding", "row", "says"), SEGMENT_FAULTS.values(), ids=SEGMENT_FAULTS)
def test_a_segment_outside_its_episode_is_named(tmp_path, padding, row, says):
    write_trajectories(tmp_path / "theirs", LENGTHS)
    path = tmp_path / "theirs" / "segment" / "csv" / f"Pong_{padding}_padding.csv"
    path.parent.mkdir(parents=True)
    path.write_text(f"Episode index,Start index,End index,Environment\n1,0,8,Pong\n{row}\n")
    with pytest.raises(UserError, match=says) as error:
        run(tmp_path / "theirs", tmp_path / "ours")
    assert error.match(str(path))
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "its columns are"),
        ("Episode,Start\n1,2\n", "its columns are"),
        (META_HEADER, "one row"),
        (
            META_HEADER + "4,27,6.75,x,27.0\n",
            "one row of numbers",
        ),
        (
            META_HEADER + "9,90,10.0,5,30.0\n",
            "tells of 5 episodes and 30 steps, but the trajectories hold 4 and 27",
        ),
    ],
)
def test_a_meta_file_that_does_not_fit_is_named(tmp_path, text, says):
    write_trajectories(tmp_path / "theirs", LENGTHS)
    path = tmp_path / "theirs" / "trajectory" / "meta" / "Pong.csv"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        run(tmp_path / "theirs", tmp_path / "ours")
    assert error.match(str(path))
    assert not (tmp_path / "ours").exists()


def test_other_segments_are_noted_and_not_used(tmp_path):
    write_trajectories(tmp_path / "theirs", LENGTHS)
    path = tmp_path / "theirs" / "segment" / "csv" / "Pong_right_padding.csv"
    path.parent.mkdir(parents=True)
    path.write_text("Episode index,Start index,End index,Environment\n1,1,9,Pong\n")
    (report,) = run(tmp_path / "theirs", tmp_path / "ours")
    assert any("the 1 segments of Pong_right_padding.csv differ" in note for note in report.summary.notes)


def test_another_layout_is_told_what_was_expected(tmp_path):
    with pytest.raises(UserError, match="holds no published trajectories; expected <root>/trajectory/data"):
        run(tmp_path, tmp_path / "ours")
    write_trajectories(tmp_path, [3])
    with pytest.raises(UserError, match="no trajectories of Breakout"):
        run(tmp_path, tmp_path / "ours", games=("Breakout",))
    with pytest.raises(UserError, match=r"token_data has no trajectories of any game.*leave --tokenizer out"):
        run(tmp_path, tmp_path / "ours", FakeDecoder())
    write_trajectories(tmp_path, [3], "Breakout", tokens=5)
    with pytest.raises(UserError, match="give --tokenizer if there are only tokens"):
        run(tmp_path, tmp_path / "ours", games=("Breakout",))


def test_the_published_task_ids_alias_four_games():
    assert published_task_id("Robotank") == find_game("Phoenix").task_id
    assert published_task_id("Pong") == find_game("Pong").task_id
    assert len(TASK_ALIASES) == 4
