"""How good a tokenizer's tokens are: codes in use, and how much of what moves they keep.

Letters: B frames, K tokens a frame, V vocabulary.

A tokenizer can look fine and keep nothing: where most of a frame stands still, drawing the background
alone has a small error, and a model that predicts its constant tokens is always right. So the errors
here are relative to drawing the background alone, on the pixels that differ from it, game by game.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from scipy import ndimage
from torch import Tensor

from datasets.games import GAMES
from world_model.frames import median_frame
from world_model.tokenizer import SMALL_PIXELS, Tokenizer

FOREGROUND_LEVELS = 8
"""A pixel is foreground if it differs from the background by more than this many gray levels."""
COLLAPSED_ERROR = 0.8
"""From this relative error of rare foreground on, next to nothing of what moves is kept.

Measured on Pong after 400 to 1000 steps: 0.92 to 0.95 for learned codebooks and for unweighted losses, whose
tokens hold no ball; 0.37 to 0.47 for weighted losses with a subtracted background, whose tokens do.
"""
LEFT_OUT_CONTRAST = 1 / 3
"""Share of a small thing's contrast under which it counts as left out."""
COLLAPSED_CODES = 2.0
"""Under this many distinct codes per position, on average, the tokens say next to nothing."""
CHUNK = 256
"""Frames that go through the tokenizer at once."""


@dataclass(frozen=True)
class GameTokenStatistics:
    """The tokens of one game's frames."""

    game: str
    """Name of the game."""
    distinct_codes_min: int
    """Least number of different codes seen at a position of the grid."""
    distinct_codes_mean: float
    """Mean number of different codes seen at a position of the grid."""
    foreground_error: float
    """Absolute error on foreground pixels, relative to drawing the background alone; 1 keeps nothing."""
    rare_foreground_error: float
    """The same, but every place of the screen counts alike, however rarely something passes it.

    Small fast things weigh as much as large slow ones: a tokenizer that keeps the paddles and forgets
    the ball has a small `foreground_error` and a large `rare_foreground_error`.
    """
    left_out: float
    """Share of the small things, alone on the background, of which less than a third of the contrast is drawn
    within a pixel of their place: an agent cannot see them there. 0 if there are none."""
    has_foreground: bool
    """Whether anything in the frames differs from the background."""

    @property
    def collapsed(self) -> bool:
        """Something moves in the frames and the tokens do not tell what."""
        return self.has_foreground and (
            self.rare_foreground_error > COLLAPSED_ERROR or self.distinct_codes_mean < COLLAPSED_CODES
        )


@dataclass(frozen=True)
class TokenStatistics:
    """The tokens of frames of one or several games."""

    vocab_size: int
    """Codes V there are."""
    codes_used: int
    """Codes seen at least once."""
    perplexity: float
    """Exponential of the codes' entropy: the number of codes in use, rare ones counting less."""
    games: tuple[GameTokenStatistics, ...]
    """Each game on its own."""

    @property
    def worst(self) -> GameTokenStatistics:
        """The game of which the least is kept."""
        return max(self.games, key=lambda game: (game.collapsed, game.rare_foreground_error))

    @property
    def collapsed(self) -> bool:
        """Whether any game's tokens say next to nothing of what moves."""
        return any(game.collapsed for game in self.games)

    def advice(self) -> str:
        """What is wrong with the worst game's tokens and what to try, or that nothing is."""
        worst = self.worst
        if not worst.collapsed:
            return "nothing to do: the tokens keep what moves"
        return (
            f"on {worst.game} the tokens lose {_percent(worst.rare_foreground_error)} of small fast things "
            f"and {_percent(worst.foreground_error)} of all that moves (a position takes "
            f"{worst.distinct_codes_mean:.1f} codes on average, at least {COLLAPSED_CODES:.0f} are needed); "
            "train the tokenizer for more steps, or use the 'tiny' tokenizer (finite scalar quantisation, "
            "subtracted background, a large foreground_weight)"
        )

    def describe(self) -> str:
        """The figures in one line."""
        worst = self.worst
        return (
            f"{self.codes_used} of {self.vocab_size} codes used (perplexity {self.perplexity:.1f}); "
            f"worst game {worst.game}: {worst.distinct_codes_mean:.1f} codes per position (least "
            f"{worst.distinct_codes_min}), error relative to drawing only the background "
            f"{worst.foreground_error:.2f}, on small and fast things {worst.rare_foreground_error:.2f}; "
            f"{_percent(worst.left_out)} of small things left out"
        )

    def scalars(self) -> dict[str, float]:
        """The figures for a log; of several games the worst."""
        return {
            "codes_used": float(self.codes_used),
            "code_usage": self.codes_used / self.vocab_size,
            "code_perplexity": self.perplexity,
            "distinct_codes_min": float(min(game.distinct_codes_min for game in self.games)),
            "distinct_codes_mean": min(game.distinct_codes_mean for game in self.games),
            "foreground_error": max(game.foreground_error for game in self.games),
            "rare_foreground_error": max(game.rare_foreground_error for game in self.games),
            "left_out": max(game.left_out for game in self.games),
            "collapsed": float(self.collapsed),
        }


