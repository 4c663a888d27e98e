"""A store gives back what was put in, and refuses every file that is not whole."""

import errno
import fcntl
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets import hdf5
from datasets.errors import UserError
from datasets.store import EpisodeStore, EpisodeWriter
from tests.datasets.episodes import make_episode, write_store

ROOT = Path(__file__).resolve().parents[2]
ARRAYS = {"observations": "frames", "actions": "actions", "rewards": "rewards", "ends": "ends"}


def assert_holds(store, episodes):
    assert [info.key for info in store.episodes] == [f"{index:06d}" for index in range(len(episodes))]
    for info, episode in zip(store.episodes, episodes, strict=True):
        np.testing.assert_array_equal(store.frames(info.key), episode.frames)
        np.testing.assert_array_equal(store.actions(info.key), episode.actions)
        np.testing.assert_array_equal(store.rewards(info.key), episode.rewards)
        np.testing.assert_array_equal(store.ends(info.key), episode.ends)
        assert (info.game, info.length) == (episode.game, len(episode.actions))
        assert (info.behaviour, info.seed) == (episode.behaviour, episode.seed)
        assert info.total_reward == episode.rewards.sum()
        assert info.ended == bool(episode.ends[-1])


@pytest.fixture
def path(tmp_path):
    """A store of three episodes of two games."""
    path = tmp_path / "play.h5"
    write_store(
        path, [make_episode(5), make_episode(20, "Breakout", 1), make_episode(9, seed=2, ended=False)]
    )
    return path


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plays=st.lists(
        st.tuples(st.integers(1, 20), st.sampled_from(["Pong", "Breakout", "Alien"]), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(-(2**63), 2**63 - 1),
    behaviour=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    split=st.integers(0, 4),
)
def test_what_is_written_is_read(tmp_path, plays, seed, behaviour, split):
    episodes = [
        make_episode(length, game, number, ended) for number, (length, game, ended) in enumerate(plays)
    ]
    episodes = [replace(episode, seed=seed, behaviour=behaviour) for episode in episodes]
    path = tmp_path / "any.h5"
    path.unlink(missing_ok=True)
    if episodes[:split]:
        write_store(path, episodes[:split])
    if episodes[split:]:
        write_store(path, episodes[split:], append=True)
    store = EpisodeStore(path)
    assert_holds(store, episodes)
    assert store.num_steps == sum(len(episode.actions) for episode in episodes)
    assert store.games == tuple(sorted({episode.game for episode in episodes}))


def test_ranges_of_frames(path):
    store = EpisodeStore(path)
    np.testing.assert_array_equal(store.frames("000001", 7, 17)[:, 0, 0], np.arange(7, 17))
    assert store.frames("000001", 18).shape == (2, 84, 84)


def test_a_group_tells_where_it_comes_from(tmp_path):
    episode = replace(make_episode(3, "space_invaders", 7), emulator="ale-py 1", preprocessing="as is")
    write_store(tmp_path / "a.h5", [episode])
    with h5py.File(tmp_path / "a.h5") as file:
        group = hdf5.group_of(file, "episodes/000000")
        assert dict(group.attrs) == {
            "game": "SpaceInvaders",
            "emulator": "ale-py 1",
            "preprocessing": "as is",
            "behaviour": "random",
            "seed": 7,
        }
        observations = hdf5.dataset_of(group, "observations")
        assert (observations.compression, observations.fletcher32) == ("gzip", True)


def test_summary_tells_games_steps_and_returns(path):
    summary = EpisodeStore(path).summary()
    assert "Breakout: 1 episodes (1 ended), 20 steps" in summary
    assert "Pong: 2 episodes (1 ended), 14 steps" in summary


def test_the_small_arrays_cannot_be_changed_by_accident(path):
    with pytest.raises(ValueError, match="read-only"):
        EpisodeStore(path).rewards("000000")[0] = 1.0


@pytest.mark.parametrize(
    "field", ["frames", "actions", "rewards", "ends", "game", "behaviour", "seed", "order"]
)
def test_content_id_changes_exactly_with_the_contents(tmp_path, field):
    episodes = [make_episode(5, "Breakout", 1), make_episode(6, "Breakout", 2)]
    first = write_store(tmp_path / "a.h5", episodes)
    assert write_store(tmp_path / "b.h5", episodes).content_id == first.content_id
    other = {
        "frames": episodes[1].frames + 1,
        "actions": (episodes[1].actions == 0).astype(np.uint8),
        "rewards": episodes[1].rewards + 1,
        "ends": np.zeros_like(episodes[1].ends),
        "game": "Pong",
        "behaviour": "else",
        "seed": 3,
    }
    if field == "order":
        changed = episodes[::-1]
    else:
        plain = (
            replace(episodes[1], actions=np.zeros_like(episodes[1].actions))
            if field == "game"
            else episodes[1]
        )
        changed = [episodes[0], replace(plain, **{field: other[field]})]
    assert write_store(tmp_path / "c.h5", changed).content_id != first.content_id


def test_lives_are_read_where_they_were_recorded(tmp_path):
    lives = np.array([3, 3, 2, 1], dtype=np.uint8)
    with_lives, without = make_episode(4, "Breakout", lives=lives), make_episode(4, "Breakout")
    store = write_store(tmp_path / "a.h5", [without, with_lives])
    assert store.lives("000000") is None
    assert store.lives("000001").tolist() == lives.tolist()
    # They follow from the rest, so that play recorded before they were is the same play.
    assert store.episodes[0].digest == store.episodes[1].digest


def test_content_id_of_the_first_episodes_is_that_of_a_store_of_them(tmp_path):
    episodes = [make_episode(5, seed=number) for number in range(3)]
    short = write_store(tmp_path / "a.h5", episodes[:2])
    assert write_store(tmp_path / "b.h5", episodes).content_id_of(2) == short.content_id


def test_appending_does_not_disturb_a_reader(path):
    reader = EpisodeStore(path)
    first = reader.frames("000000", 0, 1)
    with EpisodeWriter(path, append=True) as writer:
        writer.add(make_episode(4, seed=9))
        assert writer.num_episodes == 4
        np.testing.assert_array_equal(reader.frames("000000", 0, 1), first)
        assert len(EpisodeStore(path).episodes) == 3
    assert reader.frames("000002").shape == (9, 84, 84)
    assert EpisodeStore(path).frames("000003").shape == (4, 84, 84)


def test_a_store_replaced_before_the_first_read_is_noticed(path):
    reader = EpisodeStore(path)
    write_store(path, [make_episode(5, seed=5)])
    with pytest.raises(UserError, match=r"play\.h5 was replaced after it was opened"):
        reader.frames("000000")


def read_sum(store):
    return int(store.frames("000001").sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_can_be_read_in_other_processes(path, method):
    store = EpisodeStore(path)
    expected = read_sum(store)  # opens the file here first
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(read_sum, [store] * 2) == [expected] * 2
    assert read_sum(store) == expected


def read_after_fork(store, queue):
    inherited = store._file
    queue.put((bool(inherited), read_sum(store), bool(inherited)))


def test_a_forked_reader_opens_the_file_for_itself(path):
    store = EpisodeStore(path)
    expected = read_sum(store)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=read_after_fork, args=(store, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert read_sum(store) == expected
    assert [queue.get(timeout=30) for _ in workers] == [(True, expected, False)] * 2
    for worker in workers:
        worker.join()
    assert read_sum(store) == expected


def test_a_store_is_read_without_locks(path):
    with path.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert EpisodeStore(path).frames("000000").shape == (5, 84, 84)


def hold_open(path, connection):
    with h5py.File(path, "r") as file:
        connection.send(len(file["episodes"]))
        connection.recv()
        connection.send(len(file["episodes"]))


def test_a_store_may_be_read_and_extended_while_another_program_holds_it_open(path):
    here, there = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=hold_open, args=(path, there))
    other.start()
    assert here.recv() == 3
    assert EpisodeStore(path).frames("000000").shape == (5, 84, 84)
    write_store(path, [make_episode(2)], append=True)
    here.send("go on")
    assert here.recv() == 3
    other.join()
    assert len(EpisodeStore(path).episodes) == 4


def test_pickling_keeps_no_handle(path):
    store = EpisodeStore(path)
    store.frames("000000")
    copy = pickle.loads(pickle.dumps(store))
    store.close()
    assert copy.content_id == store.content_id
    np.testing.assert_array_equal(copy.frames("000000"), store.frames("000000"))


# Writing that does not succeed.


def write_then_raise(path, error, **options):
    with EpisodeWriter(path, **options) as writer:
        writer.add(make_episode(3, seed=3))
        raise error


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_leaves_the_old_store(path, append, error):
    before = path.read_bytes()
    with pytest.raises(type(error)):
        write_then_raise(path, error, append=append)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupt_can_keep_what_is_complete(path):
    with pytest.raises(KeyboardInterrupt):
        write_then_raise(path, KeyboardInterrupt(), append=True, keep_on_interrupt=True)
    assert [info.seed for info in EpisodeStore(path).episodes] == [0, 1, 2, 3]


def test_an_interrupt_within_an_episode_keeps_those_before(tmp_path, monkeypatch):
    create = h5py.Group.create_dataset

    def interrupted(group, name, *arguments, **options):
        if name == "rewards" and "000001" in group.name:
            raise KeyboardInterrupt
        return create(group, name, *arguments, **options)

    monkeypatch.setattr(h5py.Group, "create_dataset", interrupted)
    episodes = [make_episode(3, seed=3), make_episode(4, seed=4)]
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "a.h5", episodes, keep_on_interrupt=True)
    assert_holds(EpisodeStore(tmp_path / "a.h5"), episodes[:1])


def test_an_interrupt_before_the_first_episode_leaves_the_old_store(path):
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(path, keep_on_interrupt=True):
        raise KeyboardInterrupt
    assert path.read_bytes() == before


def test_a_store_of_nothing_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"a\.h5 was not written: no episode was added"):
        write_store(tmp_path / "a.h5", [])
    assert os.listdir(tmp_path) == []


