"""What a search refuses to go on with, told in one sentence each.

Letters: B roots, M evaluated nodes, A actions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from planning.model import Evaluation, PlanningError


def check_roots(evaluation: Evaluation, num_actions: int) -> None:
    """Refuse roots that cannot be searched.

    Raises:
        PlanningError: when there is no root, when a root has no legal action, or as
            `check_evaluation` does.
    """
    batch = len(evaluation.node)
    if batch == 0:
        raise PlanningError("there is no root to plan for: the model answered `root` with 0 rows")
    check_evaluation(evaluation, batch, num_actions, lambda row: f"root {row}, depth 0")
    blocked = np.flatnonzero(~evaluation.legal_mask.any(axis=1))
    if len(blocked):
        raise PlanningError(f"root {blocked[0]} has no legal action; leave it out of the batch")


def check_evaluation(
    evaluation: Evaluation,
    num_rows: int,
    num_actions: int,
    describe: Callable[[int], str],
    lowest_discount: float = -1.0,
) -> None:
    """Refuse an answer of the model that would spoil a search in silence.

    Args:
        evaluation: the answer.
        num_rows: rows asked for.
        num_actions: A.
        describe: names the node in one row of the answer, with its depth.
        lowest_discount: smallest discount that the search can work with.

    Raises:
        PlanningError: for another number of rows or actions than asked, a NaN (node, depth and
            field are named), an infinite reward or value, or a discount that is out of range.
    """
    shapes = {"node": (num_rows,), "reward": (num_rows,), "discount": (num_rows,), "value": (num_rows,)}
    shapes |= dict.fromkeys(("q_value", "prior_logits", "legal_mask"), (num_rows, num_actions))
    for field, shape in shapes.items():
        found = np.shape(getattr(evaluation, field))
        if found != shape:
            raise PlanningError(
                f"the model answered {num_rows} states of {num_actions} actions with {field} of shape "
                f"{found}; it must have shape {shape}"
            )
    for field in ("reward", "discount", "value"):
        _refuse(~np.isfinite(getattr(evaluation, field)), evaluation, field, describe)
    for field in ("q_value", "prior_logits"):
        # An infinite Q-value or logit still has a place in an order; NaN has none.
        bad = np.isnan(getattr(evaluation, field)) & evaluation.legal_mask
        _refuse(bad.any(axis=1), evaluation, field, describe)
    outside = (evaluation.discount < lowest_discount) | (evaluation.discount > 1)
    if outside.any():
        row = int(outside.argmax())
        raise PlanningError(
            f"the model's discount is {evaluation.discount[row]} at {describe(row)}; "
            f"this search needs it in [{lowest_discount:g}, 1]"
        )


def _refuse(bad: np.ndarray, evaluation: Evaluation, field: str, describe: Callable[[int], str]) -> None:
    if bad.any():
        row = int(bad.argmax())
        values = np.atleast_1d(getattr(evaluation, field)[row])
        worst = values[~np.isfinite(values)][0]
        raise PlanningError(f"the model's {field} is {worst} at {describe(row)}")
