"""What else a user would train on the same play: a Nature-CNN by cloning or conservative Q-learning.

Both are tianshou's (extra `baselines`), on stacks of the last four frames and the signs of the rewards.
Cloning, of all episodes or of the best alone, keeps the weights of the lowest held-out loss; conservative
Q-learning has none and keeps the last.

Letters: E environments acting now, N frames.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, UInt8
from safetensors.torch import load_file, save_file

from agents.acting import explore
from agents.rollout import Seat
from datasets.errors import UserError
from datasets.files import replace_file
from datasets.games import Game, find_game
from datasets.segments import best_mask, held_out_mask
from datasets.store import EpisodeStore

STACK = 4
BATCH = 32
QUANTILES = 51
"""Of the distributions that conservative Q-learning predicts, as many as our Q head has atoms."""
HELD_OUT_FRAMES = 2048
LOOKS = 20
"""Times that held-out losses are measured in a training."""

Baseline = Literal["clone", "clone the best", "conservative"]


@dataclass(frozen=True)
class BaselineConfig:
    """How a baseline is trained."""

    kind: Baseline
    """Behaviour cloning, of all episodes or of the best, or CQL on quantile regression DQN."""
    store: Path
    """What it learns from."""
    steps: int
    """Gradient steps of 32 transitions."""
    discount: float = 0.99
    """Of conservative Q-learning."""
    penalty_weight: float = 1.0
    """Of its conservative penalty."""
    learning_rate: float = 3e-4
    """Of Adam."""
    held_out_fraction: float = 0.05
    """Share of episodes kept aside; the same ones as `train.py` keeps."""
    best_share: float = 0.5
    """Share of the steps that the best episodes hold, where those alone are cloned."""
    seed: int = 0
    """Of weights and batches."""


def train_baseline(config: BaselineConfig, out: Path) -> None:
    """Train and write the weights to `out`, and the curve of losses to the JSON file beside it.

    Raises:
        UserError: tianshou is not installed, or the store cannot be read.
    """
    library = _library()
    store = EpisodeStore(config.store)
    game = find_game(store.games[0])
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002  tianshou draws its batches from the global generator
    algorithm = _algorithm(config, game)
    held_out = held_out_mask([e.digest for e in store.episodes], [e.game for e in store.episodes],
                             config.held_out_fraction)  # fmt: skip
    chosen = ~held_out
    if config.kind == "clone the best":
        chosen, held_out = (_best(store, part, config.best_share) for part in (chosen, held_out))
    buffer = _replay(store, game, chosen)
    aside = _replay(store, game, held_out) if held_out.any() else None
    started, curve, lowest = time.process_time(), [], float("inf")
    kept = _weights(algorithm)
    with library.utils.torch_utils.policy_within_training_step(algorithm.policy):
        for step in range(1, config.steps + 1):
            statistics = algorithm.update(buffer=buffer, sample_size=BATCH)
            if step % max(1, config.steps // LOOKS) == 0 or step == config.steps:
                loss = _imitation_loss(algorithm, aside) if aside is not None else float("nan")
                curve.append(
                    {
                        "step": step,
                        "cpu_minutes": (time.process_time() - started) / 60,
                        "training_loss": float(statistics.loss),
                        "held_out_imitation_loss": loss,
                    }
                )
                if config.kind == "conservative" or not loss >= lowest:
                    lowest, kept = loss, _weights(algorithm)
    with replace_file(out) as temporary:
        save_file(kept, temporary)
    with replace_file(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(curve, indent=1))


class BaselinePlayer:
    """Plays greedily by the weights that `train_baseline` wrote, but for a share of random actions."""

    def __init__(
        self, config: BaselineConfig, weights: Path, game: Game, *, epsilon: float, seed: int
    ) -> None:
        """Let a baseline play.

        Args:
            config: how it was trained.
            weights: what that wrote.
            game: what it plays.
            epsilon: probability of a random legal action.
            seed: with an episode's index, decides the random actions of that episode.
        """
        policy = _algorithm(config, game).policy
        policy.load_state_dict(load_file(weights))
        self._policy, self._game, self._epsilon, self._seed = policy.eval(), game, epsilon, seed
        self._frames: dict[int, deque[np.ndarray]] = {}
        self._chance: dict[int, np.random.Generator] = {}

    def begin(self, seat: Seat) -> None:
        """Forget the last episode; its first frame stands for those before it."""
        first = self.seen([seat])[0]
        self._frames[seat.environment] = deque([first] * STACK, maxlen=STACK)
        self._chance[seat.environment] = np.random.default_rng([self._seed, seat.episode])

    @torch.inference_mode()
    def act(self, seats: Sequence[Seat]) -> Int[np.ndarray, " E"]:
        """The action of highest value in each seat."""
        for seat, frame in zip(seats, self.seen(seats), strict=True):
            self._frames[seat.environment].append(frame)
        frames = np.stack([np.stack(self._frames[seat.environment]) for seat in seats])
        places = np.asarray(self._policy(_batch(frames)).act)
        legal = self._game.legal_actions
        actions = np.array([legal[int(place)] for place in places])
        generators = [self._chance[seat.environment] for seat in seats]
        is_random, chance = explore(generators, self._game, self._epsilon)
        return np.where(is_random, chance, actions)

    def seen(self, seats: Sequence[Seat]) -> UInt8[np.ndarray, "E 84 84"]:
        """What it sees of each seat: the frame that the game shows."""
        return np.stack([seat.emulator.frame for seat in seats])


def _best(store: EpisodeStore, chosen: np.ndarray, share: float) -> np.ndarray:
    """The best of the chosen episodes; the same ones as `train.py` takes."""
    scores = np.array([info.total_reward for info in store.episodes])
    sizes = np.where(chosen, [info.length for info in store.episodes], 0)
    return best_mask(scores, sizes, [info.game for info in store.episodes], share)


def _library() -> Any:
    try:
        import tianshou
        import tianshou.utils.torch_utils
    except ImportError as error:
        raise UserError(
            'the baselines are tianshou\'s, which is not installed; run pip install -e ".[baselines]"'
        ) from error
    return tianshou


def _algorithm(config: BaselineConfig, game: Game) -> Any:
    """The algorithm with fresh weights; observations are uint8, scaled where the network takes them in."""
    _library()
    import gymnasium
    from tianshou.algorithm.imitation.discrete_cql import DiscreteCQL
    from tianshou.algorithm.imitation.imitation_base import ImitationPolicy, OfflineImitationLearning
    from tianshou.algorithm.modelfree.qrdqn import QRDQNPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.env.atari.atari_network import DQNet, QRDQNet, ScaledObsInputActionReprNet

    actions = len(game.legal_actions)
    space = gymnasium.spaces.Discrete(actions)
    optimizer = AdamOptimizerFactory(lr=config.learning_rate)
    if config.kind != "conservative":
        actor = ScaledObsInputActionReprNet(DQNet(c=STACK, h=84, w=84, action_shape=actions))
        return OfflineImitationLearning(
            policy=ImitationPolicy(actor=actor, action_space=space), optim=optimizer
        )
    network = ScaledObsInputActionReprNet(
        QRDQNet(c=STACK, h=84, w=84, action_shape=actions, num_quantiles=QUANTILES)
    )
    return DiscreteCQL(
        policy=QRDQNPolicy(model=network, action_space=space),
        optim=optimizer,
        min_q_weight=config.penalty_weight,
        gamma=config.discount,
        num_quantiles=QUANTILES,
        target_update_freq=500,
    )


def _replay(store: EpisodeStore, game: Game, chosen: np.ndarray) -> Any:
    """Episodes of a store as tianshou's replay buffer, which stacks frames when it is asked for them."""
    from tianshou.data import Batch, ReplayBuffer

    place = {action: index for index, action in enumerate(game.legal_actions)}
    infos = [info for info, wanted in zip(store.episodes, chosen, strict=True) if wanted]
    buffer = ReplayBuffer(
        sum(info.length for info in infos), stack_num=STACK, ignore_obs_next=True, save_only_last_obs=False
    )
    for info in infos:
        columns = zip(
            store.frames(info.key), store.actions(info.key), np.sign(store.rewards(info.key)), strict=True
        )
        for step, (frame, action, reward) in enumerate(columns):
            is_last = step + 1 == info.length
            buffer.add(
                Batch(
                    obs=frame,
                    act=place[int(action)],
                    rew=float(reward),
                    terminated=is_last and info.ended,
                    truncated=is_last and not info.ended,
                    obs_next=frame,
                    info={},
                )
            )
    return buffer


def _batch(frames: np.ndarray) -> Any:
    from tianshou.data import Batch

    return Batch(obs=frames, info=Batch())


@torch.no_grad()
def _imitation_loss(algorithm: Any, buffer: Any) -> float:
    """Cross-entropy of the data's actions by a softmax of logits or values, on frames all over a buffer."""
    rows = np.linspace(0, len(buffer) - 1, min(len(buffer), HELD_OUT_FRAMES)).astype(int)
    batch = buffer[rows]
    policy = algorithm.policy.eval()
    out = policy(_batch(batch.obs)).logits
    logits = out if out.ndim == 2 else out.mean(-1)
    actions = torch.as_tensor(batch.act, dtype=torch.int64)
    return float(torch.nn.functional.cross_entropy(logits, actions))


def _weights(algorithm: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone().contiguous() for name, tensor in algorithm.policy.state_dict().items()}
