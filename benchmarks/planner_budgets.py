"""Return against the cost of planning: fixed budgets, and planning only where the Q-values are close.

    python -m benchmarks.planner_budgets --checkpoint RUN --game Freeway

Plays the same episodes with every setting, all environments in one batch, and prints what a decision costs
and what an episode returns. `make demo` trains an agent to give to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
import tyro

from agents.acting import ActingConfig, Agent
from agents.report import text_table
from agents.rollout import AgentPlayer, RolloutConfig, play_episodes
from benchmarks.planner_report import FOLDER, machine, put_section
from datasets.errors import UserError, run_command
from datasets.files import replace_file
from datasets.games import find_game
from world_model.checkpoint import load_checkpoint


@dataclass(frozen=True)
class BudgetBenchmark:
    """Play under budgets."""

    checkpoint: Path
    """A run, or one checkpoint of it."""
    game: str
    """Game that it plays."""
    episodes: int = 16
    """Episodes of each setting, all at once."""
    max_decisions: int = 300
    """Length at which episodes are cut."""
    token_budgets: tuple[int, ...] = (74, 148)
    """Fixed budgets in imagined tokens, at width 4 and horizon 2."""
    confident_gaps: tuple[float, ...] = (0.01, 0.02, 0.05)
    """Leads in Q from which on nothing is planned, at width 2 and horizon 2."""
    seed: int = 0
    """Of episodes and agents."""
    write: bool = False
    """Write planner_budgets.png and the section of RESULTS.md."""


def main() -> None:
    """Play, print, and write if asked."""
    config = tyro.cli(BudgetBenchmark, description=__doc__)
    torch.set_num_threads(1)
    settings = acting_settings(config)
    figures = [play(config, acting) for acting in settings.values()]
    columns = ["planner", "CPU ms a decision", "tokens a decision", "mean return", "standard error"]
    rows = [
        [name, f"{cost:.1f}", f"{tokens:.0f}", f"{scores.mean():.2f}", f"{error_of(scores):.2f}"]
        for name, (cost, tokens, scores) in zip(settings, figures, strict=True)
    ]
    print(text_table(columns, rows))
    if not config.write:
        return
    draw(list(settings), figures, FOLDER / "planner_budgets.png")
    table = "\n".join("| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows])
    put_section(
        "## Planning budgets",
        "planner budgets",
        f"{config.game}, {config.episodes} episodes of at most {config.max_decisions} decisions, the same "
        f"for every setting; {machine()}, one thread.\n\n{table}\n\n"
        "![return against cost](planner_budgets.png)\n",
    )


def acting_settings(config: BudgetBenchmark) -> dict[str, ActingConfig]:
    """What is compared."""
    narrow = ActingConfig(beam_width=2, horizon=2, trace_decay=1.0)
    wide = replace(narrow, beam_width=min(4, len(find_game(config.game).legal_actions)))
    settings = {"no planning": replace(narrow, planner="greedy"), "2 x 2": narrow}
    for tokens in config.token_budgets:
        settings[f"{wide.beam_width} x 2, {tokens} tokens"] = replace(wide, token_budget=tokens)
    settings[f"{wide.beam_width} x 2"] = wide
    for gap in config.confident_gaps:
        settings[f"2 x 2 where the lead is below {gap:g}"] = replace(narrow, confident_gap=gap)
    return settings


def play(config: BudgetBenchmark, acting: ActingConfig) -> tuple[float, float, np.ndarray]:
    """CPU milliseconds and imagined tokens of a decision, and the returns."""
    game = find_game(config.game)
    checkpoint = load_checkpoint(config.checkpoint)
    if checkpoint.model is None:
        raise UserError(f"{config.checkpoint} holds no world-action model yet")
    model, tokenizer = checkpoint.model.eval(), checkpoint.tokenizer.eval()
    agent = Agent(tokenizer, model, game, acting, environments=config.episodes, seed=config.seed)
    player = CountingPlayer(agent)
    rollout = RolloutConfig(
        episodes=config.episodes, envs=config.episodes, max_decisions=config.max_decisions
    )
    results = play_episodes(player, game, rollout, seed=config.seed, label=game.name)
    block = model.config.block_tokens
    scores = np.array([result.score for result in results])
    return 1000 * player.seconds / player.decisions, block * player.nodes / player.decisions, scores


class CountingPlayer(AgentPlayer):
    """An agent whose decisions, nodes and CPU time are counted."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.seconds, self.decisions, self.nodes = 0.0, 0, 0
        act = agent.act

        def counted(frames: np.ndarray, environments: list[int]):
            started = time.process_time()
            decision = act(frames, environments)
            self.seconds += time.process_time() - started
            self.decisions += len(frames)
            self.nodes += int((decision.search.tree.num_nodes - 1).sum())
            return decision

        agent.act = counted  # type: ignore[method-assign]


def error_of(scores: np.ndarray) -> float:
    """Standard error of the mean."""
    return float(scores.std(ddof=1) / len(scores) ** 0.5)


def draw(names: list[str], figures: list[tuple[float, float, np.ndarray]], path: Path) -> None:
    """Return with its standard error against cost."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, (cost, _, scores) in zip(names, figures, strict=True):
        axes.errorbar(cost, scores.mean(), error_of(scores), fmt="o", capsize=3, label=name)
    axes.set_xlabel("CPU milliseconds a decision")
    axes.set_ylabel("return")
    axes.legend(fontsize=7)
    with replace_file(path) as beside:
        figure.savefig(beside, format="png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    run_command(main)