def test_a_refused_episode_does_not_spoil_the_others(tmp_path):
    path = tmp_path / "a.h5"
    good = make_episode(4)
    with EpisodeWriter(path) as writer:
        writer.add(good)
        with pytest.raises(UserError, match=r"000001, rewards: step 2 is nan"):
            writer.add(replace(good, rewards=np.array([0, 0, np.nan, 0], dtype=np.float32)))
        with pytest.raises(
            UserError, match=r"000001, actions: step 0 takes action 17, which Pong does not have"
        ):
            writer.add(replace(good, actions=np.full(4, 17, dtype=np.uint8)))
        with pytest.raises(UserError, match=r"seed: .* does not fit 64 bits"):
            writer.add(replace(good, seed=2**64))
        writer.add(good)
    assert_holds(EpisodeStore(path), [good, good])


def test_too_little_space_is_refused_before_hdf5_is_asked(path, monkeypatch):
    before = path.read_bytes()
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(hdf5.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"the disk is full: .*play\.h5 was not written; free some space"):
        write_store(path, [make_episode(3)], append=True)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("raised", [OSError, RuntimeError])
def test_a_disk_that_fills_up_while_hdf5_writes_is_told(path, monkeypatch, raised):
    before = path.read_bytes()

    def full(*arguments, **options):
        raise raised(f"Can't write data (errno = {errno.ENOSPC}, error message = 'No space left on device')")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(UserError, match=r"the disk is full: .*play\.h5 was not written"):
        write_store(path, [make_episode(3)])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_write_that_the_system_refuses_leaves_the_old_store(path):
    """The system's limit on the size of a file makes HDF5 itself fail, at different places."""
    before = path.read_bytes()
    code = f"""
import resource, signal
from dataclasses import replace
import numpy as np
from datasets.errors import UserError
from tests.datasets.episodes import make_episode, write_store

noise = np.random.default_rng(0).integers(0, 256, (30, 84, 84)).astype(np.uint8)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (100, 2_000, 20_000, 150_000, 450_000, 640_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_store({str(path)!r}, [replace(make_episode(30), frames=noise)] * 3)
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    told = f"cannot write {path}: File too large; check the folder and its permissions"
    assert done.stdout.splitlines() == [told] * 6
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_killed_writer_leaves_the_old_store_and_the_next_one_cleans_up(path):
    before = path.read_bytes()
    code = f"""