@torch.no_grad()
def token_statistics(
    tokenizer: Tokenizer, frames: UInt8[Tensor, "B 84 84"], task_id: Int[Tensor, "B"]
) -> TokenStatistics:
    """Tokenise frames, redraw them and compare.

    Args:
        tokenizer: its own backgrounds are used where it has them, else the given frames' medians.
        frames: a hundred or more of each game, from many moments of play.
        task_id: the game of each frame.
    """
    tokens = torch.cat(
        [tokenizer.encode(*pair) for pair in zip(frames.split(CHUNK), task_id.split(CHUNK), strict=True)]
    )
    redrawn = torch.cat(
        [tokenizer.decode(*pair) for pair in zip(tokens.split(CHUNK), task_id.split(CHUNK), strict=True)]
    )
    games = []
    for task in task_id.unique():
        rows = task_id == task
        background = tokenizer.background_of(task[None])
        still = median_frame(frames[rows]) if background is None else background[0]
        games.append(
            game_statistics(
                GAMES[int(task)].name,
                tokens=tokens[rows],
                frames=frames[rows],
                redrawn=redrawn[rows],
                background=still,
            )
        )
    counts = tokens.flatten().bincount(minlength=tokenizer.config.vocab_size)
    share = counts[counts > 0] / counts.sum()
    return TokenStatistics(
        vocab_size=tokenizer.config.vocab_size,
        codes_used=len(share),
        perplexity=float((-(share * share.log()).sum()).exp()),
        games=tuple(games),
    )


def game_statistics(
    game: str,
    *,
    tokens: Int[Tensor, "B K"],
    frames: UInt8[Tensor, "B 84 84"],
    redrawn: UInt8[Tensor, "B 84 84"],
    background: UInt8[Tensor, "84 84"],
) -> GameTokenStatistics:
    """Compare one game's frames with what was redrawn from their tokens, and with the background."""
    absent = (frames.int() - background.int()).abs()
    foreground = absent > FOREGROUND_LEVELS
    error = ((frames.int() - redrawn.int()).abs() * foreground).double()
    absent = (absent * foreground).double()
    # Means over the moments at which a pixel is foreground; pixels that never are drop out of the sums.
    moments = foreground.sum(dim=0).clamp_min(1)
    has_foreground = bool(foreground.any())
    distinct = [len(column.unique()) for column in tokens.unbind(dim=1)]
    return GameTokenStatistics(
        game=game,
        distinct_codes_min=min(distinct),
        distinct_codes_mean=sum(distinct) / len(distinct),
        foreground_error=float(error.sum() / absent.sum()) if has_foreground else 0.0,
        rare_foreground_error=float((error / moments).sum() / (absent / moments).sum())
        if has_foreground
        else 0.0,
        left_out=_left_out(frames, redrawn, background),
        has_foreground=has_foreground,
    )


def _left_out(
    frames: UInt8[Tensor, "B 84 84"], redrawn: UInt8[Tensor, "B 84 84"], background: UInt8[Tensor, "84 84"]
) -> float:
    """See `GameTokenStatistics.left_out`."""
    there = (frames.int() - background.int()).abs().numpy(force=True)
    drawn = (redrawn.int() - background.int()).abs().numpy(force=True)
    small = lost = 0
    for seen, shown in zip(there, drawn, strict=True):
        groups = np.zeros(seen.shape, dtype=np.int32)
        ndimage.label(seen > FOREGROUND_LEVELS, structure=np.ones((3, 3)), output=groups)
        for number, (rows, columns) in enumerate(ndimage.find_objects(groups), start=1):
            pixels = groups[rows, columns] == number
            if pixels.sum() > SMALL_PIXELS:
                continue
            around = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in (rows, columns))
            small += 1
            lost += shown[around].sum() < LEFT_OUT_CONTRAST * seen[rows, columns][pixels].sum()
    return lost / small if small else 0.0


def _percent(fraction: float) -> str:
    return f"{min(fraction, 1.0):.0%}"
