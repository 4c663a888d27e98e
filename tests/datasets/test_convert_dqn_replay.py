"""DQN-Replay folders become exactly the episodes that they hold, or nothing at all."""

import builtins
import gzip
import pickle

import numpy as np
import pytest

from datasets.conversion.choice import choose_episodes, published_agents, published_choice
from datasets.conversion.dqn_replay import DqnReplayConfig, plan_dqn_replay
from datasets.conversion.engine import convert
from datasets.errors import UserError
from datasets.games import find_game
from datasets.store import EpisodeStore
from tests.datasets.conversion_sources import dqn_path, load_gzipped, save_gzipped, write_checkpoint


def run(root, out, **options):
    config = DqnReplayConfig(root=root, out=out, **options)
    outcomes = [convert(plan, out, 1, progress=False) for plan in plan_dqn_replay(config, progress=False)]
    return [outcome.report for outcome in outcomes]


def assert_episode(store, index, arrays, start, stop):
    key = store.episodes[index].key
    legal = np.array(find_game(store.episodes[index].game).legal_actions)
    np.testing.assert_array_equal(store.frames(key), arrays["observation"][start:stop])
    np.testing.assert_array_equal(store.actions(key), legal[arrays["action"][start:stop]])
    np.testing.assert_array_equal(store.rewards(key), arrays["reward"][start:stop])
    assert store.ends(key).tolist() == [0] * (stop - start - 1) + [1]


def test_every_whole_episode_is_converted_and_the_unfinished_one_is_reported(tmp_path):
    first = write_checkpoint(tmp_path / "dqn", [4, 5, 17], 20)
    second = write_checkpoint(tmp_path / "dqn", [9], 10, number=2)
    other = write_checkpoint(tmp_path / "dqn", [2], 8, agent=3)
    (report,) = run(tmp_path / "dqn", tmp_path / "out")
    store = EpisodeStore(tmp_path / "out" / "Pong.h5")
    places = [(first, 0, 5), (first, 5, 6), (first, 6, 18), (second, 0, 10), (other, 0, 3)]
    assert len(store.episodes) == len(places)
    for index, place in enumerate(places):
        assert_episode(store, index, *place)
    assert store.episodes[4].behaviour == "DQN-Replay agent 3, checkpoint 1"
    assert (report.episodes, report.steps) == (5, 31)
    assert (report.summary.total_episodes, report.summary.total_steps) == (5, 38)
    (dropped,) = report.summary.dropped
    assert (dropped.episodes, dropped.steps) == (2, 7)
    assert "unfinished" in dropped.reason
    assert [file.kept_steps for file in report.summary.files] == [18, 10, 3]
    assert "dropped: 2 episodes, 7 steps: unfinished" in report.text()


def test_games_agents_and_checkpoints_can_be_chosen(tmp_path):
    for game in ("Pong", "Breakout"):
        for agent in (1, 2):
            for number in (1, 2, 10):
                write_checkpoint(tmp_path / "dqn", [2], 3, game, agent, number)
    reports = run(tmp_path / "dqn", tmp_path / "out", games=("breakout",), agents=(2,), checkpoints=(2, 10))
    assert [report.game for report in reports] == ["Breakout"]
    behaviours = [info.behaviour for info in EpisodeStore(tmp_path / "out" / "Breakout.h5").episodes]
    assert behaviours == ["DQN-Replay agent 2, checkpoint 2", "DQN-Replay agent 2, checkpoint 10"]
    assert [report.game for report in run(tmp_path / "dqn", tmp_path / "all")] == ["Breakout", "Pong"]


def test_sampling_reaches_the_steps_asked_for_without_repeating(tmp_path):
    for number in (1, 2):
        write_checkpoint(tmp_path / "dqn", range(3, 40, 4), 40, number=number)
    (report,) = run(tmp_path / "dqn", tmp_path / "a", num_steps=30)
    store = EpisodeStore(tmp_path / "a" / "Pong.h5")
    assert (report.episodes, report.steps) == (8, 32)
    assert len({info.digest for info in store.episodes}) == 8
    dropped = {drop.reason: (drop.episodes, drop.steps) for drop in report.summary.dropped}
    assert dropped == {"not drawn": (12, 48)}
    run(tmp_path / "dqn", tmp_path / "b", num_steps=30)
    assert EpisodeStore(tmp_path / "b" / "Pong.h5").content_id == store.content_id
    run(tmp_path / "dqn", tmp_path / "c", num_steps=30, seed=1)
    assert EpisodeStore(tmp_path / "c" / "Pong.h5").content_id != store.content_id
    (report,) = run(tmp_path / "dqn", tmp_path / "d", num_steps=1000)
    assert report.steps == 80
    assert any("1000 steps were asked for" in note for note in report.summary.notes)


