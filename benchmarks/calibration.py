"""How far a trained model may be believed: Q against what was earned, imagined steps against real ones.

    python -m benchmarks.calibration --checkpoint runs/breakout --data breakout.h5

From moments of held-out play it repeats the recorded actions in imagination and compares, step by step, what
the model says with what happened. Planning by values pays where the values of different actions differ by
more than imagination errs; both are measured here. Prints a table in markdown and draws a picture.

Letters: N moments, C real frames of a context, H imagined steps, K tokens a frame, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.figure import Figure

from datasets.errors import UserError, run_command
from datasets.files import replace_file
from datasets.games import Game, find_game
from datasets.segments import discounted_returns, held_out_mask
from datasets.store import EpisodeStore
from planning.model import Evaluation
from world_model.checkpoint import load_checkpoint
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.tokenizer import Tokenizer

BINS = 10
"""Groups of equal size that moments are sorted into by their Q."""
CHUNK = 250
"""Moments that are imagined at once."""


@dataclass(frozen=True)
class CalibrationConfig:
    """Compare what a model says with what happened in held-out play."""

    checkpoint: Path
    """A run or a checkpoint."""
    data: Path
    """A store of one game."""
    moments: int = 2000
    """Moments to look at, drawn from all held-out episodes."""
    horizon: int = 3
    """Steps to imagine from each; the context has as many real frames as leave room for them."""
    held_out_fraction: float = 0.05
    """Share of the episodes that was kept aside in training."""
    seed: int = 0
    """Of the draw."""
    out: Path = Path("calibration.png")
    """Picture to write."""


@dataclass(frozen=True)
class Play:
    """N stretches of recorded play: C frames of context, and the H steps after them."""

    frames: UInt8[np.ndarray, "N C+H 84 84"]
    """Frames."""
    actions: Int[np.ndarray, "N C+H"]
    """Actions taken at them."""
    rewards: Float[np.ndarray, "N C+H"]
    """Signs of the rewards received for them."""
    returns: Float[np.ndarray, " N"]
    """Discounted return of the recorded play from the last frame of the context on."""


@dataclass(frozen=True)
class Found:
    """What the model said and what happened, for N moments."""

    q_taken: Float[np.ndarray, " N"]
    """Q of the action taken at the last real frame."""
    returns: Float[np.ndarray, " N"]
    """What play earned from there on."""
    said_reward: Float[np.ndarray, "N H"]
    """Reward that was imagined."""
    reward: Float[np.ndarray, "N H"]
    """Reward that came."""
    changed: Int[np.ndarray, "N H"]
    """Tokens that differ from those of the last real frame."""
    changed_right: Int[np.ndarray, "N H"]
    """Those among them that were imagined right."""
    value_error: Float[np.ndarray, "N H"]
    """Value of the imagined state less the value that the same head gives the real one."""
    root_spread: Float[np.ndarray, " N"]
    """Standard deviation of Q over the legal actions of the last real frame."""
    spread: Float[np.ndarray, " N"]
    """Standard deviation, over the first actions, of the value one imagined step later."""


def main() -> None:
    """Measure, print and draw."""
    config = tyro.cli(CalibrationConfig, description=__doc__)
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(config.checkpoint)
    if checkpoint.model is None:
        raise UserError(f"{config.checkpoint}: holds a tokenizer only; train its world part first")
    blocks = checkpoint.model.config.max_blocks
    if not 1 <= config.horizon < blocks:
        raise UserError(
            f"horizon is {config.horizon}; the model's context of {blocks} frames has room for 1 to "
            f"{blocks - 1} imagined steps"
        )
    store = EpisodeStore(config.data)
    if len(store.games) != 1:
        raise UserError(f"{config.data}: holds {', '.join(store.games)}; give a store of one game")
    discount = float(checkpoint.training["loss"]["discount"])
    play = draw_play(store, config, blocks, discount)
    model = WorldActionPlanningModel(checkpoint.model, discount=discount)
    found = measure(model, checkpoint.tokenizer, find_game(store.games[0]), play, config.horizon)
    print(
        f"{store.games[0]}, {len(found.returns)} moments of held-out play, content {store.content_id[:12]}\n"
    )
    print(table(found))
    draw(found, store.games[0], config.out)
    print(f"\nwritten: {config.out}")


def draw_play(store: EpisodeStore, config: CalibrationConfig, length: int, discount: float) -> Play:
    """Stretches of `length` frames from held-out episodes, none of which reaches an end.

    Raises:
        UserError: no held-out episode is long enough.
    """
    games = [info.game for info in store.episodes]
    aside = held_out_mask([info.digest for info in store.episodes], games, config.held_out_fraction)
    infos = [info for info, out in zip(store.episodes, aside, strict=True) if out and info.length > length]
    if not infos:
        raise UserError(
            f"{config.data}: no held-out episode has more than {length} steps; raise --held-out-fraction"
        )
    starts = np.concatenate([np.arange(info.length - length) for info in infos])
    episode = np.repeat(np.arange(len(infos)), [info.length - length for info in infos])
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.permutation(len(starts))[: config.moments])
    frames, actions, rewards, returns = [], [], [], []
    for index in np.unique(episode[chosen]):
        info = infos[index]
        seen, done = store.frames(info.key), store.actions(info.key).astype(np.int64)
        earned = np.sign(store.rewards(info.key))
        to_come = discounted_returns(earned, discount)
        for start in starts[chosen[episode[chosen] == index]]:
            frames.append(seen[start : start + length])
            actions.append(done[start : start + length])
            rewards.append(earned[start : start + length])
            returns.append(to_come[start + length - config.horizon - 1])
    return Play(np.stack(frames), np.stack(actions), np.stack(rewards), np.array(returns))


def measure(
    model: WorldActionPlanningModel, tokenizer: Tokenizer, game: Game, play: Play, horizon: int
) -> Found:
    """Imagine what was played, and ask for values of imagined and of real frames."""
    parts = []
    for start in range(0, len(play.returns), CHUNK):
        rows = slice(start, start + CHUNK)
        part = Play(play.frames[rows], play.actions[rows], play.rewards[rows], play.returns[rows])
        parts.append(_measure(model, tokenizer, game, part, horizon))
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in Found.__dataclass_fields__)
    return Found(*joined)


@torch.inference_mode()
def _measure(
    model: WorldActionPlanningModel, tokenizer: Tokenizer, game: Game, play: Play, horizon: int
) -> Found:
    moments, length = play.actions.shape
    context = length - horizon
    pixels = torch.from_numpy(play.frames).flatten(0, 1)
    tokens = tokenizer.encode(pixels, torch.full((len(pixels),), game.task_id))
    tokens = tokens.reshape(moments, length, -1).numpy()
    root = _root(model, game, tokens[:, :context], play.actions[:, :context])
    rows, now = np.arange(moments), context - 1
    legal = np.flatnonzero(game.legal_mask)
    nodes = np.tile(root.node, len(legal))
    after = model.step(nodes, np.repeat(legal, moments)).value.reshape(len(legal), moments)
    said, said_tokens, said_value, node = [], [], [], root.node
    for step in range(horizon):
        evaluation = model.step(node, play.actions[:, now + step])
        node = evaluation.node
        said.append(evaluation.reward)
        said_tokens.append(model.observation_tokens(node))
        said_value.append(evaluation.value)
    real = [
        _root(
            model,
            game,
            tokens[:, step + 1 : context + step + 1],
            play.actions[:, step + 1 : context + step + 1],
        ).value
        for step in range(horizon)
    ]
    changed = tokens[:, context:] != tokens[:, [now]]
    right = changed & (np.stack(said_tokens, axis=1) == tokens[:, context:])
    return Found(
        q_taken=root.q_value[rows, play.actions[:, now]],
        returns=play.returns,
        said_reward=np.stack(said, axis=1),
        reward=play.rewards[:, now : now + horizon],
        changed=changed.sum(-1),
        changed_right=right.sum(-1),
        value_error=np.stack(said_value, axis=1) - np.stack(real, axis=1),
        root_spread=root.q_value[:, legal].std(axis=1),
        spread=after.std(axis=0),
    )


def _root(
    model: WorldActionPlanningModel,
    game: Game,
    tokens: Int[np.ndarray, "N C K"],
    actions: Int[np.ndarray, "N C"],
) -> Evaluation:
    """What the model says of the last of these frames."""
    blocks = np.concatenate([tokens, actions[..., None]], axis=-1).reshape(len(tokens), -1)[:, :-1]
    return model.root(
        TokenContext(
            tokens=torch.from_numpy(blocks),
            length=torch.full((len(blocks),), blocks.shape[1]),
            task_id=torch.full((len(blocks),), game.task_id),
            legal_mask=torch.from_numpy(game.legal_mask).expand(len(blocks), -1),
        )
    )


def table(found: Found) -> str:
    """Figures of each imagined step, and those of Q, in markdown."""
    lines = [
        "| imagined step | changed tokens right | rewards foreseen | foreseen ones that came | value error |",
        "|---|---|---|---|---|",
    ]
    errors = np.abs(found.value_error).mean(axis=0)
    for step, (right, foreseen, came) in enumerate(imagined_steps(found)):
        lines.append(f"| {step + 1} | {right:.2f} | {foreseen:.2f} | {came:.2f} | {errors[step]:.3f} |")
    correlation = np.corrcoef(found.q_taken, found.returns)[0, 1]
    lines += [
        "",
        f"Q of the action taken: mean {found.q_taken.mean():.3f}, mean return {found.returns.mean():.3f}, "
        f"correlation {correlation:.2f}.",
        f"Q differs between actions by {found.root_spread.mean():.3f} (standard deviation, mean), values one "
        f"imagined step later by {found.spread.mean():.3f}; imagination errs by {errors[0]:.3f} in them.",
    ]
    return "\n".join(lines)


def imagined_steps(found: Found) -> list[tuple[float, float, float]]:
    """Share of changed tokens imagined right, and what `rewards_found` tells, of each step."""
    right = found.changed_right.sum(axis=0) / np.maximum(1, found.changed.sum(axis=0))
    rewards = map(rewards_found, found.said_reward.T, found.reward.T)
    return [(share, *pair) for share, pair in zip(right.tolist(), rewards, strict=True)]


def rewards_found(said: Float[np.ndarray, " N"], came: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """Share of the rewards foreseen with their sign, and of those foreseen that came; NaN of none."""
    right: Bool[np.ndarray, " N"] = (said == came) & (came != 0)
    with np.errstate(invalid="ignore"):
        return float(right.sum() / np.sum(came != 0)), float(right.sum() / np.sum(said != 0))


def reliability(
    said: Float[np.ndarray, " N"], came: Float[np.ndarray, " N"]
) -> tuple[list[float], list[float], list[float]]:
    """Mean said, mean come and its standard error in groups of moments alike in what was said."""
    groups = np.array_split(np.argsort(said, kind="stable"), min(BINS, len(said)))
    means = [float(said[group].mean()) for group in groups]
    outcomes = [float(came[group].mean()) for group in groups]
    return means, outcomes, [float(came[group].std() / len(group) ** 0.5) for group in groups]


def draw(found: Found, game: str, out: Path) -> None:
    """Reliability of Q, what is left of an imagined frame, and values that differ against values that err."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    values, imagined, spreads = figure.subplots(1, 3)
    said, came, error = reliability(found.q_taken, found.returns)
    values.errorbar(said, came, yerr=1.96 * np.array(error), fmt="o", color="#1f77a8")
    ends = [min(said + came), max(said + came)]
    values.plot(ends, ends, color="gray", linestyle=":")
    values.set(xlabel="Q of the action taken", ylabel="discounted return that came", title="Calibration of Q")
    steps = np.arange(1, found.reward.shape[1] + 1)
    right, foreseen, fulfilled = zip(*imagined_steps(found), strict=True)
    imagined.plot(steps, right, "o-", label="changed tokens right")
    imagined.plot(steps, foreseen, "s-", label="rewards foreseen")
    imagined.plot(steps, fulfilled, "^-", label="foreseen rewards that came")
    imagined.set(xlabel="imagined step", ylim=(0, 1.02), xticks=steps, title="What imagination is worth")
    imagined.legend(frameon=False)
    names = ["differ between actions by", *(f"err at step {step} by" for step in steps)]
    sizes = [found.spread.mean(), *np.abs(found.value_error).mean(axis=0)]
    spreads.barh(names, sizes, color=["#1f77a8", *["#d66b3f"] * len(steps)])
    spreads.invert_yaxis()
    spreads.set(xlabel="value", title="Values of imagined states")
    figure.suptitle(game)
    with replace_file(out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    run_command(main)
