"""What `benchmarks.planner` measured: lines for the terminal, a file of all cases, a plot, a section."""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from datasets.files import replace_file

FOLDER = Path(__file__).parent
HEADING = "## Planner"


@dataclass(frozen=True)
class Rates:
    """Speed of the machine, one thread."""

    gflops: float
    """GFLOP/s of a large float32 product."""
    half_gflops: float
    """The same in bfloat16."""
    gigabytes: float
    """GB/s when summing a large array."""


@dataclass(frozen=True)
class Measurement:
    """One line of the table; times are medians over the rounds."""

    subject: str
    case: str
    """Beam width x horizon."""
    frames: int
    batch: int
    threads: int
    device: str
    published_ms: float
    """Cost of a decision executed in the published way, milliseconds; NaN if not run."""
    single_ms: float
    """Ours in float32."""
    half_ms: float
    """Ours in bfloat16."""
    single_ratio: float
    """Median over the rounds of published / ours."""
    half_ratio: float
    same_actions: float
    """Share of decisions on which the published way and ours in float32 agree."""
    same_frames: float
    """The same of imagined frames."""
    half_same_actions: float
    """Share of decisions on which float32 and bfloat16 agree."""
    largest_error: float
    """Largest difference of a node's score between the published way and ours in float32."""
    tokens_per_second: float
    """Tokens of imagined blocks that ours in float32 makes in a second."""
    passes: float
    """Passes over the weights for the imagined frames of one batch of decisions, float32."""
    tokens_fed: float
    """Tokens fed in them for one decision, wrong guesses included."""
    node_bytes: int
    """Keys and values that one node keeps."""
    published_node_bytes: int
    roofline_ms: float
    """Least time for ours in float32: what it multiplies and reads, at the machine's speed."""
    machine: str
    day: str

    @staticmethod
    def of(
        *,
        subject: str,
        case: str,
        setting: tuple[int, int, int, str],
        seconds: np.ndarray,
        agreement: np.ndarray,
        largest_error: float,
        imagined: float,
        counts: tuple[float, float],
        node_bytes: list[int],
        weights: int,
        rates: Rates,
    ) -> Measurement:
        """Condense the rounds: `seconds` is [rounds, ways] for one decision."""
        frames, batch = setting[:2]
        milliseconds = 1000 * np.median(seconds, axis=0)
        ratios = np.median(seconds[:, :1] / seconds[:, 1:], axis=0)
        passes, tokens_fed = counts
        prefix = frames * 37 - 1
        compute = 2e-9 * weights * (prefix + tokens_fed) / rates.gflops
        reading = 4e-9 * weights * passes / batch / rates.gigabytes
        return Measurement(
            subject,
            case,
            *setting,
            *(float(value) for value in milliseconds),
            *(float(value) for value in ratios),
            *(float(value) for value in agreement),
            largest_error=largest_error,
            tokens_per_second=float(imagined / np.median(seconds[:, 1])),
            passes=passes,
            tokens_fed=tokens_fed,
            node_bytes=node_bytes[0],
            published_node_bytes=node_bytes[1],
            roofline_ms=1000 * max(compute, reading),
            machine=machine(),
            day=date.today().isoformat(),
        )

    @property
    def key(self) -> tuple[str, str, int, int, int, str]:
        """What tells lines apart."""
        return self.subject, self.case, self.frames, self.batch, self.threads, self.device

    def cells(self) -> list[str]:
        """The line, cell by cell."""

        def number(value: float, form: str) -> str:
            return "-" if np.isnan(value) else format(value, form)

        return [
            self.subject,
            self.case,
            str(self.frames),
            str(self.batch),
            str(self.threads),
            number(self.published_ms, ".1f"),
            number(self.single_ms, ".1f"),
            number(self.half_ms, ".1f"),
            number(self.single_ratio, ".2f"),
            number(self.half_ratio, ".2f"),
            number(self.same_actions, ".0%"),
            number(self.same_frames, ".1%"),
            number(self.half_same_actions, ".0%"),
            f"{self.tokens_per_second:,.0f}",
            f"{self.passes:.1f}",
            f"{self.tokens_fed:.0f}",
            f"{self.roofline_ms:.1f}",
        ]

    def line(self) -> str:
        """For the terminal, with names."""
        cells = ", ".join(f"{name} {cell}" for name, cell in zip(COLUMNS, self.cells(), strict=True))
        return (
            f"{cells}; KV per node {self.node_bytes} B (published {self.published_node_bytes} B), "
            f"largest difference of a score {self.largest_error:.1e}"
        )


COLUMNS = (
    "model",
    "width x horizon",
    "frames",
    "batch",
    "threads",
    "published ms",
    "f32 ms",
    "bf16 ms",
    "ratio f32",
    "ratio bf16",
    "actions equal",
    "frames equal",
    "bf16 actions equal",
    "tokens/s",
    "passes",
    "tokens fed",
    "roofline ms",
)


def machine() -> str:
    """Processor, cores and versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        model = found.group(1) if found else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores{gpu}, {platform.system()}, torch {torch.__version__}"


def update_results(measurements: list[Measurement], rates: Rates) -> list[Measurement]:
    """Enter lines into planner.json, over older ones of the same case, and into RESULTS.md; all lines."""
    file = FOLDER / "planner.json"
    stored = json.loads(file.read_text()) if file.exists() else {"lines": []}
    lines = {line.key: line for line in (Measurement(**fields) for fields in stored["lines"])}
    lines |= {line.key: line for line in measurements}
    content = json.dumps(
        {"rates": asdict(rates), "lines": [asdict(line) for line in lines.values()]}, indent=1
    )
    with replace_file(file) as beside:
        beside.write_text(content + "\n")
    write_section(list(lines.values()), rates)
    return list(lines.values())


def write_section(lines: list[Measurement], rates: Rates) -> None:
    """Put the table into RESULTS.md."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(line.cells() for line in lines)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    kept = {
        f"{line.subject}: {line.node_bytes:,} and {line.published_node_bytes:,}"
        for line in lines
        if line.published_node_bytes
    }
    facts = [
        *sorted({f"{line.day}: {line.machine}" for line in lines}),
        f"Speed of one thread: {rates.gflops:.0f} GFLOP/s in float32, {rates.half_gflops:.0f} in bfloat16, "
        f"{rates.gigabytes:.1f} GB/s",
        f"Bytes of keys and values that a node keeps, ours and the published way: {'; '.join(sorted(kept))}",
    ]
    listed = "\n".join(f"- {fact}." for fact in facts)
    put_section(
        HEADING,
        "planner",
        f"{listed}\n\n{table}\n\n![cost of a decision](planner.png)\n\n"
        "![cost of a decision against each setting](planner_settings.png)\n",
    )


def put_section(heading: str, name: str, body: str) -> None:
    """Put text between the marks of this name in RESULTS.md; a new heading comes last.

    What stands around the marks is left as it is.
    """
    path = FOLDER / "RESULTS.md"
    text = path.read_text()
    start, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    if start not in text:
        text = f"{text.rstrip()}\n\n{heading}\n\n{start}{end}\n"
    before, rest = text.split(start)
    with replace_file(path) as beside:
        beside.write_text(before + start + body + end + rest.split(end, 1)[1])
