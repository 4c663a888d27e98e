"""What limits planning: the imagined frames or the values read off them. Beams in a model that never errs.

    python -m benchmarks.perfect_model --checkpoint runs/breakout --game Breakout

The same beam search with the same Q head plans in clones of the emulator in place of imagined frames. Where
that scores more than the greedy agent, a better world model would pay; where it does not, the values are at
fault, and no world model would help. Such players look into the future of the game they play, so they are a
bound and no agents.

Letters: E environments acting now, M nodes, K tokens a frame, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Int
from torch import Tensor

from agents.acting import ActingConfig, ContextMemory, explore
from agents.evaluate import EvaluateConfig, evaluate
from agents.metrics import summarise
from agents.report import format_estimate
from agents.rollout import RolloutConfig, Seat, play_episodes
from datasets.atari import AtariEmulator, EmulatorState
from datasets.errors import UserError, run_command
from datasets.games import Game, find_game
from planning.beam import beam_search
from planning.model import Evaluation
from world_model.checkpoint import load_checkpoint
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel


@dataclass(frozen=True)
class PerfectModelConfig:
    """Compare beams in imagined frames with beams in the game itself."""

    checkpoint: Path
    """A run or a checkpoint."""
    game: str
    """Game to play."""
    beams: tuple[str, ...] = ("2x2", "4x4")
    """Widths and horizons."""
    decays: tuple[float, ...] = (1.0, 0.5)
    """Trace decays of each of them."""
    episodes: int = 8
    """Games of each player, side by side."""
    max_decisions: int = 1000
    """Decisions after which a game is cut short."""
    epsilon: float = 0.02
    """Share of random actions."""
    seed: int = 0
    """Of no-ops and random actions."""


@dataclass(frozen=True)
class Moment:
    """A state of the game as the model and the emulator know it."""

    blocks: tuple[tuple[Int[np.ndarray, " K"], int], ...]
    """Frames and the actions taken at them, the oldest first; the last action is not chosen yet."""
    emulator: EmulatorState
    """Where the game goes on."""


class EmulatorPlanningModel:
    """States are moments of the game itself; their values are what the Q head says of their true frames."""

    def __init__(
        self, model: WorldActionModel, tokenizer: Tokenizer, game: Game, *, frames: int, discount: float
    ) -> None:
        """Plan in a game.

        Args:
            model: in evaluation mode; only its Q head is asked.
            tokenizer: of the model.
            game: the game.
            frames: the longest context that the model is given.
            discount: factor on the future at each step.
        """
        self._values = WorldActionPlanningModel(model, discount=discount)
        self._tokenizer, self._game, self._frames, self._discount = tokenizer, game, frames, discount
        self._simulator = AtariEmulator(game, seed=0)
        self._moments: list[Moment] = []

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self._values.num_actions

    def root(self, observation: Sequence[Moment]) -> Evaluation:
        """Start from moments of games in play."""
        self._moments = []
        zeros = np.zeros(len(observation))
        return self._reached(list(observation), zeros, np.ones_like(zeros))

    def step(self, parent: Int[np.ndarray, " M"], action: Int[np.ndarray, " M"]) -> Evaluation:
        """Play each action from its parent."""
        found = []
        for node, one in zip(parent, action, strict=True):
            self._simulator.restore(self._moments[node].emulator)
            found.append((self._simulator.step(int(one)), self._simulator.clone()))
        tokens = encode(self._tokenizer, self._game, [result.frame for result, _ in found])
        moments = [
            Moment(followed(self._moments[node].blocks, int(one), new, self._frames), state)
            for node, one, new, (_, state) in zip(parent, action, tokens, found, strict=True)
        ]
        reward = np.sign([result.reward for result, _ in found])
        discount = np.array([0.0 if result.ended else self._discount for result, _ in found])
        return self._reached(moments, reward, discount)

    def _reached(self, moments: list[Moment], reward: np.ndarray, discount: np.ndarray) -> Evaluation:
        node = np.arange(len(self._moments), len(self._moments) + len(moments))
        self._moments += moments
        said = self._values.root(as_context([moment.blocks for moment in moments], self._game))
        return replace(said, node=node, reward=reward, discount=discount)


class PerfectModelPlayer:
    """Plays by beam search in an `EmulatorPlanningModel`."""

    def __init__(
        self, model: EmulatorPlanningModel, tokenizer: Tokenizer, game: Game, acting: ActingConfig, seed: int
    ) -> None:
        """Make a player.

        Args:
            model: where it plans.
            tokenizer: of the world-action model.
            game: what it plays.
            acting: width, horizon, trace decay, context and epsilon.
            seed: with an episode's index, decides its random actions.
        """
        self._model, self._tokenizer, self._game, self._acting, self._seed = (
            model, tokenizer, game, acting, seed,
        )  # fmt: skip
        self._blocks: dict[int, tuple[tuple[np.ndarray, int], ...]] = {}
        self._chance: dict[int, np.random.Generator] = {}

    def begin(self, seat: Seat) -> None:
        """Forget the last episode."""
        self._blocks[seat.environment] = ()
        self._chance[seat.environment] = np.random.default_rng([self._seed, seat.episode])

    def act(self, seats: Sequence[Seat]) -> Int[np.ndarray, " E"]:
        """The first action of the best path in each seat."""
        acting = self._acting
        for seat, new in zip(
            seats, encode(self._tokenizer, self._game, [s.emulator.frame for s in seats]), strict=True
        ):
            blocks = self._blocks[seat.environment]
            last = blocks[-1][1] if blocks else 0
            self._blocks[seat.environment] = followed(blocks, last, new, acting.context_frames)
        moments = [Moment(self._blocks[seat.environment], seat.emulator.clone()) for seat in seats]
        result = beam_search(
            self._model,
            moments,
            beam_width=acting.beam_width,
            horizon=acting.horizon,
            trace_decay=acting.trace_decay,
        )
        generators = [self._chance[seat.environment] for seat in seats]
        is_random, chance = explore(generators, self._game, acting.epsilon)
        actions = np.where(is_random, chance, result.action)
        for seat, action in zip(seats, actions, strict=True):
            *before, (frame, _) = self._blocks[seat.environment]
            self._blocks[seat.environment] = (*before, (frame, int(action)))
        return actions


def followed(
    blocks: tuple[tuple[np.ndarray, int], ...], action: int, frame: Int[np.ndarray, " K"], longest: int
) -> tuple[tuple[np.ndarray, int], ...]:
    """A context in which `action` was taken and `frame` came of it, cut to its last frames."""
    taken = (*blocks[:-1], (blocks[-1][0], action)) if blocks else ()
    return (*taken, (frame, 0))[-longest:]


@torch.inference_mode()
def encode(tokenizer: Tokenizer, game: Game, frames: Sequence[np.ndarray]) -> Int[np.ndarray, "M K"]:
    """Tokens of frames of one game."""
    pixels = torch.from_numpy(np.stack(frames))
    return tokenizer.encode(pixels, torch.full((len(frames),), game.task_id)).numpy()


def as_context(contexts: Sequence[tuple[tuple[np.ndarray, int], ...]], game: Game) -> TokenContext:
    """Contexts as the model reads them, by the agent's own memory."""
    longest = max(len(blocks) for blocks in contexts)
    memory = ContextMemory(len(contexts), longest, len(contexts[0][0][0]))
    for row, blocks in enumerate(contexts):
        for frame, action in blocks:
            memory.see([row], frame[None])
            memory.do([row], np.array([action]))
    tokens, length = memory.context(range(len(contexts)))
    legal_mask: Tensor = torch.from_numpy(game.legal_mask).expand(len(contexts), -1)
    task_id = torch.full((len(contexts),), game.task_id)
    return TokenContext(torch.from_numpy(tokens), torch.from_numpy(length), task_id, legal_mask)


