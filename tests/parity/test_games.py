"""The published program's list of games: order, action sets, masks and aliases."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasets.conversion.published_format import TASK_ALIASES, published_task_id
from datasets.games import ACTION_NAMES, GAMES, legal_mask_table


def test_games_are_the_recorded_ones_in_their_order(games_recording: dict[str, Any]) -> None:
    assert [game.name for game in GAMES] == games_recording["game_names"]
    assert list(ACTION_NAMES) == games_recording["full_action_set"]
    np.testing.assert_array_equal(legal_mask_table(), np.array(games_recording["action_mask"]) == 1)


def test_actions_are_numbered_as_recorded(games_recording: dict[str, Any]) -> None:
    for game in GAMES:
        assert list(game.legal_actions) == games_recording["limited_to_full"][game.name]
        limited = games_recording["full_to_limited"][game.name]
        assert [limited[action] for action in game.legal_actions] == list(range(len(game.legal_actions)))


def test_four_games_are_trained_on_under_the_recorded_aliases(games_recording: dict[str, Any]) -> None:
    assert games_recording["dataset_task_alias"] == TASK_ALIASES
    names = games_recording["game_names"]
    for game in GAMES:
        alias = TASK_ALIASES.get(game.name, game.name)
        assert published_task_id(game.name) == names.index(alias)
        assert game.task_id == names.index(game.name)
