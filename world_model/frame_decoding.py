"""Greedy decoding of imagined frames, many tokens a pass: guessed tokens are checked all at once.

Letters: M nodes, K tokens a frame, R tokens fed at once, D width of the hidden states, I inputs of
a Q head.

Greedy decoding takes the most likely token at each place, given all before it. Fed one by one, the
tokens of a frame cost a pass over all weights each. Here a pass is fed guesses of the tokens to come
as well; the model's prediction at each of them tells whether the next guess is what greedy decoding
would have taken. The guesses up to the first wrong one are kept, and so is the model's own token in
place of that one, so every pass yields at least the token that plain decoding would have yielded.
Behind it, the predictions just made are the guesses of the next pass. The result is that of plain
decoding whatever is guessed, as far as the arithmetic of a pass does not depend on how many tokens
it is fed: where the two best logits differ by no more than rounding, either may come out.

Methods: Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding" (arXiv
2211.17192), at temperature 0; second guesses as in Santilli et al. 2023, "Accelerating Transformer
Inference for Translation via Parallel Decoding" (arXiv 2305.10427).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from world_model.decode_engine import DecodeEngine
from world_model.drafting import Draft
from world_model.tree_cache import Branch

# What it is worth to learn the model's prediction behind a wrong guess, in tokens decoded.
SECOND_GUESS_VALUE = 0.5


@dataclass(frozen=True)
class DecodedFrames:
    """What M steps lead to."""

    reward: Float[np.ndarray, " M"]
    """Sign of the predicted reward."""
    is_end: Bool[np.ndarray, " M"]
    """Whether the episode is predicted to end."""
    tokens: Int[np.ndarray, "M K"]
    """The imagined frames."""
    seen: Float[Tensor, "M I"]
    """What the Q heads see of each frame."""
    passes: int
    """Times the weights were read."""
    tokens_fed: int
    """Tokens fed in all passes, wrong guesses included."""
    second_guesses: tuple[int, int]
    """How many second guesses were right, out of how many."""


def decode_frames(
    engine: DecodeEngine,
    branch: Branch,
    action: Int[np.ndarray, " M"],
    task_id: Int[np.ndarray, " M"],
    position: Int[np.ndarray, " M"],
    draft: Draft,
) -> DecodedFrames:
    """Feed an action in each of M nodes and decode the frame that follows.

    Args:
        engine: the model.
        branch: the nodes; their blocks are complete afterwards.
        action: token fed first.
        task_id: game of each node.
        position: place of the action in its sequence.
        draft: guesses of the frames.
    """
    decoding = _Decoding(engine, branch, action, task_id, position, draft)
    decoding.feed(decoding.tokens_to_feed(engine.fixed_rows))
    reward = engine.reward_logits(decoding.first_hidden).argmax(-1).cpu().numpy() - 1.0
    is_end = engine.end_logits(decoding.first_hidden).argmax(-1).cpu().numpy() == 1
    while not decoding.is_done.all():
        decoding.feed(decoding.tokens_to_feed(engine.fixed_rows))
    tokens = decoding.block[:, 1:]
    right = decoding.second_guess == tokens
    return DecodedFrames(
        reward=reward,
        is_end=is_end,
        tokens=tokens,
        seen=decoding.seen(),
        passes=decoding.passes,
        tokens_fed=decoding.tokens_fed,
        second_guesses=(int(right.sum()), int((decoding.second_guess >= 0).sum())),
    )


class _Decoding:
    """The frames of M nodes on their way.

    `block` [M K+1] holds the action and the frame: known tokens up to the place `start` [M], which is
    the first that has not been fed, then guesses.
    """

    def __init__(
        self,
        engine: DecodeEngine,
        branch: Branch,
        action: np.ndarray,
        task_id: np.ndarray,
        position: np.ndarray,
        draft: Draft,
    ) -> None:
        self._engine, self._branch = engine, branch
        self._task_id, self._position = task_id, position
        self.block = np.concatenate([action[:, None], draft.tokens], axis=1)
        self.start = np.zeros(len(action), dtype=np.int64)
        self.second_guess = np.full_like(draft.tokens, -1)
        self._confidence = np.tile(draft.confidence, (len(action), 1))
        self._second_confidence = draft.second_confidence
        self.first_hidden = torch.zeros(0)
        self._frames = torch.zeros(0)
        self.passes = self.tokens_fed = 0

    @property
    def is_done(self) -> Bool[np.ndarray, " M"]:
        """Nodes whose frames are complete."""
        return self.start == self.block.shape[1]

    def tokens_to_feed(self, fixed_rows: float) -> Int[np.ndarray, " M"]:
        """How many tokens to feed for each node: those worth their cost.

        A pass over R tokens costs about `fixed_rows + R`. Every unfinished node feeds the token it
        knows, which yields one. A guess yields one more with the probability that it and all before
        it are right, and otherwise a second guess, once. Guesses are taken in descending order of
        their worth, as many as make the yield per cost largest.
        """
        num_nodes, frame_tokens = self.second_guess.shape
        is_guess = np.arange(1, frame_tokens + 1) > self.start[:, None]
        reach = np.where(is_guess, self._confidence, 1.0).cumprod(axis=1)
        worth = SECOND_GUESS_VALUE * self._second_confidence * (self.second_guess < 0)
        gain = np.where(is_guess, reach + (1 - reach) * worth, 1.0)
        # The tokens fed are the first ones, so none is worth more than those before it.
        gain = np.where(is_guess, np.minimum.accumulate(gain, axis=1), 0.0)
        order = np.argsort(-gain, axis=None, kind="stable")[: int(is_guess.sum())]
        num_open = num_nodes - int(self.is_done.sum())
        total = np.append(0.0, gain.ravel()[order].cumsum())
        rate = (num_open + total) / (fixed_rows + num_open + np.arange(len(total)))
        chosen = order[: int(rate.argmax())]
        return np.where(self.is_done, 0, 1 + np.bincount(chosen // frame_tokens, minlength=num_nodes))

    def feed(self, count: Int[np.ndarray, " M"]) -> None:
        """Feed so many tokens of each node and take in what the model says."""
        node = np.repeat(np.arange(len(count)), count)
        row = np.cumsum(count) - count
        place = self.start[node] + np.arange(len(node)) - row[node]
        self._branch.feed(self.start, count)
        hidden = self._engine.extend(
            self._tensor(self.block[node, place]),
            self._tensor(place == 0),
            self._tensor(self._position[node] + place),
            self._tensor(self._task_id[node]),
            self._branch,
        )
        if self.passes == 0:
            self.first_hidden = hidden[self._tensor(row)]
            shape = (*self.second_guess.shape, hidden.shape[-1])
            self._frames = torch.empty(shape, dtype=hidden.dtype, device=hidden.device)
        self.passes, self.tokens_fed = self.passes + 1, self.tokens_fed + len(node)
        self._accept(self._predictions(hidden, node, place), self.start + count)
        # What was fed after a wrong guess is written again when the right token is fed.
        fed = np.flatnonzero(place > 0)
        where = self._tensor(node[fed]), self._tensor(place[fed] - 1)
        self._frames[where] = hidden[self._tensor(fed)]

    def seen(self) -> Tensor:
        """What the Q heads see of the frames, once they are complete."""
        return self._engine.seen_by_q(self._frames)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._engine.device)

    def _predictions(self, hidden: Tensor, node: np.ndarray, place: np.ndarray) -> Int[np.ndarray, "M K"]:
        """The token predicted for each place of the frames, where the one before it was fed."""
        is_inner = place < self.second_guess.shape[1]
        if not is_inner.all():
            hidden = hidden[self._tensor(is_inner)]
        predicted = np.full_like(self.second_guess, -1)
        if len(hidden):
            best = self._engine.observation_logits(hidden).argmax(-1)
            predicted[node[is_inner], place[is_inner]] = best.cpu().numpy()
        return predicted

    def _accept(self, predicted: Int[np.ndarray, "M K"], end: Int[np.ndarray, " M"]) -> None:
        """Keep the guesses that were right; put the model's predictions in place of the others."""
        place = np.arange(1, self.block.shape[1])
        guess = self.block[:, 1:]
        is_wrong = (place > self.start[:, None]) & (place < end[:, None]) & (guess != predicted)
        self.start = np.where(is_wrong.any(axis=1), 1 + is_wrong.argmax(axis=1), end)
        is_second = (place > self.start[:, None]) & (place <= end[:, None])
        self.second_guess[is_second] = predicted[is_second]
        self._confidence[is_second] = self._second_confidence
        is_replaced = is_second | ((place == self.start[:, None]) & (predicted >= 0))
        guess[is_replaced] = predicted[is_replaced]
