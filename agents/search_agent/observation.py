"""What the network sees of positions, the same for all games: one vector and two sets.

Letters: B positions, A actions, S context elements, G, F, E numbers of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float32, Float64


@dataclass(frozen=True)
class Observation:
    """B positions of games of the same kind, of instances of any size: shorter sets are filled up with 0."""

    overall: Float32[np.ndarray, "B G"]
    """The position as a whole."""
    actions: Float32[np.ndarray, "B A F"]
    """Each action, legal or not."""
    context: Float32[np.ndarray, "B S E"]
    """What else is there, such as machines; its order means nothing to the network."""
    legal_mask: Bool[np.ndarray, "B A"]
    """True where an action is allowed."""
    action_mask: Bool[np.ndarray, "B A"]
    """False where an action only fills up."""
    context_mask: Bool[np.ndarray, "B S"]
    """The same for the context."""
    estimate: Float64[np.ndarray, " B"]
    """A cheap estimate of the return from here on, in units of the instance; the value corrects it."""

    def __len__(self) -> int:
        return len(self.overall)

    def rows(self, chosen: np.ndarray | slice) -> Observation:
        """Some of the positions."""
        return Observation(
            self.overall[chosen],
            self.actions[chosen],
            self.context[chosen],
            self.legal_mask[chosen],
            self.action_mask[chosen],
            self.context_mask[chosen],
            self.estimate[chosen],
        )


def observe(
    overall: Float32[np.ndarray, "B G"],
    actions: Float32[np.ndarray, "B A F"],
    context: Float32[np.ndarray, "B S E"],
    legal_mask: Bool[np.ndarray, "B A"],
    estimate: Float64[np.ndarray, " B"] | None = None,
) -> Observation:
    """Positions of one instance: nothing is filled up. Without an estimate the value is all the network's."""
    return Observation(
        overall,
        actions,
        context,
        legal_mask,
        np.ones(actions.shape[:2], dtype=np.bool_),
        np.ones(context.shape[:2], dtype=np.bool_),
        np.zeros(len(overall)) if estimate is None else estimate,
    )


def concatenate(parts: Sequence[Observation]) -> Observation:
    """Positions of one instance from several observations."""
    columns = ([getattr(part, field.name) for part in parts] for field in fields(Observation))
    return Observation(*(np.concatenate(column) for column in columns))


def stack(parts: Sequence[Observation]) -> Observation:
    """Positions of several instances, filled up to the largest sets."""
    num_actions = max(part.actions.shape[1] for part in parts)
    num_context = max(part.context.shape[1] for part in parts)
    return concatenate(
        [
            Observation(
                part.overall,
                _filled(part.actions, num_actions),
                _filled(part.context, num_context),
                _filled(part.legal_mask, num_actions),
                _filled(part.action_mask, num_actions),
                _filled(part.context_mask, num_context),
                part.estimate,
            )
            for part in parts
        ]
    )


def _filled(array: np.ndarray, length: int) -> np.ndarray:
    out = np.zeros((len(array), length, *array.shape[2:]), dtype=array.dtype)
    out[:, : array.shape[1]] = array
    return out