import os, signal
from datasets.store import EpisodeWriter
from tests.datasets.episodes import make_episode

with EpisodeWriter({str(path)!r}, append=True) as writer:
    writer.add(make_episode(5))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(os.listdir(path.parent)) == 2
    assert len(write_store(path, [make_episode(5)], append=True).episodes) == 4
    assert os.listdir(path.parent) == [path.name]


# Files that are not whole.


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(path, part):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(UserError, match=r"play\.h5 is truncated, damaged or not an episode store"):
        EpisodeStore(path)


def test_a_damaged_frame_is_refused_when_it_is_read(path):
    with h5py.File(path) as file:
        chunk = hdf5.dataset_of(file, "episodes/000001/observations").id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(data)
    store = EpisodeStore(path)
    assert store.frames("000001", 0, 8).shape == (8, 84, 84)
    with pytest.raises(UserError, match=r"play\.h5 is truncated, damaged"):
        store.frames("000001", 8, 9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no episode store at"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("step,reward\n1,2\n"), "not an episode store"),
        (lambda path: h5py.File(path, "w").close(), "is an HDF5 file but not an episode store"),
    ],
)
def test_other_files_are_refused(tmp_path, make, message):
    path = tmp_path / "other.h5"
    make(path)
    with pytest.raises(UserError, match=rf"other\.h5.*{message}|{message}.*other\.h5"):
        EpisodeStore(path)


def set_array(file, key, name, array):
    del file[f"episodes/{key}/{name}"]
    file[f"episodes/{key}/{name}"] = array