def main() -> None:
    """Play with every planner and print a table in markdown."""
    config = tyro.cli(PerfectModelConfig, description=__doc__)
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(config.checkpoint)
    if checkpoint.model is None:
        raise UserError(f"{config.checkpoint}: holds a tokenizer only; train its world part first")
    game, model = find_game(config.game), checkpoint.model
    discount = float(checkpoint.training["loss"]["discount"])
    rollout = RolloutConfig(config.episodes, config.episodes, max_decisions=config.max_decisions)
    acting = ActingConfig(context_frames=model.config.max_blocks, epsilon=config.epsilon)
    print("| planner | in imagined frames | in the game itself |\n|---|---|---|")

    def imagined(how: ActingConfig) -> str:
        asked = EvaluateConfig(
            config.checkpoint, game.name, acting=how, rollout=rollout, seed=config.seed, device="cpu"
        )
        return scores([result.score for result in evaluate(asked).results])

    print(f"| greedy | {imagined(replace(acting, planner='greedy'))} | |", flush=True)
    for beam in config.beams:
        width, horizon = map(int, beam.split("x"))
        for decay in config.decays:
            how = replace(acting, beam_width=width, horizon=horizon, trace_decay=decay)
            truth = EmulatorPlanningModel(
                model, checkpoint.tokenizer, game, frames=how.context_frames, discount=discount
            )
            player = PerfectModelPlayer(truth, checkpoint.tokenizer, game, how, config.seed)
            played = play_episodes(player, game, rollout, seed=config.seed)
            cells = [f"beam {beam}, decay {decay:g}", imagined(how), scores([r.score for r in played])]
            print(f"| {' | '.join(cells)} |", flush=True)


def scores(found: Sequence[float]) -> str:
    """Mean score with its interval."""
    return format_estimate(summarise(np.array([found]), "mean"))


if __name__ == "__main__":
    run_command(main)
