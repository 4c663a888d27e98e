"""A video of an agent at play: the game, the value of each action, and the future it plans for.

Letters: H rows and W columns of the game's screen, A actions, N scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from agents.acting import Plan
from datasets.errors import UserError
from datasets.files import replace_file
from datasets.games import ACTION_NAMES, Game

WIDTH, HEIGHT = 960, 544  # multiples of 16, as the codec wants

_BACKGROUND, _PANEL, _LINE = "#12151b", "#1b2029", "#39424f"
_TEXT, _QUIET = "#e8ebf0", "#93a0b2"
_Q, _PLANNED, _CHOSEN, _CHANCE = "#5f6f86", "#3fa7d6", "#f5b942", "#ef6461"

_SCREEN = (24, 72, 344, 492)  # left, top, right, bottom
_BARS = (376, 72, 936, 312)
_PATH = (376, 328, 936, 520)


@dataclass(frozen=True)
class Scene:
    """One decision, as it is drawn."""

    screen: UInt8[np.ndarray, "H W 3"]
    """The game's screen before the action, in colour."""
    seen: UInt8[np.ndarray, "84 84"]
    """The same moment as the agent sees it."""
    q_values: Float[np.ndarray, " A"]
    """The Q head's value of each action."""
    planned_values: Float[np.ndarray, " A"]
    """Value of each action after planning."""
    plan: Plan
    """The future that the decision counts on; of no steps without planning."""
    action: int
    """The action taken."""
    is_random: bool
    """Whether chance took it."""
    decision: int
    """Decisions made before this one in the episode."""
    score: float
    """Points so far."""


def find_ffmpeg() -> str:
    """Path of the ffmpeg program that writes videos.

    Raises:
        UserError: there is none.
    """
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise UserError(
            "no ffmpeg was found, which writes videos; run `pip install imageio-ffmpeg`, put ffmpeg on the "
            "PATH, or leave the video out"
        ) from error


def write_video(
    path: str | Path, scenes: Sequence[Scene], game: Game, *, caption: str, frames_per_second: int = 15
) -> None:
    """Draw the scenes and write them as an MP4 (H.264) video, beside `path` and renamed in place.

    Args:
        path: file to write; ends in `.mp4`.
        scenes: at least one.
        game: names the video and says which actions have a bar.
        caption: a few words under the game, such as the planner's name.
        frames_per_second: decisions shown per second; the game itself makes 15.

    Raises:
        UserError: no ffmpeg, another ending than `.mp4`, or the file cannot be written.
    """
    check_video_path(path)
    find_ffmpeg()
    limits = value_limits(scenes, game)
    with replace_file(path) as temporary:
        # The temporary name does not end in .mp4, so ffmpeg has to be told what to write.
        writer = imageio_ffmpeg.write_frames(
            str(temporary),
            (WIDTH, HEIGHT),
            fps=frames_per_second,
            codec="libx264",
            quality=6,
            output_params=["-movflags", "+faststart", "-f", "mp4"],
        )
        writer.send(None)
        try:
            for scene in scenes:
                writer.send(np.ascontiguousarray(draw_scene(scene, game, limits, caption)))
        finally:
            writer.close()


def check_video_path(path: str | Path) -> None:
    """Refuse a video's name before anything is played for it.

    Raises:
        UserError: the name does not end in `.mp4`.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise UserError(f"{path}: videos are written as MP4; give a name that ends in .mp4")


def value_limits(scenes: Sequence[Scene], game: Game) -> tuple[float, float]:
    """Ends of the value axis: one axis for the whole video, so that bars can be compared over time."""
    legal = list(game.legal_actions)
    values = np.concatenate([[scene.q_values[legal], scene.planned_values[legal]] for scene in scenes])
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def draw_scene(
    scene: Scene, game: Game, limits: tuple[float, float], caption: str
) -> UInt8[np.ndarray, "544 960 3"]:
    """One picture of the video.

    Args:
        scene: what to draw.
        game: its name and legal actions.
        limits: ends of the value axis.
        caption: a few words under the game.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((24, 22), game.name, _TEXT, _font(24, bold=True))
    status = f"decision {scene.decision}     score {scene.score:g}"
    draw.text((344, 30), status, _QUIET, _font(14), anchor="ra")
    left, top, right, bottom = _SCREEN
    image.paste(
        Image.fromarray(scene.screen).resize((right - left, bottom - top), Image.Resampling.NEAREST),
        (left, top),
    )
    draw.rectangle((left - 1, top - 1, right, bottom), outline=_LINE)
    draw.text((24, 502), caption, _QUIET, _font(14))
    _draw_bars(draw, scene, game, limits)
    _draw_path(image, draw, scene)
    return np.asarray(image)


