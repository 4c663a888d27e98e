"""What solving prints: each improvement as it comes, and in the end a table of everything."""

from __future__ import annotations

from collections.abc import Sequence

from agents.solving.race import Improvement
from agents.solving.task import Task


def improvement_line(task: Task, improvement: Improvement) -> str:
    """One improvement."""
    above = 100 * (improvement.objective / task.bound - 1)
    return (
        f"{improvement.seconds:7.1f} s  {figure(improvement.objective):>12} {task.objective_name} "
        f"({above:.1f}% above the bound), {improvement.by}"
    )


def table(task: Task, rows: Sequence[tuple[str, float]]) -> str:
    """Methods and what they came to, the best first, the bound last."""
    width = max(len(name) for name, _ in [*rows, ("lower bound", 0.0)])
    ordered = sorted(rows, key=lambda row: row[1])
    lines = [f"{'method':{width}}  {task.objective_name:>20}  above the bound"]
    lines += [
        f"{name:{width}}  {figure(objective):>20}  {100 * (objective / task.bound - 1):14.1f}%"
        for name, objective in ordered
    ]
    return "\n".join([*lines, f"{'lower bound':{width}}  {figure(task.bound):>20}"])


def figure(objective: float) -> str:
    """A figure with all digits before the point, and with two behind it where it is no whole number."""
    return f"{objective:,.0f}" if objective == round(objective) else f"{objective:,.2f}"
