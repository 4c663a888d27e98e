from __future__ import annotations

import numpy as np

from world_model.drafting import FIRST_CONFIDENCE, Drafter


def test_the_first_guess_is_that_nothing_changes() -> None:
    frames = np.array([[1, 4, 2], [0, 0, 3]])
    draft = Drafter(3, 5).draft(frames)
    assert draft.tokens.tolist() == frames.tolist()
    assert (draft.confidence == FIRST_CONFIDENCE).all()


def test_a_token_is_guessed_to_be_followed_as_the_last_time_at_its_place() -> None:
    drafter = Drafter(3, 5)
    drafter.learn(np.array([[1, 1, 2]]), np.array([[2, 1, 0]]), (0, 0))
    assert drafter.draft(np.array([[1, 1, 1]])).tokens.tolist() == [[2, 1, 1]]
    assert drafter.draft(np.array([[0, 2, 2]])).tokens.tolist() == [[0, 2, 0]]


def test_confidence_follows_what_was_right_at_each_place() -> None:
    drafter = Drafter(2, 50)
    generator = np.random.default_rng(0)
    for _ in range(60):
        frames = np.stack([np.full(8, 3), generator.integers(50, size=8)], axis=1)
        drafter.learn(frames, np.stack([np.full(8, 3), generator.integers(50, size=8)], axis=1), (1, 4))
    draft = drafter.draft(frames)
    assert draft.confidence[0] > 0.98
    assert draft.confidence[1] < 0.1
    assert abs(draft.second_confidence - 0.25) < 0.05


def test_a_draft_does_not_follow_later_learning() -> None:
    drafter = Drafter(1, 5)
    draft = drafter.draft(np.array([[1]]))
    drafter.learn(np.array([[1]]), np.array([[2]]), (0, 0))
    assert draft.confidence[0] == FIRST_CONFIDENCE
    assert draft.tokens.tolist() == [[1]]
