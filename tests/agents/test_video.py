import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest

from agents.acting import Plan
from agents.video import HEIGHT, WIDTH, Scene, draw_scene, find_ffmpeg, value_limits, write_video
from datasets.errors import UserError
from datasets.games import find_game

PONG = find_game("Pong")


def make_scene(
    seed: int = 0, *, steps: int = 2, game=PONG, height: int = 210, is_random: bool = False
) -> Scene:
    generator = np.random.default_rng(seed)
    values = np.where(game.legal_mask, generator.normal(size=18), -np.inf)
    return Scene(
        screen=generator.integers(0, 256, (height, 160, 3), dtype=np.uint8),
        seen=generator.integers(0, 256, (84, 84), dtype=np.uint8),
        q_values=values,
        planned_values=values + 0.5,
        plan=Plan(
            actions=np.full(steps, game.legal_actions[-1]),
            rewards=np.linspace(-1, 1, steps),
            ends=np.arange(steps) == 1,
            frames=generator.integers(0, 256, (steps, 84, 84), dtype=np.uint8),
        ),
        action=game.legal_actions[1],
        is_random=is_random,
        decision=seed,
        score=-1.0,
    )


def test_a_video_of_ten_scenes_opens(tmp_path):
    file = tmp_path / "deep" / "play.mp4"
    write_video(file, [make_scene(seed) for seed in range(10)], PONG, caption="beam search")
    assert [entry.name for entry in file.parent.iterdir()] == ["play.mp4"]
    frames = imageio.imread(file)
    assert frames.shape == (10, HEIGHT, WIDTH, 3)
    drawn = draw_scene(
        make_scene(3), PONG, value_limits([make_scene(s) for s in range(10)], PONG), "beam search"
    )
    # Compression blurs, but the right picture is far nearer than noise would be.
    assert np.abs(frames[3].astype(float) - drawn).mean() < 12


@pytest.mark.parametrize("game", ["Freeway", "Carnival", "Zaxxon"])
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_scenes_of_any_game_and_horizon_are_drawn(game: str, steps: int):
    found = find_game(game)
    scene = make_scene(1, steps=steps, game=found, height=214 if game == "Carnival" else 210)
    picture = draw_scene(scene, found, value_limits([scene], found), "x")
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert picture.dtype == np.uint8


def test_bars_grow_with_the_value():
    scene = make_scene(2, steps=0)
    limits = (-5.0, 5.0)
    picture = draw_scene(scene, PONG, limits, "").astype(int)
    gray = (0x5F, 0x6F, 0x86)
    amber = (0xF5, 0xB9, 0x42)
    right = picture[72:292, 506:862]
    painted = ((right == gray).all(2) | (right == amber).all(2)).sum(1)
    rows = painted[painted > 0]
    lengths = [int(np.median(block)) for block in np.array_split(rows, len(PONG.legal_actions))]
    values = scene.q_values[list(PONG.legal_actions)]
    # Zero is in the middle of the axis: a bar's length is its distance from zero.
    np.testing.assert_allclose(lengths, np.abs(values) * 356 / 10, atol=1.0)


def test_the_scale_covers_all_scenes_and_no_illegal_action():
    scenes = [make_scene(seed) for seed in range(5)]
    low, high = value_limits(scenes, PONG)
    legal = np.concatenate([s.planned_values[list(PONG.legal_actions)] for s in scenes])
    assert np.isfinite([low, high]).all()
    assert low < legal.min() - 0.5
    assert high > legal.max()


def test_chance_is_told_from_choice():
    limits = value_limits([make_scene()], PONG)
    chosen, random = (draw_scene(make_scene(is_random=flag), PONG, limits, "") for flag in (False, True))
    amber = (chosen == (0xF5, 0xB9, 0x42)).all(2).sum()
    assert amber > 500
    assert (random == (0xEF, 0x64, 0x61)).all(2).sum() > 500


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"play\.gif: videos are written as MP4"):
        write_video(tmp_path / "play.gif", [make_scene()], PONG, caption="")


def test_no_ffmpeg_is_told_and_the_old_video_stays(tmp_path, monkeypatch: pytest.MonkeyPatch):
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    file = tmp_path / "play.mp4"
    file.write_bytes(b"old")
    with pytest.raises(UserError, match=r"no ffmpeg was found.*pip install imageio-ffmpeg"):
        write_video(file, [make_scene()], PONG, caption="")
    assert file.read_bytes() == b"old"
    with pytest.raises(UserError, match="no ffmpeg"):
        find_ffmpeg()
