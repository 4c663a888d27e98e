"""Acting with a world-action model: what an agent remembers, how it plans, when it explores.

Letters: E environments acting now, P planned steps, K tokens a frame, T tokens of the longest
context, A actions.

Every environment has its own memory and its own random numbers, and all of them are planned for in
one batch. Rows of a batch do not affect each other, so an environment's actions do not depend on
how many others play beside it (up to the rounding of batched arithmetic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int, UInt8

from datasets.errors import UserError
from datasets.games import Game
from planning.base import SearchResult, best_path
from planning.beam import BeamLimits, beam_search
from planning.mcts import mcts
from planning.options import TreeOptions
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel

PUBLISHED_DISCOUNT = 0.99


@dataclass(frozen=True)
class ActingConfig:
    """How an agent chooses its actions."""

    planner: Literal["beam", "mcts", "greedy"] = "beam"
    """Beam search or tree search in the world model, or the action of highest Q at once."""
    beam_width: int = 2
    """Paths the beam planner keeps, and actions it tries per state."""
    horizon: int = 2
    """Steps the planner looks ahead; of these, tree search imagines all but the last, and at least one."""
    trace_decay: float = 0.5
    """Weight that beam search gives to each further imagined step; 1 counts the last alone, as published."""
    num_simulations: int = 20
    """States the tree search adds to its tree."""
    context_frames: int = 8
    """Frames the agent remembers; it plans from as many of them as leave room for the horizon."""
    discount: float | None = None
    """Factor on the future at each imagined step; by default that of training, or 0.99 if it is unknown."""
    epsilon: float = 0.001
    """Probability of a random legal action."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the weights and products that plan; bfloat16 is faster, and may decide close calls otherwise."""
    token_budget: int | None = None
    """Tokens that beam search may imagine for one decision; None for as many as width and horizon take."""
    time_budget: float | None = None
    """Seconds that beam search may take for the decisions of all environments together; the answer is that
    of the depth reached, so it depends on the machine. None for no limit."""
    confident_gap: float | None = None
    """Where the best action leads the second best by so much Q it is taken unplanned; None to plan always."""
    published_semantics: bool = False
    """Plan with the faults of the published planners, such as not reading predicted ends (docs/parity.md)."""

    def __post_init__(self) -> None:
        for name in ("beam_width", "horizon", "num_simulations", "context_frames"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("token_budget", "time_budget", "confident_gap"):
            given = getattr(self, name)
            if given is not None and not given >= 0:
                raise UserError(f"{name} is {given}; it must be 0 or more")
        for name in ("discount", "epsilon", "trace_decay"):
            given = getattr(self, name)
            if given is not None and not 0.0 <= given <= 1.0:
                raise UserError(f"{name} is {given}; it must lie between 0 and 1")

    @property
    def steps_ahead(self) -> int:
        """Steps this planner looks ahead: none without planning."""
        return 0 if self.planner == "greedy" else self.horizon


@dataclass(frozen=True)
class Plan:
    """The future that a decision counts on."""

    actions: Int[np.ndarray, " P"]
    """Actions along the best path, from now on."""
    rewards: Float[np.ndarray, " P"]
    """Predicted reward of each."""
    ends: Bool[np.ndarray, " P"]
    """Whether the episode is predicted to end with it."""
    frames: UInt8[np.ndarray, "P 84 84"]
    """Imagined frame after each."""


@dataclass(frozen=True)
class Decision:
    """What an agent does in each of E environments, and why."""

    actions: Int[np.ndarray, " E"]
    """Actions to take, of the full vocabulary."""
    is_random: Bool[np.ndarray, " E"]
    """True where chance chose (epsilon), not the planner."""
    q_values: Float[np.ndarray, "E A"]
    """The Q head's value of each action; -inf where illegal."""
    planned_values: Float[np.ndarray, "E A"]
    """Value of each action after planning (`SearchResult.root_q_value`); -inf where illegal."""
    search: SearchResult
    """The search behind it."""


class Agent:
    """A model, its tokenizer and a planner, playing one game in several environments."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        model: WorldActionModel,
        game: Game,
        config: ActingConfig,
        *,
        environments: int,
        seed: int,
    ) -> None:
        """Make an agent for a number of environments; call `begin` before each episode.

        Args:
            tokenizer: in evaluation mode, on the model's device.
            model: in evaluation mode.
            game: what it plays.
            config: how it chooses.
            environments: places for environments, numbered from 0.
            seed: with an episode's index, decides the random actions of that episode.

        Raises:
            UserError: a setting that this game or this model cannot do.
        """
        check_acting(config, game, tokenizer, model)
        self.game = game
        self.config = config
        self.seed = seed
        self._tokenizer = tokenizer
        self._device = model.position_embedding.weight.device
        discount = PUBLISHED_DISCOUNT if config.discount is None else config.discount
        self._planning_model = WorldActionPlanningModel(
            model,
            discount=discount,
            published_semantics=config.published_semantics,
            dtype=getattr(torch, config.precision),
        )
        self._limits = _limits(config, model)
        frames = min(config.context_frames, model.config.max_blocks - config.steps_ahead)
        self._memory = ContextMemory(environments, frames, model.config.tokens_per_frame)
        self._generators = [np.random.default_rng(0)] * environments

    def begin(self, environment: int, episode: int) -> None:
        """Start an episode: forget the last one, and restart the random numbers from its index."""
        self._memory.forget(environment)
        self._generators[environment] = np.random.default_rng([self.seed, episode])

    def act(self, frames: UInt8[np.ndarray, "E 84 84"], environments: Sequence[int]) -> Decision:
        """See a frame in each of the environments named, and choose an action there.

        Args:
            frames: what each environment shows now.
            environments: their places; all different.
        """
        self._memory.see(environments, self._encode(frames))
        result = self._search(environments)
        generators = [self._generators[environment] for environment in environments]
        is_random, chance = explore(generators, self.game, self.config.epsilon)
        actions = np.where(is_random, chance, result.action)
        self._memory.do(environments, actions)
        return Decision(
            actions=actions,
            is_random=is_random,
            q_values=result.tree.q_value[:, 0],
            planned_values=result.root_q_value,
            search=result,
        )

    def plan(self, decision: Decision, row: int) -> Plan:
        """Draw the future that the agent's latest decision counts on.

        Args:
            decision: what `act` returned last; the imagined frames of earlier ones are gone.
            row: which of its environments.
        """
        tree = decision.search.tree
        actions, rows = best_path(decision.search, row)
        nodes = rows[1:]
        frames = np.zeros((0, 84, 84), dtype=np.uint8)
        if len(nodes):
            tokens = torch.from_numpy(self._planning_model.observation_tokens(tree.node[row, nodes]))
            frames = self._tokenizer.decode(tokens.to(self._device), self._task_id(len(nodes))).cpu().numpy()
        return Plan(
            actions=actions,
            rewards=tree.reward[row, nodes],
            ends=tree.discount[row, nodes] == 0,
            frames=frames,
        )

    def _encode(self, frames: UInt8[np.ndarray, "E 84 84"]) -> Int[np.ndarray, "E K"]:
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self._device)
        return self._tokenizer.encode(pixels, self._task_id(len(frames))).cpu().numpy()

    def _task_id(self, rows: int) -> torch.Tensor:
        return torch.full((rows,), self.game.task_id, device=self._device)

    def _search(self, environments: Sequence[int]) -> SearchResult:
        tokens, length = self._memory.context(environments)
        legal_mask = repeat(torch.from_numpy(self.game.legal_mask), "A -> E A", E=len(environments))
        context = TokenContext(
            tokens=torch.from_numpy(tokens).to(self._device),
            length=torch.from_numpy(length).to(self._device),
            task_id=self._task_id(len(environments)),
            legal_mask=legal_mask.to(self._device),
        )
        config = self.config
        if config.planner == "mcts":
            return mcts(
                self._planning_model,
                context,
                num_simulations=config.num_simulations,
                horizon=config.horizon,
                published_semantics=config.published_semantics,
                published_cache=config.published_semantics,
                # The network takes nearly all the time: compiled kernels would only be waited for.
                options=TreeOptions(compiled=False),
            )
        # Without planning it is a beam search none of whose steps is taken.
        return beam_search(
            self._planning_model,
            context,
            beam_width=config.beam_width,
            horizon=config.steps_ahead,
            trace_decay=config.trace_decay,
            limits=self._limits,
        )


def explore(
    generators: Sequence[np.random.Generator], game: Game, epsilon: float
) -> tuple[Bool[np.ndarray, " E"], Int[np.ndarray, " E"]]:
    """Whether each of E environments explores, and the legal action that it would take.

    Args:
        generators: of each environment; both numbers are drawn at every decision, so that one that
            explores shifts none that follow.
        game: what is played.
        epsilon: probability of exploring.
    """
    coins = np.array([generator.random() for generator in generators])
    chance = np.array([generator.choice(game.legal_actions) for generator in generators])
    return coins < epsilon, chance


def _limits(config: ActingConfig, model: WorldActionModel) -> BeamLimits:
    """What a configuration lets beam search cost."""
    tokens = config.token_budget
    return BeamLimits(
        nodes=None if tokens is None else tokens // model.config.block_tokens,
        seconds=config.time_budget,
        confident_gap=config.confident_gap,
    )


class ContextMemory:
    """The last frames, as tokens, and the actions taken at them, for several environments."""

    def __init__(self, environments: int, frames: int, tokens_per_frame: int) -> None:
        """Make room for the last `frames` frames of each environment."""
        self._blocks = np.zeros((environments, frames, tokens_per_frame + 1), dtype=np.int64)
        self._count = np.zeros(environments, dtype=np.int64)

    def forget(self, environment: int) -> None:
        """Empty an environment's memory."""
        self._count[environment] = 0

    def see(self, environments: Sequence[int], tokens: Int[np.ndarray, "E K"]) -> None:
        """Add a frame in each environment; a full memory drops its oldest frame and action."""
        for environment, frame in zip(environments, tokens, strict=True):
            if self._count[environment] == self._blocks.shape[1]:
                self._blocks[environment] = np.roll(self._blocks[environment], -1, axis=0)
                self._count[environment] -= 1
            self._blocks[environment, self._count[environment], :-1] = frame
            self._count[environment] += 1

    def do(self, environments: Sequence[int], actions: Int[np.ndarray, " E"]) -> None:
        """Note the action taken at the newest frame of each environment."""
        self._blocks[environments, self._count[environments] - 1, -1] = actions

    def context(self, environments: Sequence[int]) -> tuple[Int[np.ndarray, "E T"], Int[np.ndarray, " E"]]:
        """Tokens of each environment, zeros behind, and their number; the last block has no action."""
        block_tokens = self._blocks.shape[2]
        length = self._count[environments] * block_tokens - 1
        tokens = rearrange(self._blocks[environments], "E n k -> E (n k)")[:, : length.max()]
        return np.where(np.arange(tokens.shape[1]) < length[:, None], tokens, 0), length


def check_acting(config: ActingConfig, game: Game, tokenizer: Tokenizer, model: WorldActionModel) -> None:
    """Refuse settings that a game or a model cannot do.

    Raises:
        UserError: a beam wider than the game's legal actions, a horizon that leaves no room for a
            real frame, or a tokenizer that belongs to another model.
    """
    legal, blocks = len(game.legal_actions), model.config.max_blocks
    if config.planner == "beam" and config.beam_width > legal:
        raise UserError(
            f"beam_width is {config.beam_width}, but {game.name} has {legal} legal actions; "
            f"use at most {legal}"
        )
    if config.steps_ahead >= blocks:
        raise UserError(
            f"horizon is {config.horizon}, but the model's context is {blocks} frames, one of which "
            f"must be real; use at most {blocks - 1}"
        )
    if game.task_id >= model.config.num_tasks:
        raise UserError(
            f"{game.name} is task {game.task_id}, but this model knows tasks up to "
            f"{model.config.num_tasks - 1}; use a checkpoint trained for it"
        )
    made = (tokenizer.config.tokens_per_frame, tokenizer.config.vocab_size)
    read = (model.config.tokens_per_frame, model.config.vocab_size)
    if made != read:
        raise UserError(
            f"the tokenizer makes {made[0]} tokens a frame out of {made[1]}, the model reads {read[0]} "
            f"out of {read[1]}; use the tokenizer that the model was trained with"
        )
