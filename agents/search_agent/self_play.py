"""Playing an instance many times at once, every move chosen by a search.

Letters: B games, T moves, A actions, F numbers of a position.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from agents.search_agent.beam_choice import beam_choice
from agents.search_agent.games import SearchGame
from agents.search_agent.guide import NetworkGuide
from agents.search_agent.latent_model import LatentModel
from agents.search_agent.network import SearchNetwork
from agents.search_agent.observation import Observation, concatenate
from datasets.errors import UserError
from planning.base import SearchResult, Tree
from planning.gumbel_muzero import gumbel_muzero
from planning.model import PlanningModel
from planning.options import TreeOptions


@dataclass(frozen=True)
class PlayConfig:
    """How a move is chosen."""

    dynamics: Literal["exact", "learned"] = "exact"
    """Search by the game's own rules, or by the network's idea of them (MuZero)."""
    planner: Literal["gumbel", "beam"] = "gumbel"
    """Tree search by Gumbel MuZero, or beam search (`beam_choice`)."""
    num_simulations: int = 16
    """Positions that a search looks at for one move."""
    num_considered: int = 8
    """Actions that take part in the tree search of a move."""
    beam_width: int = 4
    """Paths that a beam keeps, and moves that it tries from each."""
    horizon: int = 8
    """Moves that a beam looks ahead, if the positions that it may look at last so long."""
    merge_equal_states: bool = False
    """Let equal states of a tree share what was found out below them; a beam evaluates them once anyway."""
    gumbel_scale: float = 1.0
    """Weight of the noise that makes games differ; 0 plays the best move known."""
    use_value: bool = True
    """With exact dynamics, let the network say what positions are worth; else only rewards count."""

    def __post_init__(self) -> None:
        for name in ("num_simulations", "num_considered", "beam_width", "horizon"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")


class Move(NamedTuple):
    """One move of a game."""

    seen: Observation
    """One row, before it."""
    action: int
    """What was done."""
    reward: float
    """What it brought."""
    policy: Float[np.ndarray, " A"]
    """The improved policy of its search."""


@dataclass(frozen=True)
class Episode:
    """One game as it was played, and what its searches found."""

    observation: Observation
    """Before each move, T rows."""
    actions: Int[np.ndarray, " T"]
    """Moves."""
    rewards: Float[np.ndarray, " T"]
    """Of each move, in units of the instance."""
    policy: Float[np.ndarray, "T A"]
    """The improved policy of each search: a target."""

    @staticmethod
    def of(moves: Sequence[Move]) -> Episode:
        """A game of at least one move."""
        seen, actions, rewards, policy = zip(*moves, strict=True)
        return Episode(concatenate(seen), np.array(actions), np.array(rewards), np.stack(policy))

    @property
    def returns(self) -> Float[np.ndarray, " T"]:
        """Reward from each move on."""
        return np.cumsum(self.rewards[::-1])[::-1].copy()

    @property
    def total(self) -> float:
        """Reward of the whole game."""
        return float(self.rewards.sum())


def play(
    game: SearchGame,
    network: SearchNetwork,
    config: PlayConfig,
    *,
    count: int,
    seed: int,
    first: int = 0,
    deadline: float | None = None,
) -> list[Episode]:
    """Play an instance `count` times, side by side.

    Args:
        game: the instance.
        network: in evaluation mode.
        config: how moves are chosen.
        count: B, games.
        seed: of all noise; game b of a seed is the same whatever the number of games.
        first: number b of the first game.
        deadline: give games up that are not over by then, on the clock of `time.perf_counter`.

    Returns:
        The games that were played to their end, in order.

    Raises:
        UserError: the instance leaves nothing to decide.
    """
    positions = game.start(count)
    if not game.legal_mask(positions).any():
        raise UserError(f"{game.name}: nothing is left to decide, so nothing can be learned; leave it out")
    going = np.arange(count)
    moves: list[list[Move]] = [[] for _ in range(count)]
    model = planning_model(game, network, config)
    turn = 0
    while len(going):
        if deadline is not None and time.perf_counter() > deadline:
            break
        seen = game.observe(positions)
        actions, weights = choose(game, model, positions, config, _seeds(seed, first + going, turn))
        after, rewards, done = game.step(positions, actions)
        for row, b in enumerate(going):
            moves[b].append(Move(seen.rows(slice(row, row + 1)), actions[row], rewards[row], weights[row]))
        positions, going, turn = after[~done], going[~done], turn + 1
    return [Episode.of(made) for b, made in enumerate(moves) if b not in going]


def planning_model(game: SearchGame, network: SearchNetwork, config: PlayConfig) -> PlanningModel:
    """What a search of this configuration searches in."""
    if config.dynamics == "learned":
        return LatentModel(network, game.num_actions)
    return game.model(NetworkGuide(network, game, use_value=config.use_value))


def choose(
    game: SearchGame, model: PlanningModel, positions: np.ndarray, config: PlayConfig, seeds: np.ndarray
) -> tuple[Int[np.ndarray, " B"], Float[np.ndarray, "B A"]]:
    """Search from each position in which there is something to choose.

    Returns:
        The actions, and the improved policies.
    """
    legal_mask = game.legal_mask(positions)
    actions = legal_mask.argmax(axis=1)
    weights = legal_mask.astype(np.float64)
    open_rows = legal_mask.sum(axis=1) > 1
    if open_rows.any():
        result = search(game, model, positions[open_rows], config, seeds[open_rows])
        actions[open_rows], weights[open_rows] = result.action, result.action_weights
    return actions, weights


def search(
    game: SearchGame, model: PlanningModel, positions: np.ndarray, config: PlayConfig, seeds: np.ndarray
) -> SearchResult[Tree]:
    """One search from each position."""
    observed = game.observe(positions) if config.dynamics == "learned" else positions
    if config.planner == "beam":
        return beam_choice(
            model,
            observed,
            num_roots=len(positions),
            beam_width=config.beam_width,
            horizon=config.horizon,
            num_nodes=config.num_simulations,
            gumbel_scale=config.gumbel_scale,
            seeds=seeds,
        )
    return gumbel_muzero(
        model,
        observed,
        num_simulations=config.num_simulations,
        max_num_considered_actions=config.num_considered,
        gumbel_scale=config.gumbel_scale,
        seed=seeds,
        options=TreeOptions(merge_equal_states=config.merge_equal_states),
    )


def _seeds(seed: int, going: np.ndarray, turn: int) -> Int[np.ndarray, " B"]:
    """A seed for each game's search of this turn."""
    words = [np.random.SeedSequence((seed, int(b), turn)).generate_state(1)[0] for b in going]
    return np.array(words, dtype=np.int64)