def set_value(file, key, name, step, value):
    file[f"episodes/{key}/{name}"][step] = value


DAMAGE = {
    "another version": (
        lambda f: f.attrs.update({"version": 2}),
        "has format version 2, this program reads 1",
    ),
    "never finished": (lambda f: f.attrs.update({"complete": False}), "was never finished"),
    "no index": (lambda f: f.pop("index"), "damaged"),
    "a column of the index is missing": (lambda f: f.pop("index/seed"), "damaged"),
    "a column of the index is short": (
        lambda f: (f.pop("index/seed"), f.create_dataset("index/seed", data=[1])),
        "index: its columns differ in length",
    ),
    "an empty index": (
        lambda f: [
            (f.pop(f"index/{name}"), f.create_dataset(f"index/{name}", data=np.zeros(0)))
            for name in list(f["index"])
        ],
        "holds no episodes",
    ),
    "an impossible length": (
        lambda f: f["index/length"].write_direct(np.array([5, -20, 9])),
        "an episode of no steps",
    ),
    "a length beyond all memory": (
        lambda f: f["index/length"].write_direct(np.array([5, 10**17, 9])),
        "damaged",
    ),
    "no episodes": (lambda f: f.pop("episodes"), "damaged"),
    "an episode is missing": (lambda f: f.pop("episodes/000001"), "holds 2 episodes but its index says 3"),
    "an episode under another name": (lambda f: f.move("episodes/000001", "episodes/7"), "damaged"),
    "an array is missing": (lambda f: f.pop("episodes/000001/ends"), "damaged"),
    "frames of another shape": (
        lambda f: set_array(f, "000001", "observations", np.zeros((20, 84, 85), dtype=np.uint8)),
        r"episode 000001, observations: is uint8 \[20, 84, 85\], not uint8 \[20, 84, 84\]",
    ),
    "frames fewer than steps": (
        lambda f: set_array(f, "000001", "observations", np.zeros((19, 84, 84), dtype=np.uint8)),
        r"episode 000001, observations: is uint8 \[19, 84, 84\]",
    ),
    "actions of another type": (
        lambda f: set_array(f, "000001", "actions", np.zeros(20, dtype=np.int32)),
        r"episode 000001, actions: is int32 \[20\], not uint8 \[20\]",
    ),
    "an action out of range": (
        lambda f: set_value(f, "000001", "actions", 3, 200),
        "actions: step 3 takes action 200",
    ),
    "an action of another game": (
        lambda f: set_value(f, "000001", "actions", 3, 2),
        "actions: step 3 takes action 2, which Breakout does not have",
    ),
    "a reward that is no number": (
        lambda f: set_value(f, "000002", "rewards", 8, np.nan),
        "rewards: step 8 is nan",
    ),
    "an infinite reward": (lambda f: set_value(f, "000002", "rewards", 0, np.inf), "rewards: step 0 is inf"),
    "an end in the middle": (
        lambda f: set_value(f, "000001", "ends", 3, 1),
        "ends: only the last step may be 1",
    ),
    "an end that is not 0 or 1": (
        lambda f: set_value(f, "000001", "ends", 19, 2),
        "ends: only the last step",
    ),
    "an end that the index does not know": (
        lambda f: set_value(f, "000002", "ends", 8, 1),
        "ends: the index says otherwise",
    ),
    "lives fewer than steps": (
        lambda f: f.create_dataset("episodes/000001/lives", data=np.ones(19, dtype=np.uint8)),
        r"episode 000001, lives: is uint8 \[19\], not uint8 \[20\]",
    ),
    "an unknown game": (
        lambda f: (
            f.pop("index/game"),
            f.create_dataset("index/game", data=np.array([b"Pong", b"Chess", b"Pong"])),
        ),
        "unknown game 'Chess'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_store_with_wrong_contents_is_refused(path, damage):
    change, message = DAMAGE[damage]
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UserError, match=rf"play\.h5.*{message}"):
        EpisodeStore(path)


def test_nothing_is_appended_to_a_file_that_is_no_store(tmp_path):
    path = tmp_path / "notes.h5"
    path.write_text("notes")
    with pytest.raises(UserError, match="not an episode store"):
        write_store(path, [make_episode(3)], append=True)
    assert path.read_text() == "notes"


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_another_length_is_refused(tmp_path, name, monkeypatch):
    # The dataclass itself checks shapes in tests; users run without that.
    episode = make_episode(4)
    object.__setattr__(episode, ARRAYS[name], getattr(episode, ARRAYS[name])[:-1])
    with pytest.raises(UserError, match=r"a\.h5: episode 000000, \w+: is \w+ \[[34]"):
        write_store(tmp_path / "a.h5", [episode])
    assert os.listdir(tmp_path) == []
