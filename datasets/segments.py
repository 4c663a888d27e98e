"""Episodes, the segments cut from them, and the batches a model learns from.

Letters: T steps of an episode, E episodes, S segments, B batch, L steps of a segment, K tokens a frame,
A actions (18).

Step `t` of an episode is (frame seen, action taken, reward received, ended). A segment is a window of L
steps of one episode; a window that reaches past the episode is padded, with a mask that says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor

from datasets.errors import UserError
from datasets.games import find_game

PUBLISHED_PREPROCESSING = "84x84 gray, INTER_AREA, maximum of the last 2 of 4 frames, no sticky actions"

Padding = Literal["right", "left"]
ValueOf = Literal["returns", "failures"]


@dataclass(frozen=True, eq=False)
class Episode:
    """One play of a game, in memory."""

    frames: UInt8[np.ndarray, "T 84 84"]
    """Gray frame seen before each action."""
    actions: UInt8[np.ndarray, "T"]
    """Actions taken, as indices of the 18-action vocabulary."""
    rewards: Float32[np.ndarray, "T"]
    """Rewards as the game gave them, unclipped."""
    ends: UInt8[np.ndarray, "T"]
    """1 on the last step if the game ended there; all 0 if the episode was cut short."""
    game: str
    """The game's name in the published spelling, such as `SpaceInvaders`."""
    behaviour: str
    """What chose the actions, in words."""
    seed: int
    """Seed of the emulator and the behaviour."""
    emulator: str = "unknown"
    """Name and version of what produced the frames, such as `ale-py 0.12.1`."""
    preprocessing: str = PUBLISHED_PREPROCESSING
    """How frames were made from the emulator's screen, in words."""
    lives: UInt8[np.ndarray, "T"] | None = None
    """Lives left before each action, all 0 in games without lives; None where it was not recorded."""


def check_steps(actions: np.ndarray, rewards: np.ndarray, ends: np.ndarray, game: str, where: str) -> None:
    """Check the small arrays of one episode against its game.

    Args:
        actions: uint8 [T], indices of the 18-action vocabulary.
        rewards: float32 [T].
        ends: uint8 [T].
        game: the game's name.
        where: file and episode, for the message.

    Raises:
        UserError: no steps, a reward that is not finite, an action that the game does not have, or an end
            that is not on the last step; the sentence names the place, the field and the remedy.
    """
    remedy = "collect or convert this episode again"
    if len(actions) == 0:
        raise UserError(f"{where}: the episode holds no steps; {remedy}")
    if not np.isfinite(rewards).all():
        step = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise UserError(f"{where}, rewards: step {step} is {rewards[step]}, not a finite number; {remedy}")
    try:
        legal_actions = find_game(game).legal_actions
    except UserError as error:
        raise UserError(f"{where}, game: {error}") from error
    legal = np.zeros(256, dtype=bool)
    legal[list(legal_actions)] = True
    if not legal[actions].all():
        step = int(np.flatnonzero(~legal[actions])[0])
        raise UserError(
            f"{where}, actions: step {step} takes action {actions[step]}, which {game} does not have "
            f"(its actions in the 18-action vocabulary are {', '.join(map(str, np.flatnonzero(legal)))}); "
            f"{remedy} with actions as indices of that vocabulary"
        )
    if ends[:-1].any() or ends[-1] > 1:
        raise UserError(f"{where}, ends: only the last step may be 1 and all others are 0; {remedy}")


