"""Scaling laws are found again in losses that were made by one, and say how well they foretell."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from benchmarks.scaling_fit import Point, ScalingLaw, falling, fit_law
from benchmarks.scaling_report import best_widths, foretold, report

TRUE = ScalingLaw(0.2, (30.0, 20.0, 6.0), (0.5, 0.45, 0.4))


def made_points(law=TRUE, noise=0.0, memorises_after=10_000):
    """A grid's points as a law makes them; where a training memorises, its loss rises again."""
    chance = np.random.default_rng(0)
    points = []
    for (width, parameters), decisions in product({48: 3e5, 96: 8e5, 192: 3e6}.items(), (2e4, 8e4, 3e5)):
        for steps in range(150, 2401, 150):
            loss = law(parameters, decisions, steps) * np.exp(noise * chance.standard_normal())
            loss += 0.001 * max(0, steps - memorises_after)
            points.append(Point(width, int(parameters), int(decisions), steps, width / 500, loss, 2 * loss))
    return points


def test_a_law_is_found_again_and_foretells_what_it_was_not_fitted_to():
    law = fit_law(made_points(), "next_token")
    assert law.exponents == pytest.approx(TRUE.exponents, rel=0.02)
    assert law(1e7, 2e6, 20_000) == pytest.approx(TRUE(1e7, 2e6, 20_000), rel=0.02)


def test_a_few_wrong_points_hardly_move_a_law():
    points = made_points()
    wrong = [Point(*p.axes[:1], *p.axes, 1.0, 3 * p.next_token, 1.0) for p in points[5::48]]
    law = fit_law([p for p in points if p not in points[5::48]] + wrong, "next_token")
    assert law(8e5, 3e5, 2400) == pytest.approx(TRUE(8e5, 3e5, 2400), rel=0.02)


def test_points_after_a_training_s_lowest_loss_are_left_out():
    kept = falling(made_points(memorises_after=600), "next_token")
    assert {p.steps for p in kept} == {150, 300, 450, 600}
    assert len(kept) == 9 * 4


def test_the_report_names_the_foretold_loss_of_the_training_left_out(tmp_path):
    points = made_points(noise=0.005)
    said = foretold(points, fit_law(falling(points, "next_token"), "next_token"), "next_token")
    assert "fitted without width 192 on 300000 decisions" in said
    guess, measured = (float(said.split(word)[1].split()[0]) for word in ("foretells", "measured"))
    assert guess == pytest.approx(measured, rel=0.03)
    text = report("Breakout", points, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "0.30M" in text
    assert "3.00M" in text


def test_the_width_that_costs_less_is_ahead_in_a_short_training():
    law = ScalingLaw(0.2, (100.0, 20.0, 6.0), (0.5, 0.45, 0.4))
    rows = [line.split() for line in best_widths(made_points(law), law).splitlines()[2:]]
    short, long = ([float(cell) for cell in row[3:]] for row in (rows[0], rows[-1]))
    assert short[0] < short[-1]  # 48 before 192 after 3 minutes
    assert np.argmin(long) > 0
