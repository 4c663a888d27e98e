"""The training loop of the search agent: play, look again, learn, save.

Everything random in an iteration is seeded by (seed, iteration), so a run that is killed and resumed
repeats the undisturbed run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents.search_agent.actors import play_round
from agents.search_agent.checkpoint import SearchCheckpoint, load_search_checkpoint, save_search_checkpoint
from agents.search_agent.demonstration import demonstrate
from agents.search_agent.games import SearchGame
from agents.search_agent.losses import search_loss
from agents.search_agent.memory_mapping import MemorySearchGame
from agents.search_agent.network import SearchNetwork, SearchNetworkConfig
from agents.search_agent.policy_play import play_policy
from agents.search_agent.replay import Replay
from agents.search_agent.self_play import Episode, choose, planning_model
from agents.search_agent.train_config import SearchTrainConfig
from datasets.errors import UserError
from datasets.executor import find_executor
from world_model.optimizer_state import optimizer_tensors, restore_optimizer

REANALYSED_AT_ONCE = 64
"""Positions of an episode that are searched in one batch."""


def train_search(
    config: SearchTrainConfig, games: Sequence[SearchGame], held_out: Sequence[SearchGame] = ()
) -> SearchNetwork:
    """Train on instances, one of them in each iteration, in turns; look now and then how others go.

    Raises:
        UserError: the run exists and is not resumed, a bad checkpoint, a non-finite loss, a full disk.
    """
    network, optimizer, replay, first = begin(config, games)
    last = config.iterations
    if config.max_iterations is not None:
        last = min(last, first + config.max_iterations)
    with SummaryWriter(str(config.run / "tensorboard"), purge_step=first) as writer:
        bar = tqdm(
            range(first, last), initial=first, total=config.iterations, unit="round", dynamic_ncols=True
        )
        for step in bar:
            started = time.perf_counter()
            place = game_of(step, len(games), config.seed)
            scalars = iterate(config, games, place, network, optimizer, replay, step)
            scalars["seconds"] = time.perf_counter() - started
            if step + 1 == last or (step + 1) % config.held_out_every == 0:
                scalars |= play_held_out(held_out, network)
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)
            bar.set_postfix(
                {"instance": games[place].name, "score": f"{scalars['play/best']:.4g}"}, refresh=False
            )
            if step + 1 == last or (step + 1) % config.save_every == 0:
                path = config.run / "checkpoints" / f"step_{step + 1:06d}.safetensors"
                save_search_checkpoint(path, snapshot(config, network, optimizer, replay, step + 1))
                for old in sorted(path.parent.glob("step_*.safetensors"))[:-2]:
                    old.unlink()
    if config.release is not None:
        # Whoever gets the file has no use for the folders of this machine.
        names = tuple(Path(instance).name for instance in config.instances)
        shared = replace(config, run=Path(config.run.name), instances=names, from_checkpoint=None)
        whole = snapshot(shared, network, optimizer, replay, last)
        save_search_checkpoint(config.release, replace(whole, optimizer={}, replay={}))
    return network


def begin(
    config: SearchTrainConfig, games: Sequence[SearchGame]
) -> tuple[SearchNetwork, torch.optim.AdamW, Replay, int]:
    """Network, optimiser, replay and first iteration: fresh, resumed, or from another run's network."""
    replay = Replay(config.replay_positions)
    held = sorted((config.run / "checkpoints").glob("step_*.safetensors"))
    if held and not config.resume:
        raise UserError(f"{config.run}: already holds {held[-1].name}; add --resume or give another --run")
    source = config.run if config.resume else config.from_checkpoint
    loaded = load_search_checkpoint(source) if source is not None else None
    if loaded is not None and loaded.game != config.game:
        raise UserError(f"{source}: its network plays {loaded.game}, not {config.game}; give another one")
    network = fresh_network(config, games[0]) if loaded is None else loaded.network
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    if loaded is None or not config.resume:
        return network, optimizer, replay, 0
    restore_optimizer(optimizer, network, loaded.optimizer)
    replay.restore(loaded.replay)
    return network, optimizer, replay, loaded.step


def fresh_network(config: SearchTrainConfig, game: SearchGame) -> SearchNetwork:
    """A network that fits a game, its weights drawn from the seed."""
    seen = game.observe(game.start(1))
    torch.manual_seed(config.seed)
    low, high = game.return_range
    return SearchNetwork(
        SearchNetworkConfig(
            overall_features=seen.overall.shape[-1],
            action_features=seen.actions.shape[-1],
            context_features=seen.context.shape[-1],
            width=config.width,
            value_min=low,
            value_max=high,
        )
    )


