"""Gantt charts of schedules."""

from __future__ import annotations

from pathlib import Path

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agents.games.jobshop.instance import JobShopInstance
from agents.games.jobshop.solution import Schedule
from datasets.files import replace_file


def draw_schedule(instance: JobShopInstance, schedule: Schedule, path: str | Path) -> None:
    """Write a PNG: a row per machine, a bar per operation in the colour of its job, the bound as a line."""
    figure = Figure(figsize=(12, 1.5 + 0.35 * instance.num_machines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = colormaps["turbo"]
    for job, starts in enumerate(schedule.starts):
        colour = colours((job + 0.5) / instance.num_jobs)
        ink = "white" if sum(colour[:3]) < 1.2 else "black"
        for place, begin in enumerate(starts):
            machine, length = int(instance.machine[job, place]), int(instance.duration[job, place])
            axes.barh(machine, length, left=begin, height=0.8, color=colour, edgecolor="white", linewidth=0.5)
            if length > schedule.makespan / 60:
                axes.text(
                    begin + length / 2, machine, str(job), ha="center", va="center", fontsize=7, color=ink
                )
    bound = max(instance.lower_bound, instance.proven_bound or 0)
    axes.axvline(bound, color="black", linestyle=":", label=f"lower bound {bound}")
    axes.axvline(schedule.makespan, color="black", label=f"makespan {schedule.makespan}")
    axes.set(xlabel="time", ylabel="machine", yticks=range(instance.num_machines), title=instance.name)
    axes.set_xlim(0, schedule.makespan * 1.02)
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
