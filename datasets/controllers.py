"""Scripted players of Pong, Breakout and Freeway, which read the game from the machine's memory.

The memory addresses were found by playing and looking; positions are in pixels, velocities in
pixels per emulator frame.

Paddles glide: one decision's push moves a paddle 22 pixels in all, most of them after the decision.
So a tracker steers to where its paddle will come to rest, and lets go once that is near enough.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from datasets.atari import AtariEmulator
from datasets.games import Game

NOOP, FIRE, UP, RIGHT, LEFT, DOWN = 0, 1, 2, 3, 4, 5
# Share of a decision's movement by which a paddle glides on when nothing is pushed.
_GLIDE = 0.65


@dataclass(frozen=True)
class Ball:
    """Where a ball is and moves to."""

    along: float
    """Position on the axis on which it comes to the paddle, growing towards the paddle."""
    across: float
    """Position on the axis on which the paddle moves."""
    speed_along: float
    """Velocity towards the paddle; negative when it moves away."""
    speed_across: float
    """Velocity on the paddle's axis."""
    in_play: bool
    """False between two balls."""


def reflected(position: float, low: float, high: float) -> float:
    """Where a ball that would fly to `position` is when walls at `low` and `high` throw it back."""
    span = high - low
    offset = (position - low) % (2 * span)
    return low + min(offset, 2 * span - offset)


def pong_ball(ram: UInt8[np.ndarray, "128"]) -> Ball:
    """The ball of Pong; the player's paddle is on the right and moves up (less) and down (more)."""
    return Ball(
        along=float(ram[49]),
        across=float(ram[54]),
        speed_along=-_signed(ram[58]),
        speed_across=_signed(ram[56]),
        in_play=bool(ram[54]),
    )


def breakout_ball(ram: UInt8[np.ndarray, "128"]) -> Ball:
    """The ball of Breakout; the paddle is at the bottom and moves left (less) and right (more)."""
    return Ball(
        along=float(ram[101]),
        across=float(ram[99]),
        speed_along=_signed(ram[103]),
        speed_across=-_signed(ram[105]),
        in_play=bool(ram[101]),
    )


class PongTracker:
    """Meets the ball where it will be, each time with another part of the paddle.

    Args:
        random: source of the aims.
        aim: pixels from the middle of the paddle to the ball at every stroke; None draws one for each
            stroke, without which some rallies would never end.
    """

    _CONTACT, _WALLS, _OFFSET = 188.0, (44.0, 207.0), -7.0
    _TOLERANCE, _AIMS, _MIDDLE = 11.0, 4.0, 120.0

    def __init__(self, random: np.random.Generator, aim: float | None = None) -> None:
        self._random = random
        self._fixed_aim = aim
        self._aim = 0.0
        self._approaching = False
        self._paddle: int | None = None

    def aimed_at(self, aim: float) -> PongTracker:
        """Return this tracker as it is now, but with another aim for this and all later strokes."""
        other = copy.copy(self)
        other._fixed_aim = other._aim = float(aim)
        return other

    def act(self, emulator: AtariEmulator) -> int:
        """Return the action that brings the paddle to the ball's way."""
        ram = emulator.ram
        ball = pong_ball(ram)
        approaching = ball.in_play and ball.speed_along > 0
        if approaching and not self._approaching:
            self._aim = self._draw_aim()
        self._approaching = approaching
        paddle, moved = int(ram[51]), 0 if self._paddle is None else int(ram[51]) - self._paddle
        self._paddle = paddle
        error = self._target(ball) - (paddle + _GLIDE * moved)
        if abs(error) <= self._TOLERANCE:
            return NOOP
        return LEFT if error > 0 else RIGHT

    def _draw_aim(self) -> float:
        return self._random.uniform(-self._AIMS, self._AIMS) if self._fixed_aim is None else self._fixed_aim

    def _target(self, ball: Ball) -> float:
        if not ball.in_play:
            return self._MIDDLE
        if ball.speed_along <= 0:
            return ball.across + self._OFFSET
        frames = (self._CONTACT - ball.along) / ball.speed_along
        return reflected(ball.across + ball.speed_across * frames, *self._WALLS) + self._OFFSET + self._aim


class BreakoutTracker:
    """Meets the ball where it will come down, serving at once whenever no ball is in play.

    Args:
        random: source of the aims.
    """

    _CONTACT, _WALLS, _OFFSET = 178.0, (57.0, 200.0), -9.0
    _TOLERANCE, _AIMS = 8.0, 2.0

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._aim = 0.0
        self._approaching = False
        self._paddle: int | None = None

    def act(self, emulator: AtariEmulator) -> int:
        """Return the action that brings the paddle under the ball."""
        ram = emulator.ram
        ball = breakout_ball(ram)
        paddle, moved = int(ram[72]), 0 if self._paddle is None else int(ram[72]) - self._paddle
        self._paddle = paddle
        if not ball.in_play:
            return FIRE
        approaching = ball.speed_along > 0
        if approaching and not self._approaching:
            self._aim = self._random.uniform(-self._AIMS, self._AIMS)
        self._approaching = approaching
        across = ball.across
        if approaching:
            frames = (self._CONTACT - ball.along) / ball.speed_along
            across = reflected(across + ball.speed_across * frames, *self._WALLS)
        error = across + self._OFFSET + self._aim - (paddle + _GLIDE * moved)
        if abs(error) <= self._TOLERANCE:
            return NOOP
        return RIGHT if error > 0 else LEFT


class BallChaser:
    """Follows the ball, heeding neither walls nor how far its paddle will glide.

    It steers by where the ball is now and where it goes, and so is easier to imitate than a tracker, which
    works out where the ball will come. Looking 4 frames ahead it holds its own; looking 0 ahead it is late.

    Args:
        game: Breakout or Pong.
        frames_ahead: emulator frames that it looks ahead.
    """

    _TOLERANCE = 12.0

    def __init__(self, game: Game, frames_ahead: float) -> None:
        self._is_pong = game.name == "Pong"
        self._frames_ahead = frames_ahead

    def act(self, emulator: AtariEmulator) -> int:
        """Return the action that brings the paddle to where the ball will soon be."""
        ram = emulator.ram
        ball = pong_ball(ram) if self._is_pong else breakout_ball(ram)
        if not ball.in_play:
            return NOOP if self._is_pong else FIRE
        offset, paddle = (-7.0, ram[51]) if self._is_pong else (-9.0, ram[72])
        error = ball.across + self._frames_ahead * ball.speed_across + offset - int(paddle)
        if abs(error) <= self._TOLERANCE:
            return NOOP
        # The buttons right and left move Pong's paddle up and down.
        return RIGHT if (error > 0) != self._is_pong else LEFT


class FreewayWalker:
    """Walks up with a given probability at every decision and stands still otherwise.

    Args:
        up_probability: probability of walking.
        random: source of chance.
    """

    def __init__(self, up_probability: float, random: np.random.Generator) -> None:
        self._up_probability = up_probability
        self._random = random

    def act(self, emulator: AtariEmulator) -> int:
        """Return up or nothing."""
        return UP if self._random.random() < self._up_probability else NOOP


def freeway_height(ram: UInt8[np.ndarray, "128"]) -> int:
    """How far the player's chicken is across Freeway's road: 6 at the start to about 178."""
    return int(ram[14])


def _signed(byte: np.uint8) -> int:
    return int(byte) - 256 if byte > 127 else int(byte)