@dataclass(frozen=True)
class SegmentConfig:
    """How episodes become segments."""

    segment_length: int = 8
    """Steps of a segment (L)."""
    stride: int = 4
    """Steps between the starts of neighbouring segments."""
    padding: Padding = "right"
    """The side that is filled up where a segment reaches past its episode: right or left."""
    published_semantics: bool = False
    """Cut left-padded segments as the published program does, so that no segment holds a terminal step."""
    discount: float = 0.99
    """Discount of the returns-to-go."""
    raw_rewards: bool = False
    """Rewards and returns of the game's own size instead of the sign of each reward."""
    value_of: ValueOf = "returns"
    """What the value head learns: those returns, or the return of failing (`failure_returns`)."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount <= 1.0:
            raise UserError(f"discount is {self.discount}; it must be from 0 to 1")
        if self.segment_length < 1 or self.stride < 1:
            raise UserError(
                f"segment_length is {self.segment_length} and stride is {self.stride}; "
                "both must be at least 1"
            )


@dataclass(frozen=True, eq=False)
class Segments:
    """S windows of equal length, each within or reaching past one episode."""

    episode: Int[np.ndarray, "S"]
    """Index of the episode."""
    start: Int[np.ndarray, "S"]
    """First step; negative where the window is padded on the left."""

    def __len__(self) -> int:
        return len(self.episode)


def count_segments(lengths: Int[np.ndarray, "E"], config: SegmentConfig) -> Int[np.ndarray, "E"]:
    """Number of segments that each episode is cut into.

    With right padding they start at steps 0, stride, 2 stride, ... below T. With left padding they end
    before T, T - stride, ... above 0, so the terminal step is always in; `published_semantics` counts
    from T - 1 instead.

    Args:
        lengths: steps T of each episode.
        config: the cutting rule.
    """
    usable = lengths - 1 if _skips_terminal(config) else lengths
    return -(-usable // config.stride)


def segment_starts(
    lengths: Int[np.ndarray, "S"], number: Int[np.ndarray, "S"], config: SegmentConfig
) -> Int[np.ndarray, "S"]:
    """First step of the `number`-th segment of an episode of each length; negative where padded left.

    Args:
        lengths: steps T of the episode that each segment is cut from.
        number: which of its segments, from 0 to `count_segments` - 1.
        config: the cutting rule.
    """
    if config.padding == "right":
        return number * config.stride
    last_stop = lengths - 1 if _skips_terminal(config) else lengths
    return last_stop - number * config.stride - config.segment_length


def cut_episodes(lengths: Int[np.ndarray, "E"], config: SegmentConfig) -> Segments:
    """All segments of the given episodes, in the order of the episodes."""
    counts = count_segments(lengths, config)
    episode = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(episode)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Segments(episode, segment_starts(lengths[episode], number, config))


def _skips_terminal(config: SegmentConfig) -> bool:
    return config.padding == "left" and config.published_semantics


def discounted_returns(rewards: Float[np.ndarray, "T"], discount: float) -> Float32[np.ndarray, "T"]:
    """Return-to-go of every step of one whole episode: G_t = r_t + discount * G_{t+1}, 0 past the end.

    An episode that was cut short counts nothing for what would have followed.
    Source: Sutton and Barto, Reinforcement Learning, 2nd edition, equation 3.9.
    """
    if len(rewards) == 0:
        return np.zeros(0, dtype=np.float32)
    # Takes more than a second to import, which every command would wait for.
    from scipy.signal import lfilter

    backwards = lfilter([1.0], [1.0, -discount], rewards[::-1].astype(np.float64))
    return np.ascontiguousarray(np.asarray(backwards)[::-1], dtype=np.float32)


def failures(
    rewards: Float[np.ndarray, "T"], lives: UInt8[np.ndarray, "T"], ended: bool
) -> Bool[np.ndarray, "T"]:
    """True on the steps of one episode that fail: that lose a life, or earn less than nothing.

    Args:
        rewards: as the game gave them, or their signs.
        lives: lives left before each step; all 0 in games without lives.
        ended: the last step is terminal; in games with lives it then loses the last.
    """
    lost = np.append(lives[1:] < lives[:-1], ended and lives[-1] > 0)
    return lost | (rewards < 0)


def failure_returns(failed: Bool[np.ndarray, "T"], discount: float) -> Float32[np.ndarray, "T"]:
    """Minus `discount` to the power of the steps until the next failure; 0 where none follows.

    It is the return of a task whose only reward is -1 at a failure, which ends it: what a safety critic
    learns (Srinivasan et al. 2020, "Learning to be safe", arXiv 2010.14603).
    """
    steps = np.arange(len(failed))
    following = np.minimum.accumulate(np.where(failed, steps, np.inf)[::-1])[::-1]
    return -np.where(np.isfinite(following), np.power(discount, following - steps), 0.0).astype(np.float32)


def held_out_mask(digests: Sequence[str], games: Sequence[str], fraction: float) -> Bool[np.ndarray, "E"]:
    """True for the whole episodes that are kept aside for validation, about `fraction` of each game.

    An episode's own contents decide, so that copies of it are on the same side, and it stays there when a
    store grows. Of a game with two different episodes or more, at least one is on either side (which may
    change as such a small store grows).

    Args:
        digests: hash of each episode's contents, in hexadecimal.
        games: the game of each.
        fraction: share to keep aside; 0 keeps none.

    Raises:
        UserError: `fraction` is not from 0 to below 1.
    """
    if not 0.0 <= fraction < 1.0:
        raise UserError(f"held_out_fraction is {fraction}; it must be from 0 to below 1")
    held_out = np.zeros(len(digests), dtype=bool)
    if fraction == 0.0:
        return held_out
    digest = np.array(digests)
    for game in sorted(set(games)):
        of_game = np.flatnonzero(np.array(games) == game)
        distinct = np.unique(digest[of_game])
        if len(distinct) < 2:
            continue
        below = sum(int(text[:16], 16) / 2**64 < fraction for text in distinct.tolist())
        last = distinct[min(max(below, 1), len(distinct) - 1) - 1]
        held_out[of_game] = digest[of_game] <= last
    return held_out


def best_mask(
    scores: Float[np.ndarray, "E"], sizes: Int[np.ndarray, "E"], games: Sequence[str], share: float
) -> Bool[np.ndarray, "E"]:
    """True for the episodes of highest score that hold `share` of each game's items, the last one whole.

    Learning from these alone is percentile behaviour cloning where the rest is cloning (Chen et al. 2021,
    "Decision Transformer", arXiv 2106.01345).

    Args:
        scores: return of each episode, unclipped.
        sizes: items of each, such as its segments; 0 for one that is not drawn from.
        games: the game of each.
        share: above 0, at most 1.
    """
    best = np.zeros(len(scores), dtype=bool)
    for game in sorted(set(games)):
        of_game = np.flatnonzero(np.array(games) == game)
        order = of_game[np.argsort(-scores[of_game], kind="stable")]
        before = np.cumsum(sizes[order]) - sizes[order]
        best[order] = before < share * sizes[order].sum()
    return best


@dataclass(frozen=True, eq=False)
class Batch:
    """B segments of L steps, with observations as tokens; everything in padding is zero."""

    tokens: Int[Tensor, "B L K"]
    """Observation tokens, int64."""
    actions: Int[Tensor, "B L"]
    """Actions in 0 to 17, int64."""
    rewards: Float[Tensor, "B L"]
    """Rewards as the model is to see them (by default the sign of the game's), float32."""
    ends: Int[Tensor, "B L"]
    """1 on a terminal step, int64."""
    returns: Float[Tensor, "B L"]
    """Discounted return-to-go of the whole episode from this step, float32."""
    value_returns: Float[Tensor, "B L"]
    """What the value head learns: the same, or the return of failing, float32."""
    mask: Bool[Tensor, "B L"]
    """True on real steps, False on padding."""
    task_id: Int[Tensor, "B"]
    """Row of the task embedding, int64."""
    legal_mask: Bool[Tensor, "B A"]
    """True where an action of the 18-action vocabulary is legal."""

    def to(self, device: str | torch.device, non_blocking: bool = False) -> Batch:
        """Return the same batch on `device`."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)))

    def pin_memory(self) -> Batch:
        """Return the same batch in page-locked memory, from which copies to a GPU need not wait."""
        return Batch(*(getattr(self, f.name).pin_memory() for f in fields(self)))


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """B single frames and the games they are from; what a tokenizer learns from."""

    frames: UInt8[Tensor, "B 84 84"]
    """Gray frames."""
    task_id: Int[Tensor, "B"]
    """Row of the task embedding, int64."""

    def to(self, device: str | torch.device, non_blocking: bool = False) -> FrameBatch:
        """Return the same frames on `device`."""
        return FrameBatch(
            *(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self))
        )

    def pin_memory(self) -> FrameBatch:
        """Return the same frames in page-locked memory, from which copies to a GPU need not wait."""
        return FrameBatch(*(getattr(self, f.name).pin_memory() for f in fields(self)))