def _draw_bars(draw: ImageDraw.ImageDraw, scene: Scene, game: Game, limits: tuple[float, float]) -> None:
    left, top, right, bottom = _BARS
    legend = [("Q head", _Q), ("after planning", _PLANNED), ("chosen", _CHOSEN)]
    if not scene.plan.actions.size:
        legend.pop(1)
    draw.text((left, 30), "Value of each action", _TEXT, _font(16, bold=True))
    _draw_legend(draw, right, legend)
    draw.rounded_rectangle((left, top, right, bottom), 6, fill=_PANEL)
    start, end = left + 130, right - 74
    scale = (end - start) / (limits[1] - limits[0])
    zero = start + scale * (min(max(0.0, limits[0]), limits[1]) - limits[0])
    draw.line((zero, top + 6, zero, bottom - 20), _LINE)
    for x, limit in zip((start, end), limits, strict=True):
        draw.text((x, bottom - 4), f"{limit:.2f}", _QUIET, _font(10), anchor="ms")
    height = min(38.0, (bottom - top - 26) / len(game.legal_actions))
    middle = (top + bottom - 18 - height * (len(game.legal_actions) - 1)) / 2
    for action in game.legal_actions:
        values = [scene.planned_values[action], scene.q_values[action]][-1 if len(legend) == 2 else 0 :]
        colors = [_PLANNED, _Q][-len(values) :]
        name_color = _QUIET
        if action == scene.action:
            colors[0] = name_color = _CHANCE if scene.is_random else _CHOSEN
        font = _font(int(min(max(height * 0.62, 9), 14)))
        draw.text((left + 120, middle), ACTION_NAMES[action], name_color, font, anchor="rm")
        draw.text((right - 8, middle), f"{values[0]:.2f}", name_color, font, anchor="rm")
        thickness = height * 0.68 / len(values)
        for place, (value, color) in enumerate(zip(values, colors, strict=True)):
            tip = start + scale * (float(value) - limits[0])
            upper = middle + thickness * (place - len(values) / 2)
            low, high = round(min(zero, tip)), round(max(zero, tip))
            draw.rectangle((low, upper, max(low, high - 1), upper + thickness - 1), fill=color)
        middle += height


def _draw_legend(draw: ImageDraw.ImageDraw, right: int, entries: list[tuple[str, str]]) -> None:
    font = _font(13)
    for name, color in reversed(entries):
        right -= int(draw.textlength(name, font))
        draw.text((right, 33), name, _QUIET, font)
        draw.rectangle((right - 16, 37, right - 6, 47), fill=color)
        right -= 30


def _draw_path(image: Image.Image, draw: ImageDraw.ImageDraw, scene: Scene) -> None:
    left, top, right, _ = _PATH
    steps = len(scene.plan.actions)
    heading = "Imagined future of the best path" if steps else "What the agent sees, without planning"
    draw.text((left, top), heading, _TEXT, _font(16, bold=True))
    if scene.is_random:
        draw.text((right, top + 3), "action taken by chance", _CHANCE, _font(13), anchor="ra")
    gap = 58 if steps <= 3 else 10
    size = int(min(126, (right - left - gap * steps) / (steps + 1)))
    y = top + 30
    _draw_thumbnail(image, draw, scene.seen, left, y, size, "now", _QUIET)
    for step in range(steps):
        x = left + (step + 1) * (size + gap)
        label = ACTION_NAMES[scene.plan.actions[step]]
        middle = y + size // 2
        draw.line((x - gap + 6, middle, x - 6, middle), _QUIET, 2)
        draw.polygon([(x - 4, middle), (x - 11, middle - 5), (x - 11, middle + 5)], fill=_QUIET)
        color = _CHOSEN if step == 0 and not scene.is_random else _PLANNED
        _draw_thumbnail(image, draw, scene.plan.frames[step], x, y, size, label, color)
        outcome = f"reward {scene.plan.rewards[step]:+g}" if scene.plan.rewards[step] else "reward 0"
        outcome += ", end" if scene.plan.ends[step] else ""
        font = _fitting_font(draw, outcome, size + gap - 6, 12)
        draw.text((x + size / 2, y + size + 24), outcome, _QUIET, font, anchor="ma")


def _draw_thumbnail(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    frame: UInt8[np.ndarray, "84 84"],
    x: int,
    y: int,
    size: int,
    label: str,
    color: str,
) -> None:
    image.paste(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR), (x, y))
    draw.rectangle((x - 1, y - 1, x + size, y + size), outline=color)
    font = _fitting_font(draw, label, size + 4, 13)
    draw.text((x + size / 2, y + size + 6), label, color, font, anchor="ma")


def _fitting_font(draw: ImageDraw.ImageDraw, text: str, width: int, size: int) -> ImageFont.FreeTypeFont:
    while size > 7 and draw.textlength(text, _font(size)) > width:
        size -= 1
    return _font(size)


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib ships its own font, so the video looks the same on a machine without any.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