def game_of(step: int, count: int, seed: int) -> int:
    """The instance of an iteration: all of them in a random order, then again in another."""
    order = np.random.default_rng((seed, step // count)).permutation(count)
    return int(order[step % count])


def iterate(
    config: SearchTrainConfig,
    games: Sequence[SearchGame],
    place: int,
    network: SearchNetwork,
    optimizer: torch.optim.Optimizer,
    replay: Replay,
    step: int,
) -> dict[str, float]:
    """Play one instance, search some old games again, learn; what came of it, for a log."""
    network.eval()
    seed = int(np.random.SeedSequence((config.seed, step)).generate_state(1)[0])
    game = games[place]
    if step < config.demonstrations:
        assert isinstance(game, MemorySearchGame), "only this game has demonstrations"
        episodes = [demonstrate(game, network, seed)]
    else:
        executor = find_executor(config.workers, config.ray)
        count = config.games_per_iteration
        episodes = play_round(executor, game, network, config.play, count=count, seed=seed)
    replay.add(place, episodes)
    for number, held, episode in replay.oldest(config.reanalysed, first=step * config.reanalysed):
        replay.renew(number, reanalyse(games[held], network, config, episode, seed))
    scores = [game.score(episode.total) for episode in episodes]
    scalars = {
        "play/return": float(np.mean([episode.total for episode in episodes])),
        "play/best": float(np.min(scores)),
        "replay/positions": float(len(replay)),
    }
    return scalars | learn(config, network, optimizer, replay, step)


def play_held_out(games: Sequence[SearchGame], network: SearchNetwork) -> dict[str, float]:
    """Scores of the likeliest moves on instances that are not learned from, and their mean."""
    network.eval()
    scores = {}
    for game in games:
        (_, total) = play_policy(game, network, [0.0], seed=0)[0]
        scores[f"held_out/{game.name}"] = game.score(total)
    return scores | {"held_out/mean": float(np.mean(list(scores.values())))} if scores else {}


def reanalyse(
    game: SearchGame, network: SearchNetwork, config: SearchTrainConfig, episode: Episode, seed: int
) -> np.ndarray:
    """The improved policy of the network as it is now at each position of an older game, [T, A]."""
    line = [game.start(1)]
    for action in episode.actions[:-1]:
        line.append(game.step(line[-1], np.array([action]))[0])
    positions = np.concatenate(line)
    model = planning_model(game, network, config.play)
    parts = []
    for start in range(0, len(positions), REANALYSED_AT_ONCE):
        here = positions[start : start + REANALYSED_AT_ONCE]
        seeds = seed + start + np.arange(len(here), dtype=np.int64)
        parts.append(choose(game, model, here, config.play, seeds)[1])
    return np.concatenate(parts)


def learn(
    config: SearchTrainConfig,
    network: SearchNetwork,
    optimizer: torch.optim.Optimizer,
    replay: Replay,
    step: int,
) -> dict[str, float]:
    """The optimisation steps of an iteration; means of their losses.

    Raises:
        UserError: a loss is not finite.
    """
    network.train()
    random = np.random.default_rng((config.seed, step, 1))
    rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.iterations))
    for group in optimizer.param_groups:
        group["lr"] = rate
    found = []
    for _ in range(config.steps_per_iteration):
        loss = search_loss(network, replay.sample(config.batch_size, config.unroll, random))
        if not math.isfinite(loss.total.item()):
            raise UserError(
                f"iteration {step}: the loss is not finite; earlier checkpoints are kept, start again "
                "--from the last one with a lower learning rate"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        found.append([loss.policy.item(), loss.value.item(), loss.reward.item(), loss.value_error.item()])
    means = np.mean(found, axis=0) if found else np.zeros(4)
    names = ("loss/policy", "loss/value", "loss/reward", "loss/value_error")
    return dict(zip(names, means.tolist(), strict=True)) | {"learning_rate": rate}


def snapshot(
    config: SearchTrainConfig,
    network: SearchNetwork,
    optimizer: torch.optim.Optimizer,
    replay: Replay,
    step: int,
) -> SearchCheckpoint:
    """Everything that going on takes."""
    training = replace(config, resume=False, max_iterations=None, release=None).to_json()
    return SearchCheckpoint(
        network, config.game, step, training, optimizer_tensors(optimizer, network), replay.arrays()
    )
