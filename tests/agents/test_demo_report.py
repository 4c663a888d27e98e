"""What the demo says of its figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.demo_games import DEMO_GAMES
from agents.demo_report import (
    CURVE_WINDOW,
    GameOutcome,
    PlayerOutcome,
    _window_means,
    compare,
    print_outcomes,
    table_rows,
)


def outcome(**scores: list[float]) -> GameOutcome:
    players = tuple(PlayerOutcome(name.replace("_", " "), np.array(row)) for name, row in scores.items())
    demo = replace(DEMO_GAMES["Pong"], max_decisions=7)
    return GameOutcome(demo, players, 100, Path("run"), Path("folder"), {"train": 60.0})


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([5.0, 6.0, 5.0, 6.0], [1.0, 0.0, 1.0, 0.0], "better, beyond what chance explains"),
        ([1.0, 0.0, 1.0, 0.0], [5.0, 6.0, 5.0, 6.0], "worse, beyond what chance explains"),
        ([1.0, 5.0, 0.0, 6.0], [5.0, 1.0, 6.0, 0.0], "do not tell which is better"),
        ([5.0], [1.0, 0.0], "too few games"),
    ],
)
def test_a_difference_is_called_real_only_beyond_chance(first: list[float], second: list[float], words: str):
    assert words in compare(PlayerOutcome("a", np.array(first)), PlayerOutcome("b", np.array(second)))


def test_the_table_has_every_player_with_its_mean_and_games():
    rows = table_rows(outcome(random=[0.0, 2.0], planned=[3.0, 3.0, 3.0]))
    assert [(row[0], row[1].split()[0], row[2]) for row in rows] == [
        ("random", "1.0", "2"),
        ("planned", "3.0", "3"),
    ]


def test_the_terminal_shows_table_and_all_comparisons(capsys: pytest.CaptureFixture[str]):
    print_outcomes([outcome(random=[0.0, 0.0], the_data=[1.0, 2.0], greedy=[3.0, 4.0], planned=[9.0, 9.0])])
    printed = capsys.readouterr().out
    assert "Pong, games of 7 decisions" in printed
    for pair in ("greedy against the data", "planned against the data", "planned against greedy"):
        assert pair in printed


def test_curves_are_means_of_whole_windows():
    points = [(step, float(step % 2)) for step in range(2 * CURVE_WINDOW + 7)]
    means = _window_means(points)
    middle = (CURVE_WINDOW - 1) / 2
    assert means.tolist() == [[middle, 0.5], [CURVE_WINDOW + middle, 0.5]]
    assert _window_means(points[:3]).shape == (0, 2)
