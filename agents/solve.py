"""Find a good plan for one instance of a game, with proof that it is valid.

    python -m agents.solve memory-mapping --program my_model:training_step --time-limit 600 --out plan.json
    python -m agents.solve memory-mapping --program step.json --time-limit 600 --out plan.json
    python -m agents.solve job-shop --instance shop.json --time-limit 60 --out plan.json
    python -m agents.solve packing --instance buffers.csv --capacity 1048576 --time-limit 120 --out plan.json

Several searches run side by side, guided by a trained network (one for each game comes with the project;
`agents.train_search` trains others). The best plan so far is always in `--out`, checked by a validator that
shares no code with the game; Ctrl-C stops early and keeps it. In the end a table puts it beside every
heuristic and the lower bound, and a picture shows it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.games.jobshop import instance as jobshop
from agents.games.memory.program import Program
from agents.games.memory.program_file import write_program
from agents.games.packing import instance as packing
from agents.search_agent.released import checkpoint_for
from agents.solving.job_shop import JobShopTask
from agents.solving.memory_mapping import MemoryMappingTask
from agents.solving.packing import PackingTask
from agents.solving.race import Improvement, race
from agents.solving.report import improvement_line, table
from agents.solving.task import Task
from datasets.errors import UserError, run_command
from datasets.programs import load_program, peak_bytes

WORTH_TELLING = 0.002
"""Share by which a plan must be better than the one told of last, lest a search fill the screen."""


@dataclass(frozen=True)
class SolveOptions:
    """How long and how hard to search."""

    out: Path
    """File of the best plan; pictures are put beside it."""
    time_limit: float = 60.0
    """Seconds of search."""
    at_least: Literal["nothing", "heuristic"] = "nothing"
    """Start from the best heuristic, so that the plan is never worse; otherwise the agent is on its own."""
    checkpoint: Path | None = None
    """Network of the agent; by default the one that comes with the project."""
    starts: int = os.cpu_count() or 1
    """Searches side by side, each in a process of its own."""
    seed: int = 0
    """Seed of everything random; how far a search comes in its time still depends on the machine."""

    def __post_init__(self) -> None:
        if self.time_limit <= 0:
            raise UserError(f"time_limit is {self.time_limit}; it must be above 0 seconds")
        if self.starts < 1:
            raise UserError(f"starts is {self.starts}; it must be at least 1")


@dataclass(frozen=True)
class MemoryMapping:
    """Decide which tensors of a program are in fast memory when, so that it runs fast."""

    program: str
    """A PyTorch function as `module:function`, a file of scheduled HLO text, XLA's table of buffers (.csv),
    or a program's file (.json) with hw, buffers and instructions (docs/games.md)."""
    options: Annotated[SolveOptions, tyro.conf.arg(name="")]
    hardware: str | None = None
    """Name of a machine, or a JSON file with its fields; by default the one in the program's file, or
    tpu-v4i-like."""
    capacity_fraction: float | None = None
    """Size of fast memory as a share of the most bytes alive at once, instead of the machine's own."""


@dataclass(frozen=True)
class JobShop:
    """Schedule jobs on machines, so that the last one ends early."""

    instance: Path
    """JSON file with `jobs`, each a list of [machine, duration]."""
    options: Annotated[SolveOptions, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Packing:
    """Give buffers with lifetimes their places in memory, so that little of it is needed."""

    instance: Path
    """CSV file with id,lower,upper,size."""
    options: Annotated[SolveOptions, tyro.conf.arg(name="")]
    capacity: int | None = None
    """Bytes to fit; by default the number before `.csv` in the file's name, or as few as possible."""


Command = (
    Annotated[MemoryMapping, tyro.conf.subcommand("memory-mapping")]
    | Annotated[JobShop, tyro.conf.subcommand("job-shop")]
    | Annotated[Packing, tyro.conf.subcommand("packing")]
)


def main() -> None:
    """Read the command line and solve."""
    command = tyro.cli(Command, description=__doc__)  # type: ignore[arg-type]
    solve(task_of(command), command.options)


def task_of(command: MemoryMapping | JobShop | Packing) -> Task:
    """The instance that a command line means.

    Raises:
        UserError: the instance cannot be read, or there is no checkpoint.
    """
    if isinstance(command, MemoryMapping):
        checkpoint = checkpoint_for("memory-mapping", command.options.checkpoint)
        return MemoryMappingTask(program_of(command), checkpoint)
    if isinstance(command, JobShop):
        checkpoint = checkpoint_for("job-shop", command.options.checkpoint)
        return JobShopTask(jobshop.read_instance(command.instance), checkpoint)
    checkpoint = checkpoint_for("packing", command.options.checkpoint)
    return PackingTask(packing.read_instance(command.instance, command.capacity), checkpoint)


def program_of(command: MemoryMapping) -> Program:
    """The program to map; one that was made just now is written down, as plans number its buffers.

    Raises:
        UserError: the source, the machine or the share of fast memory cannot be used.
    """
    program = load_program(command.program, command.hardware, command.capacity_fraction)
    if not command.program.endswith(".json") or command.hardware or command.capacity_fraction:
        beside = command.options.out.with_suffix(".program.json")
        write_program(beside, program, {"source": command.program})
        print(f"{beside}: {len(program.buffers)} buffers, {len(program.instructions)} instructions")
    capacity = program.hardware.fast_capacity
    large = [index for index, buffer in enumerate(program.buffers) if buffer.size > capacity]
    if large:
        named = ", ".join(f"buffers[{index}] ({program.buffers[index].name})" for index in large[:3])
        print(f"larger than fast memory, so in slow memory: {named}{', ...' if len(large) > 3 else ''}")
    peak = peak_bytes(program)
    if peak <= capacity:
        print(
            f"all {peak:,} bytes alive at once fit into the {capacity:,} of fast memory, so there is little "
            "to decide; a smaller --hardware or --capacity-fraction 0.25 makes it tight"
        )
    return program


def solve(task: Task, options: SolveOptions) -> Improvement:
    """Search, write each improvement down, and say in the end how it went.

    Raises:
        UserError: no plan was found in time, or a file cannot be written.
    """
    heuristics = [(one.name, task.objective(one.plan), one.plan) for one in task.baselines()]
    best = None
    if options.at_least == "heuristic":
        name, objective, plan = min(heuristics, key=lambda row: row[1])
        best = Improvement(0.0, objective, plan, name)
        task.write(plan, options.out)

    told = float("inf")

    def improved(improvement: Improvement) -> None:
        nonlocal told
        task.write(improvement.plan, options.out)
        if improvement.objective < (1 - WORTH_TELLING) * told:
            told = improvement.objective
            print(improvement_line(task, improvement), flush=True)

    print(
        f"{task.name}: {options.time_limit:.0f} s, {options.starts} searches side by side, "
        "once they are compiled",
        flush=True,
    )
    found = race(
        task,
        seconds=options.time_limit,
        starts=options.starts,
        seed=options.seed,
        improved=improved,
        best=best,
    )
    if found:
        best = found[-1]
    if best is None:
        raise UserError(
            f"{task.name}: no plan was found in {options.time_limit} s; give a longer --time-limit"
        )
    rows = [(name, objective) for name, objective, _ in heuristics]
    print("\n" + table(task, [*rows, ("this plan", best.objective)]))
    print("\n" + "\n".join(str(path) for path in [options.out, *task.draw(best.plan, options.out)]))
    return best


if __name__ == "__main__":
    run_command(main)
