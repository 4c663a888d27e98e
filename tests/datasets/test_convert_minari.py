"""Stores become Minari data sets and come back; Minari's own frames become ours."""

import sys

import cv2
import numpy as np
import pytest

from datasets.conversion.engine import convert
from datasets.conversion.minari_export import ExportMinariConfig, export_minari
from datasets.conversion.minari_source import MinariConfig, plan_minari
from datasets.errors import UserError
from datasets.games import find_game
from datasets.store import EpisodeStore
from tests.datasets.episodes import make_episode, write_store

try:
    import minari
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
except ImportError:
    minari = None

needs_minari = pytest.mark.skipif(minari is None, reason="the extra `minari` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
DATASET = "worldbeam/pong/tests-v0"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Minari's folder of data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def run(dataset, out, **options):
    plan = plan_minari(MinariConfig(dataset=str(dataset), out=out, **options))
    report = convert(plan, out, 1, progress=False).report
    return report, EpisodeStore(out / report.store)


def create(dataset, shape=(210, 160, 3), num_actions=6, dtype=np.uint8, **changes):
    """A data set of two episodes as another program would write it; returns its frames."""
    generator = np.random.default_rng(0)
    buffers, frames = [], []
    for length in (4, 7):
        small = generator.integers(0, 256, (length + 1, 6, 5, *shape[2:])).astype(dtype)
        observations = np.stack([np.resize(frame, shape) for frame in small])
        frames.append(observations)
        arrays = {
            "observations": observations,
            "actions": generator.integers(0, num_actions, length),
            "rewards": generator.normal(size=length),
            "terminations": np.arange(length) == length - 1,
            "truncations": np.zeros(length, dtype=bool),
            "infos": {},
        }
        buffers.append(EpisodeBuffer(**{**arrays, **{name: f(arrays[name]) for name, f in changes.items()}}))
    minari.create_dataset_from_buffers(
        dataset,
        buffers,
        observation_space=spaces.Box(0, 255, shape, dtype),
        action_space=spaces.Discrete(num_actions),
        algorithm_name="an expert",
        jpeg_encoding=False,
    )
    return frames, buffers


@needs_minari
def test_a_store_comes_back_equal(tmp_path, home):
    episodes = [make_episode(9, seed=3), make_episode(4, seed=4, ended=False), make_episode(5, "Breakout")]
    store = write_store(tmp_path / "a.h5", episodes)
    folder = export_minari(ExportMinariConfig(store.path, DATASET, game="pong"))
    assert folder == home / DATASET
    report, back = run(DATASET, tmp_path / "back")
    assert (report.game, report.episodes, report.steps) == ("Pong", 2, 13)
    assert [info.digest for info in back.episodes] == [info.digest for info in store.episodes[:2]]
    assert [info.seed for info in back.episodes] == [3, 4]
    assert [info.ended for info in back.episodes] == [True, False]


@needs_minari
def test_minari_reads_what_we_write(tmp_path, home):
    episode = make_episode(9, ended=False)
    export_minari(ExportMinariConfig(write_store(tmp_path / "a.h5", [episode]).path, DATASET))
    dataset = minari.load_dataset(DATASET)
    assert (dataset.total_episodes, dataset.total_steps) == (1, 9)
    data = dataset[0]
    np.testing.assert_array_equal(data.observations[:-1], episode.frames)
    np.testing.assert_array_equal(data.observations[-1], episode.frames[-1])
    np.testing.assert_array_equal(data.actions, episode.actions)
    np.testing.assert_array_equal(data.rewards, episode.rewards)
    assert data.terminations.tolist() == [False] * 9
    assert data.truncations.tolist() == [False] * 8 + [True]
    assert DATASET in minari.list_local_datasets()


@needs_minari
@pytest.mark.parametrize("shape", [(210, 160, 3), (210, 160), (84, 84, 1), (84, 84)])
def test_frames_and_actions_become_ours(tmp_path, home, shape):
    frames, buffers = create("atari/pong/expert-v0", shape)
    report, store = run("atari/pong/expert-v0", tmp_path / "out")
    assert report.game == "Pong"
    assert report.summary.notes[0].startswith("2 final observations")
    legal = np.array(find_game("Pong").legal_actions)
    for info, theirs, buffer in zip(store.episodes, frames, buffers, strict=True):
        gray = theirs[:-1] if len(shape) == 2 else theirs[:-1, :, :, 0]
        if shape[2:] == (3,):
            weights = np.array([0.299, 0.587, 0.114])
            exact = theirs[:-1] @ weights
            gray = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in theirs[:-1]])
            assert np.abs(gray - exact).max() <= 1
        expected = [cv2.resize(frame, (84, 84), interpolation=cv2.INTER_AREA) for frame in gray]
        np.testing.assert_array_equal(store.frames(info.key), np.stack(expected))
        np.testing.assert_array_equal(store.actions(info.key), legal[buffer.actions])
        np.testing.assert_array_equal(store.rewards(info.key), np.float32(buffer.rewards))
        assert (info.ended, info.seed, info.behaviour) == (True, -1, "an expert")