def test_published_sampling_draws_with_replacement_from_the_published_agents(tmp_path):
    arrays = {agent: write_checkpoint(tmp_path / "dqn", [3, 9, 11], 14, agent=agent) for agent in range(1, 6)}
    (report,) = run(
        tmp_path / "dqn", tmp_path / "out", games=("Pong",), num_steps=30, published_semantics=True
    )
    # Two agents of 3 whole episodes and 14 steps each: a mean of 28 / 6, so 7 draws.
    drawn = np.sort(np.random.RandomState(0).randint(0, 6, 7))
    spans = [(0, 4), (4, 10), (10, 12)]
    store = EpisodeStore(tmp_path / "out" / "Pong.h5")
    assert len(store.episodes) == len(drawn)
    for index, number in enumerate(drawn):
        assert_episode(store, index, arrays[(1, 3)[number // 3]], *spans[number % 3])
    assert len(set(drawn)) < len(drawn)
    assert any("drawn before" in note for note in report.summary.notes)


def test_published_agents_are_drawn_once_for_all_games():
    agents = published_agents(60)
    assert agents[0] == (1, 3)
    assert agents == published_agents(60)
    assert agents[:5] == published_agents(5)
    assert {len(pair) for pair in agents} == {2}
    assert {agent for pair in agents for agent in pair} == {1, 2, 3, 4, 5}


def test_published_choice_depends_on_the_place_of_the_game():
    first, second = (published_choice(1000, 50_000, 1001, index) for index in (0, 1))
    assert len(first) == len(second) == 21
    assert (np.diff(first) >= 0).all()
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("num_steps", [1, 5, 6, 54, 55])
def test_as_few_episodes_as_reach_the_steps(num_steps):
    lengths = np.arange(1, 11)
    chosen = choose_episodes(lengths, num_steps, (0, 0))
    assert len(set(chosen.tolist())) == len(chosen)
    assert lengths[chosen].sum() >= num_steps
    order = np.random.default_rng((0, 0)).permutation(10)
    without_last = lengths[order[: len(chosen) - 1]].sum()
    assert sorted(order[: len(chosen)].tolist()) == chosen.tolist()
    assert without_last < num_steps


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def pickle_instead(path):
    with gzip.open(path, "wb") as file:
        pickle.dump(Bomb(), file)


def objects_instead(path):
    save_gzipped(path, np.array([Bomb()] * 20, dtype=object), allow_pickle=True)


def replace_by(path, change):
    array = load_gzipped(path)
    save_gzipped(path, change(array))


class Bomb:
    """Leaves a trace if it is ever unpickled."""

    def __reduce__(self):
        return exec, ("import builtins; builtins.bomb_went_off = True",)


def set_at(array, index, value):
    array[index] = value
    return array


FAULTS = {
    "truncated": ("observation", truncate, "truncated"),
    "truncated rewards": ("reward", lambda p: p.write_bytes(p.read_bytes()[:30]), "truncated"),
    "cut after the array": ("observation", lambda p: p.write_bytes(p.read_bytes()[:-4]), "truncated"),
    "no gzip": ("action", lambda p: p.write_bytes(b"not gzip at all"), "not a gzip file"),
    "checksum": (
        "observation",
        lambda p: p.write_bytes(p.read_bytes()[:-8] + b"12345678"),
        "not a gzip file or is damaged",
    ),
    "pickle": ("action", pickle_instead, "pickled data is never read"),
    "pickle of frames": ("observation", pickle_instead, "pickled data is never read"),
    "objects": ("terminal", objects_instead, "pickled Python objects"),
    "shorter rewards": ("reward", lambda p: replace_by(p, lambda a: a[:-1]), "holds 19 steps"),
    "longer actions": ("action", lambda p: replace_by(p, lambda a: np.append(a, a[:1])), "holds 21 steps"),
    "shorter frames": ("observation", lambda p: replace_by(p, lambda a: a[:-1]), "hold 19"),
    "no end": ("terminal", lambda p: replace_by(p, np.zeros_like), "none of the 20 steps ends an episode"),
    "other ends": ("terminal", lambda p: replace_by(p, lambda a: set_at(a, 3, 2)), "step 3 is 2"),
    "illegal action": ("action", lambda p: replace_by(p, lambda a: set_at(a, 7, 6)), "step 7 takes action 6"),
    "negative action": ("action", lambda p: replace_by(p, lambda a: set_at(a, 7, -1)), "takes action -1"),
    "NaN": ("reward", lambda p: replace_by(p, lambda a: set_at(a, 2, np.nan)), "step 2 is nan"),
    "type": (
        "action",
        lambda p: replace_by(p, lambda a: a.astype(np.int64)),
        r"int64 \[20\]; expected .*int32",
    ),
    "byte order": ("reward", lambda p: replace_by(p, lambda a: a.astype(">f4")), "expected .*float32"),
    "shape": ("observation", lambda p: replace_by(p, lambda a: a[:, :, :80]), r"\[20, 84, 80\]; expected"),
    "dimensions": ("terminal", lambda p: replace_by(p, lambda a: a[:, None]), r"\[20, 1\]; expected"),
    "scalar": ("reward", lambda p: replace_by(p, lambda a: a[0]), r"float32 \[\]; expected"),
    "Fortran order": ("observation", lambda p: replace_by(p, np.asfortranarray), "Fortran order"),
    "missing": ("terminal", lambda p: p.unlink(), "is missing"),
    "missing frames": ("observation", lambda p: p.unlink(), "is missing"),
}


@pytest.mark.parametrize(("array", "damage", "says"), FAULTS.values(), ids=FAULTS)
def test_a_bad_file_is_named_and_nothing_is_written(tmp_path, array, damage, says):
    write_checkpoint(tmp_path / "dqn", [4, 18], 20)
    out = tmp_path / "out"
    out.mkdir()
    (out / "Pong.h5").write_text("what was there")
    damage(dqn_path(tmp_path / "dqn", array=array))
    with pytest.raises(UserError, match=says) as error:
        run(tmp_path / "dqn", out)
    named = "reward|action|terminal" if says == "hold 19" else rf"\$store\$_{array}_ckpt\.1\.gz"
    assert error.match(named)
    assert error.match("download")
    assert [entry.name for entry in out.iterdir()] == ["Pong.h5"]
    assert (out / "Pong.h5").read_text() == "what was there"
    assert not hasattr(builtins, "bomb_went_off")


def test_bytes_after_the_array_are_noticed(tmp_path):
    write_checkpoint(tmp_path / "dqn", [4], 5)
    path = dqn_path(tmp_path / "dqn")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + b"more"))
    with pytest.raises(UserError, match="more bytes follow"):
        run(tmp_path / "dqn", tmp_path / "out")


def test_damage_behind_the_last_episode_drawn_is_noticed(tmp_path):
    write_checkpoint(tmp_path / "dqn", [4], 20)
    path = dqn_path(tmp_path / "dqn")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated"):
        run(tmp_path / "dqn", tmp_path / "out")


def test_a_header_that_promises_too_much_asks_for_no_memory(tmp_path):
    write_checkpoint(tmp_path / "dqn", [4], 20)
    path = dqn_path(tmp_path / "dqn", array="terminal")
    with gzip.open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(20))
    with pytest.raises(UserError, match="truncated"):
        run(tmp_path / "dqn", tmp_path / "out")


