"""What a search refuses to go on with, told in one sentence each.

Letters: B roots, M evaluated nodes, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def check_shapes(evaluation: Evaluation, num_rows: int, num_actions: int) -> None:
    """Refuse an answer for another number of states or actions than asked.

    Raises:
        PlanningError: naming the field and both shapes.
    """
    fields = ("node", "reward", "discount", "value", "q_value", "prior_logits", "legal_mask", "is_chance")
    for field in fields:
        array = getattr(evaluation, field)
        if array is None:
            continue
        edges = field in ("q_value", "prior_logits", "legal_mask")
        shape = (num_rows, num_actions) if edges else (num_rows,)
        if array.shape != shape:
            raise PlanningError(
                f"asked for {num_rows} states of {num_actions} actions, the model answered with {field} of "
                f"shape {array.shape}; it must have shape {shape}"
            )


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
            field are named), an infinite reward or value, logits that are no distribution, or a
            discount that is out of range.
    """
    check_shapes(evaluation, num_rows, num_actions)
    for field in ("reward", "discount", "value"):
        _refuse(~np.isfinite(getattr(evaluation, field)), evaluation, field, describe)
    legal, logits = evaluation.legal_mask, evaluation.prior_logits
    # An infinite Q-value still has a place in an order; NaN has none.
    _refuse((np.isnan(evaluation.q_value) & legal).any(axis=1), evaluation, "q_value", describe)
    impossible = np.any(legal & (np.isnan(logits) | (logits == np.inf)), axis=1)
    without_choice = legal.any(axis=1) & ~np.any(legal & (logits > -np.inf), axis=1)
    _refuse(impossible | without_choice, evaluation, "prior_logits", describe)
    outside = (evaluation.discount < lowest_discount) | (evaluation.discount > 1)
    if outside.any():
        row = int(outside.argmax())
        raise PlanningError(
            f"the model's discount is {evaluation.discount[row]:g} at {describe(row)}; "
            f"this search needs it in [{lowest_discount:g}, 1]"
        )


def _refuse(bad: Any, evaluation: Evaluation, field: str, describe: Callable[[int], str]) -> None:
    if bad.any():
        row = int(bad.argmax())
        values = np.atleast_1d(getattr(evaluation, field)[row])
        if values.size > 1:
            values = values[evaluation.legal_mask[row]]
        raise PlanningError(f"the model's {field} is {values[~np.isfinite(values)][0]} at {describe(row)}")
