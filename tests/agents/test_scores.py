import json

import numpy as np
import pytest

from agents.metrics import interquartile_mean, normalised_score
from agents.scores import REFERENCE_SCORES, Reference, others_scores, reference_scores, summarise_scores
from datasets.games import GAMES

# Printed in the paper (arXiv 2410.00564, main table). JOWA 70M without planning is printed as
# 0.461 too, but without per-game scores, so that one figure cannot be recomputed.
PRINTED_IQM: dict[Reference, dict[str, float]] = {
    "human": {
        "JOWA 150M, beam": 0.847,
        "JOWA 150M, greedy": 0.524,
        "JOWA 70M, beam": 0.802,
        "JOWA 40M, beam": 0.664,
        "JOWA 40M, greedy": 0.271,
        "MTBC 120M": 0.326,
        "MGDT 200M": 0.490,
        "EDT 200M": 0.501,
        "Scaled-QL 80M": 0.390,
    },
    "dqn": {
        "JOWA 150M, beam": 1.195,
        "JOWA 150M, greedy": 0.613,
        "JOWA 70M, beam": 0.952,
        "JOWA 40M, beam": 0.772,
        "JOWA 40M, greedy": 0.433,
        "MTBC 120M": 0.278,
        "MGDT 200M": 1.058,
        "EDT 200M": 0.836,
        "Scaled-QL 80M": 0.660,
    },
}


@pytest.mark.parametrize(
    ("reference", "agent"), [(row, agent) for row in PRINTED_IQM for agent in PRINTED_IQM[row]]
)
def test_published_aggregates_are_reproduced_to_the_printed_digit(reference: Reference, agent: str):
    scores = reference_scores()
    normalised = []
    for game, score in scores.published[agent].items():
        high = scores.games[game].reference(reference)
        assert high is not None
        normalised.append(float(normalised_score(score, scores.games[game].random, high)))
    assert len(normalised) == 15
    assert f"{interquartile_mean(np.array(normalised)):.3f}" == f"{PRINTED_IQM[reference][agent]:.3f}"


def test_every_agent_played_the_same_games_and_all_names_are_known():
    scores = reference_scores()
    names = {game.name for game in GAMES}
    assert set(scores.games) <= names
    played = [set(by_game) for by_game in scores.published.values()]
    assert all(games == played[0] for games in played)
    assert played[0] == {game for game, row in scores.games.items() if row.dqn is not None}


def test_every_group_of_figures_names_its_source():
    assert set(json.loads(REFERENCE_SCORES.read_text())["sources"]) == {
        "random_and_human",
        "dqn",
        "published",
    }


def test_games_without_certain_scores_are_left_out():
    scores = reference_scores()
    assert "ElevatorAction" not in scores.games
    assert scores.games["Pong"].dqn is None
    assert scores.published_for("Pong") == {}
    assert scores.published_for("Phoenix")["JOWA 150M, beam"] == 5230.0


@pytest.mark.parametrize("game", sorted(reference_scores().games))
def test_people_beat_random_play(game: str):
    row = reference_scores().games[game]
    assert row.human is not None
    assert row.human > row.random


def test_scores_are_summarised_on_every_scale_that_is_known():
    scores = np.array([-20.7, 14.6, 14.6, 14.6])
    summary = summarise_scores(scores, "Pong", whole_games=True)
    assert set(summary) == {"raw", "human"}
    assert summary["human"].mean.value == pytest.approx(0.75)
    assert summary["human"].iqm.value == pytest.approx(1.0)
    assert summary["raw"].iqm.value == pytest.approx(14.6)
    assert set(summarise_scores(scores, "Phoenix", whole_games=True)) == {"raw", "human", "dqn"}
    assert set(summarise_scores(scores, "Pong", whole_games=False)) == {"raw"}
    assert set(summarise_scores(scores, "ElevatorAction", whole_games=True)) == {"raw"}


def test_scores_of_others_are_listed_as_far_as_they_are_known():
    assert others_scores("Pong") == {"random": -20.7, "human": 14.6}
    assert others_scores("ElevatorAction") == {}
    assert list(others_scores("Phoenix"))[:4] == ["random", "human", "DQN", "JOWA 150M, beam"]