def test_an_endless_episode_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.conversion.plan.LONGEST_EPISODE", 12)
    write_checkpoint(tmp_path / "dqn", [4, 17], 20)
    with pytest.raises(UserError, match="an episode of 13 steps is longer than any"):
        run(tmp_path / "dqn", tmp_path / "out")


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (lambda root: None, {}, "there is no folder"),
        (lambda root: (root / "Pongo").mkdir(parents=True), {}, "no folder named after a game"),
        (lambda root: (root / "Pong").mkdir(parents=True), {}, "holds no checkpoint from 1 to 50"),
        (lambda root: (root / "Pong" / "1").mkdir(parents=True), {}, "holds no checkpoint"),
        (lambda root: write_checkpoint(root, [2], 3), {"games": ("Breakout",)}, "no folder Breakout"),
        (lambda root: write_checkpoint(root, [2], 3), {"checkpoints": (2, 50)}, "from 2 to 50"),
    ],
)
def test_another_layout_is_told_what_was_expected(tmp_path, make, options, says):
    make(tmp_path / "dqn")
    with pytest.raises(UserError, match=says) as error:
        run(tmp_path / "dqn", tmp_path / "out", **options)
    assert error.match(r"<root>/<Game>/<agent>/replay_logs/")
    assert not (tmp_path / "out").exists()


def test_a_missing_agent_is_named(tmp_path):
    write_checkpoint(tmp_path / "dqn", [2], 3, agent=1)
    with pytest.raises(UserError, match="no folder for agent 3 of 5; it has 1"):
        run(tmp_path / "dqn", tmp_path / "out", games=("Pong",), num_steps=5, published_semantics=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"published_semantics": True, "games": ("Pong",)}, "needs num_steps"),
        ({"published_semantics": True, "num_steps": 5}, "needs num_steps and the games"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, options, says):
    with pytest.raises(UserError, match=says):
        DqnReplayConfig(root=tmp_path, out=tmp_path, **options)


def test_games_named_twice_are_refused(tmp_path):
    write_checkpoint(tmp_path / "dqn", [2], 3)
    with pytest.raises(UserError, match="named twice"):
        run(tmp_path / "dqn", tmp_path / "out", games=("Pong", "pong"))
