"""Guesses of the frames to come, for `frame_decoding` to check many tokens at once.

Letters: M nodes, K tokens a frame, V observation vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

# Trust in guesses before any were checked, and how many frames that is worth as evidence. The trust
# follows what was seen of late, about so many frames.
FIRST_CONFIDENCE, FIRST_WEIGHT, MEMORY = 0.9, 2.0, 256.0


@dataclass(frozen=True)
class Draft:
    """Guesses of M frames; they decide how long decoding takes, and nothing else."""

    tokens: Int[np.ndarray, "M K"]
    """The guessed tokens."""
    confidence: Float[np.ndarray, " K"]
    """How often the guesses for a place have been right of late."""
    second_confidence: float
    """The same for second guesses: what the model predicts at a place behind a wrong first guess."""


class Drafter:
    """Guesses that the token of a place will be what followed the one there the last time.

    Of a token never seen at a place the guess is that it stays. How often guesses are right is counted
    for each place, whether they were used or not.
    """

    def __init__(self, tokens_per_frame: int, vocab_size: int) -> None:
        """Begin with the guess that nothing ever changes."""
        self._following = np.tile(np.arange(vocab_size), (tokens_per_frame, 1))
        self._place = np.arange(tokens_per_frame)
        self._confidence = np.full(tokens_per_frame, FIRST_CONFIDENCE)
        self._weight = FIRST_WEIGHT
        self._second_confidence, self._second_weight = FIRST_CONFIDENCE, FIRST_WEIGHT * tokens_per_frame

    def draft(self, frames: Int[np.ndarray, "M K"]) -> Draft:
        """Guess what follows each of M frames."""
        tokens = self._following[self._place, frames]
        return Draft(tokens, self._confidence.copy(), self._second_confidence)

    def learn(
        self,
        frames: Int[np.ndarray, "M K"],
        following: Int[np.ndarray, "M K"],
        second_guesses: tuple[int, int],
    ) -> None:
        """Take in which frames did follow, and how many second guesses were right out of how many."""
        rate = (self._following[self._place, frames] == following).mean(axis=0)
        self._confidence += (rate - self._confidence) * len(frames) / (self._weight + len(frames))
        self._weight = min(self._weight + len(frames), MEMORY)
        right, total = second_guesses
        if total:
            self._second_confidence += (
                (right / total - self._second_confidence) * total / (self._second_weight + total)
            )
            self._second_weight = min(self._second_weight + total, MEMORY * len(self._place))
        self._following[self._place, frames] = following
