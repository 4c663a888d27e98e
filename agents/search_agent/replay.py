"""Positions from self-play to learn from, and their renewal by searching again (reanalyse).

Letters: N positions held, B a batch, U unrolled moves, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from agents.search_agent.observation import Observation, stack
from agents.search_agent.self_play import Episode


@dataclass(frozen=True)
class Sample:
    """Positions, the U moves that followed, and what is to be learned at each of the U + 1 places."""

    observation: Observation
    """At the first place."""
    actions: Int[np.ndarray, "B U"]
    """Moves made; 0 past the end of a game."""
    rewards: Float[np.ndarray, "B U"]
    """Of these moves."""
    policy: Float[np.ndarray, "B V A"]
    """Improved policy at each of V = U + 1 places."""
    returns: Float[np.ndarray, "B V"]
    """Reward from each place on; 0 past the end."""
    going: Bool[np.ndarray, "B V"]
    """False past the end."""
    drawn: Int[np.ndarray, " B"]
    """Which episodes the positions are from."""


class Replay:
    """The newest episodes of each instance."""

    def __init__(self, capacity: int) -> None:
        """Make an empty replay for so many positions over all instances."""
        self._capacity = capacity
        self._episodes: list[tuple[int, Episode]] = []

    def __len__(self) -> int:
        """Positions held."""
        return sum(len(episode.actions) for _, episode in self._episodes)

    def add(self, game: int, episodes: Sequence[Episode]) -> None:
        """Keep episodes of an instance, which goes by a number; the oldest of all make room."""
        self._episodes += [(game, episode) for episode in episodes]
        while len(self._episodes) > 1 and len(self) > self._capacity:
            del self._episodes[0]

    def sample(self, batch_size: int, unroll: int, random: np.random.Generator) -> Sample:
        """Draw positions, all equally likely."""
        lengths = np.array([len(episode.actions) for _, episode in self._episodes])
        places = random.integers(lengths.sum(), size=batch_size)
        chosen = np.searchsorted(lengths.cumsum(), places, side="right")
        moves = places - (lengths.cumsum() - lengths)[chosen]
        picked = [self._episodes[index] for index in chosen]
        num_actions = max(episode.policy.shape[1] for _, episode in picked)
        policy = np.zeros((batch_size, unroll + 1, num_actions))
        actions = np.zeros((batch_size, unroll), dtype=np.int64)
        rewards, returns = np.zeros((batch_size, unroll)), np.zeros((batch_size, unroll + 1))
        going = np.zeros((batch_size, unroll + 1), dtype=np.bool_)
        for row, ((_, episode), move) in enumerate(zip(picked, moves, strict=True)):
            here = slice(move, move + unroll + 1)
            count = len(episode.actions[here])
            policy[row, :count, : episode.policy.shape[1]] = episode.policy[here]
            returns[row, :count] = episode.returns[here]
            going[row, :count] = True
            followed = min(count, unroll)
            actions[row, :followed] = episode.actions[move : move + followed]
            rewards[row, :followed] = episode.rewards[move : move + followed]
        seen = stack(
            [episode.observation.rows(slice(m, m + 1)) for (_, episode), m in zip(picked, moves, strict=True)]
        )
        return Sample(seen, actions, rewards, policy, returns, going, chosen)

    def oldest(self, count: int, first: int) -> list[tuple[int, int, Episode]]:
        """`count` episodes from number `first` on, going round: (place, instance, episode)."""
        places = [(first + offset) % len(self._episodes) for offset in range(min(count, len(self._episodes)))]
        return [(place, *self._episodes[place]) for place in places]

    def renew(self, place: int, policy: Float[np.ndarray, "T A"]) -> None:
        """Put a newly searched policy in the place of an episode's older one."""
        game, old = self._episodes[place]
        self._episodes[place] = (game, replace(old, policy=policy))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything held, by name, for a checkpoint."""
        out = {}
        for number, (game, episode) in enumerate(self._episodes):
            parts = {name: getattr(episode, name) for name in ("actions", "rewards", "policy")}
            parts |= {f"observation.{name}": array for name, array in vars(episode.observation).items()}
            out |= {f"{number:06d}/{game}/{name}": array for name, array in parts.items()}
        return out

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `arrays` gave."""
        found: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            number, game, part = name.split("/")
            found.setdefault((number, int(game)), {})[part] = array
        self._episodes = [(game, _episode(parts)) for (_, game), parts in sorted(found.items())]


def _episode(parts: dict[str, np.ndarray]) -> Episode:
    seen = {
        name.removeprefix("observation."): a for name, a in parts.items() if name.startswith("observation.")
    }
    return Episode(Observation(**seen), parts["actions"], parts["rewards"], parts["policy"])