@needs_minari
def test_the_full_action_set_is_kept(tmp_path, home):
    legal = np.array(find_game("Pong").legal_actions)
    _, buffers = create("any/name-v0", (84, 84), 18, actions=lambda array: legal[array % 6])
    _, store = run("any/name-v0", tmp_path / "out", game="Pong")
    np.testing.assert_array_equal(store.actions("000000"), buffers[0].actions)


@needs_minari
def test_parts_are_read_apart(tmp_path, home, monkeypatch):
    create("atari/pong/expert-v0", (84, 84))
    _, store = run("atari/pong/expert-v0", tmp_path / "one")
    monkeypatch.setattr("datasets.conversion.plan._STEPS_PER_PART", 2)
    plan = plan_minari(MinariConfig("atari/pong/expert-v0", tmp_path / "two"))
    assert len(plan.parts) == 2
    report = convert(plan, tmp_path / "two", 1, progress=False).report
    assert report.content_id == store.content_id


BAD = {
    "no game": ("some/thing-v0", {}, {}, "does not tell its game; name it with --game"),
    "actions": ("atari/pong/x-v0", {"num_actions": 5}, {}, "neither the 6 actions of Pong nor all 18"),
    "another game": ("atari/pong/x-v0", {}, {"game": "Breakout"}, "neither the 4 actions of Breakout"),
    "frames": ("atari/pong/x-v0", {"shape": (4, 84, 84)}, {}, "is not frames; expected uint8"),
    "floats": ("atari/pong/x-v0", {"shape": (84, 84), "dtype": np.float32}, {}, "is not frames"),
    "NaN": ("atari/pong/x-v0", {"rewards": lambda a: a * np.nan}, {}, "rewards: step 0 is nan"),
    "no action at all": (
        "any/x-v0",
        {"num_actions": 18, "actions": lambda a: a * 0 + 18},
        {"game": "Alien"},
        "takes action 18",
    ),
    "illegal action": ("atari/pong/x-v0", {"actions": lambda a: a * 0 + 9}, {}, "takes action 9"),
    "lengths": ("atari/pong/x-v0", {"observations": lambda a: a[:-1]}, {}, "4 actions, but 4 rewards"),
    "end within": ("atari/pong/x-v0", {"terminations": np.ones_like}, {}, "only the last step"),
}


@needs_minari
@pytest.mark.parametrize(("dataset", "changes", "options", "says"), BAD.values(), ids=BAD)
def test_a_bad_data_set_is_named_and_nothing_is_written(tmp_path, home, dataset, changes, options, says):
    create(dataset, **changes)
    with pytest.raises(UserError, match=says):
        run(dataset, tmp_path / "out", **options)
    assert not list((tmp_path / "out").glob("*"))


@needs_minari
def test_data_sets_that_are_not_there(tmp_path, home):
    with pytest.raises(UserError, match=r"no Minari data set atari/pong/expert-v0; expected metadata\.json"):
        run("atari/pong/expert-v0", tmp_path / "out")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match="broken cannot be read as a Minari data set"):
        run(tmp_path / "broken", tmp_path / "out")


@needs_minari
def test_what_cannot_be_exported(tmp_path, home):
    store = write_store(tmp_path / "a.h5", [make_episode(3), make_episode(4, "Breakout")])
    for options, says in (
        ({"dataset": DATASET}, "holds Breakout, Pong; name one of them with --game"),
        ({"dataset": DATASET, "game": "Alien"}, "holds no Alien; it holds Breakout, Pong"),
        ({"dataset": "no version", "game": "Pong"}, "is not the id of a Minari data set"),
    ):
        with pytest.raises(UserError, match=says):
            export_minari(ExportMinariConfig(store.path, **options))
    assert not home.exists() or not list(home.iterdir())
    export_minari(ExportMinariConfig(store.path, DATASET, game="Pong"))
    with pytest.raises(UserError, match="is there already"):
        export_minari(ExportMinariConfig(store.path, DATASET, game="Pong"))
    elsewhere = export_minari(ExportMinariConfig(store.path, DATASET, game="Pong", root=tmp_path / "else"))
    _, back = run(elsewhere, tmp_path / "back")
    assert back.num_steps == 3


@needs_minari
def test_a_failed_export_leaves_nothing(tmp_path, home, monkeypatch):
    store = write_store(tmp_path / "a.h5", [make_episode(3)])
    monkeypatch.setattr("datasets.hdf5.shutil.disk_usage", lambda _: type("", (), {"free": 0}))
    with pytest.raises(UserError, match="the disk is full"):
        export_minari(ExportMinariConfig(store.path, DATASET))
    assert not (home / DATASET).exists()
    assert not list((home / DATASET).parent.iterdir())


def test_without_minari_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r"Minari is not installed .*pip install -e '\.\[minari\]'"):
        run("atari/pong/expert-v0", tmp_path / "out")
