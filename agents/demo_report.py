"""What the demo tells: the table in the terminal and the page, every word of them drawn from the figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from agents.demo_games import DemoGame
from agents.metrics import Estimate, summarise, summarise_difference
from agents.report import Report, chart_estimates, format_estimate, text_table
from world_model.run_log import loss_curves, read_metrics

CURVE_WINDOW = 50
"""Training losses of single batches hide their course; curves show means of so many steps."""

COLUMNS = ("player", "mean score [95% interval]", "games")


@dataclass(frozen=True, eq=False)
class PlayerOutcome:
    """How one player did in one game."""

    name: str
    """The player, in a word or two."""
    scores: Float[np.ndarray, "N"]
    """Score of each game it played."""
    video: Path | None = None
    """Its first game, if it was filmed."""
    decisions_per_second: float | None = None
    """How fast it decided."""

    @property
    def mean(self) -> Estimate:
        """Mean score and its 95% bootstrap interval."""
        return summarise(self.scores[None], "mean")


@dataclass(frozen=True, eq=False)
class GameOutcome:
    """What came of one game."""

    demo: DemoGame
    """Its recipe."""
    players: tuple[PlayerOutcome, ...]
    """Random play, the data, the agent without planning, the agent with planning."""
    steps_of_data: int
    """Decisions that it learned from."""
    run: Path
    """The training run."""
    folder: Path
    """Where its files are."""
    seconds: dict[str, float]
    """Time of each stage."""

    def player(self, name: str) -> PlayerOutcome:
        """The player of this name."""
        return next(player for player in self.players if player.name == name)


def print_outcomes(outcomes: Sequence[GameOutcome]) -> None:
    """The table and what it means, for the terminal."""
    for outcome in outcomes:
        print(f"\n{outcome.demo.game}, games of {outcome.demo.max_decisions} decisions")
        print(text_table(COLUMNS, table_rows(outcome)))
        print("\n".join(verdicts(outcome)))


def table_rows(outcome: GameOutcome) -> list[list[str]]:
    """One row a player."""
    return [
        [player.name, format_estimate(player.mean, 1), str(len(player.scores))] for player in outcome.players
    ]


def verdicts(outcome: GameOutcome) -> list[str]:
    """What the comparisons do and do not show, in sentences."""
    pairs = (("greedy", "the data"), ("planned", "the data"), ("planned", "greedy"))
    return [compare(outcome.player(first), outcome.player(second)) for first, second in pairs]


def compare(first: PlayerOutcome, second: PlayerOutcome) -> str:
    """Whether the difference of two players is beyond chance, in a sentence."""
    difference = summarise_difference(first.scores, second.scores, "mean")
    figures = f"{first.name} against {second.name}: {format_estimate(difference, 1)} points"
    if difference.low is None or difference.high is None:
        return f"{figures}; too few games to say anything."
    if difference.low > 0:
        return f"{figures}; better, beyond what chance explains."
    if difference.high < 0:
        return f"{figures}; worse, beyond what chance explains."
    return f"{figures}; these games do not tell which is better."


def write_report(page: Path, outcomes: Sequence[GameOutcome], *, seconds: float, budget: float) -> None:
    """Write the page that shows everything.

    Args:
        page: where it goes; videos are linked from there.
        outcomes: one per game.
        seconds: time of the whole demo, of this invocation.
        budget: share of the usual budget that was spent.

    Raises:
        UserError: the page cannot be written.
    """
    report = Report("worldbeam: what a tiny world-action model learned from other players' games")
    report.text(
        "For each game below, imperfect players were recorded, a model of less than a million parameters "
        "was trained on these recordings alone (it never touched the game), and then it played new games: "
        "once taking the action its Q head likes best (greedy), once searching with the beam planner inside "
        "its own world model (planned)."
    )
    report.text(
        f"Everything took {seconds / 60:.1f} minutes on {os.cpu_count()} cores. Scores are means over games "
        "cut at a fixed length, with 95% bootstrap intervals over games; one training seed each."
    )
    if budget != 1.0:
        report.text(
            f"This was a rehearsal with {budget:g} of the usual budget: read nothing into the scores."
        )
    for outcome in outcomes:
        _add_game(report, page, outcome)
    report.heading("What this does not show")
    report.text(
        "One training seed says nothing of how much luck was in it. The games are short and not sticky, so "
        "the scores cannot be compared with published ones. The models are hundreds of times smaller than "
        "the published ones, and saw an hour of play instead of months."
    )
    report.write(page)


def _add_game(report: Report, page: Path, outcome: GameOutcome) -> None:
    demo = outcome.demo
    report.heading(demo.game)
    report.text(demo.question)
    times = ", ".join(f"{stage} {seconds / 60:.1f} min" for stage, seconds in outcome.seconds.items())
    report.text(f"Data: {outcome.steps_of_data:,} decisions of {demo.behaviour}. Time: {times}.")
    means = {player.name: player.mean for player in outcome.players}
    best = max(range(len(outcome.players)), key=lambda place: outcome.players[place].scores.mean())
    caption = f"{demo.game}, games of {demo.max_decisions} decisions."
    report.table(COLUMNS, table_rows(outcome), caption=caption, best=best)
    report.chart(chart_estimates(means, f"score in {demo.game}"), "Mean score; the bar is the 95% interval.")
    for sentence in verdicts(outcome):
        report.text(sentence[0].upper() + sentence[1:])
    for name, words in _PICTURES.items():
        picture = outcome.run / "images" / f"{name}.png"
        if picture.exists():
            report.image(iio.imread(picture), words)
    report.chart(_learning_curves(outcome.run), "Losses on the training batches and on held-out episodes.")
    for player in outcome.players:
        if player.video is not None:
            speed = f"{player.decisions_per_second:.0f} decisions/s over all games at once"
            report.video(os.path.relpath(player.video, page.parent), f"{demo.game}, {player.name}: {speed}.")


_PICTURES = {
    "tokenizer_reconstruction": "Held-out frames above, the same frames redrawn from their 36 tokens below.",
    "joint_imagination": "A held-out piece of play above; below, the model was shown its first half and "
    "imagined the second under the same actions.",
}


def _learning_curves(run: Path) -> Figure:
    """Training and held-out losses over the steps of the world-action model."""
    lines = [line for line in read_metrics(run) if line["phase"] != "tokenizer"]
    panels = {"loss/observation": "next token, nats", "loss/td": "Q target, nats"}
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        trained, aside = loss_curves(lines, name)
        for points, style, legend in (
            (_window_means(trained), {}, f"training, means of {CURVE_WINDOW} steps"),
            (aside, {"marker": "o"}, "held out"),
        ):
            if len(points):
                axes.plot(*np.array(points).T, label=legend, markersize=3, **style)
                axes.legend(frameon=False)
        axes.set(xlabel="step", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _window_means(points: Sequence[tuple[int, float]]) -> Float[np.ndarray, "N 2"]:
    """Means of consecutive windows of (step, loss); a rest that fills no window is left out."""
    whole = len(points) // CURVE_WINDOW * CURVE_WINDOW
    return np.array(points[:whole], dtype=float).reshape(-1, CURVE_WINDOW, 2).mean(axis=1)
