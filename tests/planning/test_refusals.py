"""Answers of a model that no tree search goes on with, each named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planning import Evaluation, PlanningError, TreeOptions, gumbel_muzero, muzero
from planning.table_model import TableModel, random_table


class LateFault:
    """A model that goes wrong at one root after some rounds."""

    def __init__(self, model: TableModel, field: str, value: Any, root: int, after: int = 3) -> None:
        self.model, self.field, self.value, self.root_row, self.left = model, field, value, root, after
        self.num_actions = model.num_actions

    def root(self, observation: Any) -> Evaluation:
        return self.model.root(observation)

    def step(self, parent: np.ndarray, action: np.ndarray) -> Evaluation:
        answer = self.model.step(parent, action)
        self.left -= 1
        if self.left > 0:
            return answer
        array = getattr(answer, self.field).copy()
        array[self.root_row] = self.value
        return replace(answer, **{self.field: array})


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("reward", np.nan, "reward is nan"),
        ("value", np.nan, "value is nan"),
        ("value", np.inf, "value is inf"),
        ("discount", np.nan, "discount is nan"),
        ("discount", 1.5, "discount is 1.5"),
        ("discount", -1.01, "discount is -1.01"),
        ("prior_logits", np.nan, "prior_logits is nan"),
        ("prior_logits", np.inf, "prior_logits is inf"),
        ("prior_logits", -np.inf, "prior_logits is -inf"),
        ("value", 1e300, "value is inf"),
    ],
)
@pytest.mark.parametrize("search", [muzero, gumbel_muzero])
def test_a_bad_number_is_named_by_node_depth_and_field(search, field, value, sentence, compiled):
    model = LateFault(random_table(np.random.default_rng(0), 30, 3), field, value, root=4)
    with (
        np.errstate(over="ignore"),
        pytest.raises(PlanningError, match=rf"{sentence} at root 4, action \d of node \d, depth \d"),
    ):
        search(model, np.arange(6), num_simulations=10, options=TreeOptions(compiled=compiled))


def test_what_stands_at_illegal_actions_is_no_matter():
    model = random_table(np.random.default_rng(1), 30, 4, illegal_rate=0.4)
    hidden = replace(
        model,
        prior_logits=np.where(model.legal_mask, model.prior_logits, np.nan),
        q_value=np.where(model.legal_mask, model.q_value, np.nan),
    )
    for search in (muzero, gumbel_muzero):
        plain = search(model, np.arange(10), num_simulations=30)
        np.testing.assert_array_equal(
            plain.tree.visits, search(hidden, np.arange(10), num_simulations=30).tree.visits
        )


@pytest.mark.parametrize("search", [muzero, gumbel_muzero])
def test_another_batch_than_asked_is_refused(search):
    class Shrinking:
        def __init__(self, model: TableModel) -> None:
            self.model, self.rounds, self.num_actions = model, 0, model.num_actions

        def root(self, observation: Any) -> Evaluation:
            return self.model.root(observation)

        def step(self, parent: np.ndarray, action: np.ndarray) -> Evaluation:
            self.rounds += 1
            keep = len(parent) - (self.rounds == 5)
            return self.model.step(parent[:keep], action[:keep])

    model = Shrinking(random_table(np.random.default_rng(2), 30, 3))
    with pytest.raises(PlanningError, match="asked for 6 states of 3 actions, the model answered with node"):
        search(model, np.arange(6), num_simulations=10)


def test_a_state_of_improbable_actions_is_searched():
    """Logits of -inf are legal as long as one is not."""
    model = random_table(np.random.default_rng(3), 30, 3)
    logits = model.prior_logits.copy()
    logits[:, 1:] = -np.inf
    for search in (muzero, gumbel_muzero):
        result = search(replace(model, prior_logits=logits), np.arange(6), num_simulations=20)
        assert (result.visit_counts.sum(axis=1) == 20).all()
        assert np.isfinite(result.action_weights).all()
