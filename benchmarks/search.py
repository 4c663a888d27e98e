"""Time the tree searches, beside mctx where it is installed, and write down what came out.

    python -m benchmarks.search                      everything, about six minutes with mctx
    python -m benchmarks.search --parts table        one part; the others stay as last measured
    pip install -e .[mctx]                           for the comparison

Prints microseconds per simulation of the whole batch, model included, and writes `search.json` (every
figure), `search.png` (cost over simulations and batch size) and the section "Tree search" of `RESULTS.md`,
all beside this file. Each part runs as its own process, on as many cores as it may use threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import tyro

from benchmarks.search_report import draw, goals_text, section
from datasets.errors import UserError, run_command
from datasets.files import replace_file

FOLDER = Path(__file__).resolve().parent
THREADS = {
    "table": 1,
    "puct-lengths": 1,
    "gumbel-lengths": 1,
    "network": 1,
    "table-threads": 2,
    "network-threads": 2,
    "equal-states": 1,
}
"""Parts of the benchmark, and how many threads each may use."""


@dataclass(frozen=True)
class SearchBenchmark:
    """Which parts to measure."""

    parts: tuple[str, ...] = tuple(THREADS)
    """Any of table (50 simulations), puct-lengths and gumbel-lengths (200 and 800), network, table-threads
    and network-threads (two threads), equal-states."""
    rounds: int = 7
    """Times that every search is measured; the fastest counts."""
    write: bool = True
    """Write the figures, the plot and the section of RESULTS.md; otherwise only print."""


def main() -> None:
    """Measure, print and write."""
    config = tyro.cli(SearchBenchmark, description=__doc__)
    unknown = set(config.parts) - set(THREADS)
    if unknown:
        raise UserError(f"--parts: no part is called {min(unknown)}; there are {', '.join(THREADS)}")
    if config.rounds < 1:
        raise UserError(f"--rounds is {config.rounds}; it must be at least 1")
    store = FOLDER / "search.json"
    measured = json.loads(store.read_text()) if config.write and store.is_file() else {}
    if find_spec("mctx") is None:
        print("mctx is not installed (extra `mctx`): measured without it", flush=True)
    for part in config.parts:
        print(f"measuring {part} ...", flush=True)
        measured[part] = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "figures": run_part(part, config.rounds),
        }
        if config.write:
            with replace_file(store) as path:
                path.write_text(json.dumps(measured, indent=1) + "\n")
    print(goals_text(measured))
    if config.write:
        if "table" in measured:
            with replace_file(FOLDER / "search.png") as path:
                draw(measured, path)
        write_section(section(measured))


def run_part(part: str, rounds: int) -> list[dict]:
    """Measure one part in a process of its own, bound to one core for each thread."""
    threads = THREADS[part]
    everything = os.sched_getaffinity(0)
    if len(everything) < threads:
        print(f"  there are only {len(everything)} cores for {threads} threads", flush=True)
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {**os.environ, **{name: str(threads) for name in variables}}
    environment["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'}"
    command = [sys.executable, "-m", "benchmarks.search_part", part, str(threads), str(rounds)]
    os.sched_setaffinity(0, sorted(everything)[:threads])
    try:
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    finally:
        os.sched_setaffinity(0, everything)
    if run.returncode:
        raise UserError(f"measuring {part} failed with status {run.returncode}; its own message is above")
    return json.loads(run.stdout.splitlines()[-1])


def machine() -> str:
    """Processor, cores and versions."""
    from importlib.metadata import version

    names = [line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")]
    packages = [name for name in ("numpy", "numba", "torch", "mctx", "jax") if find_spec(name)]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    processor = names[0] if names else "an unknown processor"
    return f"{os.cpu_count()} cores of {processor}; Python {sys.version.split()[0]}, {versions}"


def cpu_lines() -> list[str]:
    """What Linux says of the processor; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def write_section(text: str) -> None:
    """Put the section "Tree search" into RESULTS.md, in the place of an older one."""
    path = FOLDER / "RESULTS.md"
    before, _, rest = path.read_text().partition("## Tree search\n")
    _, heading, after = rest.partition("\n## ")
    with replace_file(path) as new:
        new.write_text(f"{before.rstrip()}\n\n{text}{heading}{after}")


if __name__ == "__main__":
    run_command(main)
