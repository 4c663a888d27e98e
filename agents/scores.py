"""Scores of other players of Atari games: random play, people, DQN and the published agents.

The figures and where each comes from are in `reference_scores.json`, beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from agents.metrics import Estimate, normalised_score, summarise

Reference = Literal["human", "dqn"]
"""What a normalised score is measured against."""

REFERENCE_SCORES = Path(__file__).parent / "reference_scores.json"


@dataclass(frozen=True)
class GameScores:
    """What others score in one game, in points of the game."""

    random: float
    """Mean score of uniformly random play."""
    human: float | None
    """Mean score of a professional human tester."""
    dqn: float | None
    """Score of the DQN agent, as the published agents are compared with it."""

    def reference(self, name: Reference) -> float | None:
        """The score that `name` stands for, if it is known."""
        return self.human if name == "human" else self.dqn


@dataclass(frozen=True)
class ReferenceScores:
    """Everything in `reference_scores.json`."""

    games: Mapping[str, GameScores]
    """By game. A game that is not here has no score we are certain of."""
    published: Mapping[str, Mapping[str, float]]
    """Mean score of each published agent, by agent and game."""
    sources: Mapping[str, str]
    """Where each group of figures comes from."""

    def published_for(self, game: str) -> dict[str, float]:
        """The published agents that played a game, and their mean scores in it."""
        return {agent: scores[game] for agent, scores in self.published.items() if game in scores}


@cache
def reference_scores() -> ReferenceScores:
    """Read the scores; the file is part of the program, so it is read once."""
    content = json.loads(REFERENCE_SCORES.read_text())
    games = {
        name: GameScores(random=row["random"], human=row.get("human"), dqn=row.get("dqn"))
        for name, row in content["games"].items()
    }
    return ReferenceScores(games=games, published=content["published"], sources=content["sources"])


@dataclass(frozen=True)
class ScoreSummary:
    """Scores of one player in one game, on one scale."""

    mean: Estimate
    """Their mean."""
    iqm: Estimate
    """Their interquartile mean."""


def summarise_scores(
    scores: Float[np.ndarray, "N"], game: str, *, whole_games: bool, seed: int = 0
) -> dict[str, ScoreSummary]:
    """Mean and IQM on every scale that applies: "raw", "human" and "dqn".

    Args:
        scores: points of N episodes.
        game: the game's name.
        whole_games: whether the games were played to their end. Human and DQN scores are those of whole
            games, so games that were cut short on purpose are not measured by them.
        seed: seed of the bootstrap.
    """
    scales: dict[str, Float[np.ndarray, "N"]] = {"raw": scores}
    others = reference_scores().games.get(game)
    if others is not None and whole_games:
        for scale, reference in (("human", others.human), ("dqn", others.dqn)):
            if reference is not None:
                scales[scale] = normalised_score(scores, others.random, reference)
    return {
        scale: ScoreSummary(
            mean=summarise(points[None], "mean", seed=seed), iqm=summarise(points[None], "iqm", seed=seed)
        )
        for scale, points in scales.items()
    }


def others_scores(game: str) -> dict[str, float]:
    """Scores in a game of random play, people, DQN and the published agents, as far as known."""
    row = reference_scores().games.get(game)
    if row is None:
        return {}
    known = {"random": row.random, "human": row.human, "DQN": row.dqn}
    known |= reference_scores().published_for(game)
    return {name: score for name, score in known.items() if score is not None}
