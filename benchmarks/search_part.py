"""One part of `benchmarks.search`, in a process of its own: prints its figures as a line of JSON.

python -m benchmarks.search_part table 1 7
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from benchmarks import search_transpositions
from benchmarks.search_cases import Case, bytes_per_node, our_search, path_length, time_rounds

BATCHES = (1, 16, 128, 1024)
LARGEST_MCTX = 6_000_000
"""Roots times squared simulations, in which the time of a search in mctx grows: beyond, it takes minutes."""

if find_spec("mctx") is not None:
    from benchmarks import search_mctx
else:
    search_mctx = None


def cases_of(part: str) -> list[Case]:
    """What a part measures."""
    searches = ("puct", "gumbel")
    if part == "table":
        return [Case(search, "table", 50, batch) for search in searches for batch in BATCHES]
    if part.endswith("-lengths"):
        search = part.removesuffix("-lengths")
        return [Case(search, "table", length, batch) for length in (200, 800) for batch in BATCHES]
    if part == "network":
        return [Case("gumbel", model, 50, batch) for model in ("mlp", "eager") for batch in BATCHES]
    if part == "network-threads":
        return [Case("gumbel", "mlp", 50, batch) for batch in (128, 1024)]
    kinds = (("puct", 50), ("puct", 200), ("gumbel", 50))
    return [Case(search, "table", length, batch) for search, length in kinds for batch in (128, 1024)]


def measure(case: Case, part: str, threads: int, rounds: int) -> dict[str, Any]:
    """Time one case, beside mctx or beside one thread, round by round."""
    ours = our_search(case, threads)
    result, calls = ours(), [ours]
    figures: dict[str, Any] = {**asdict(case), "threads": threads}
    figures["bytes_per_node"], figures["path_length"] = bytes_per_node(result, case), path_length(case)
    if part == "table-threads":
        calls.append(our_search(case, 1))
        single = calls[1]()
        figures["equal_trees"] = float((single.tree.parent == result.tree.parent).all(axis=1).mean())
    compares = threads == 1 and case.model != "eager"
    seconds = time_rounds(calls, rounds) / case.simulations * 1e6
    figures["microseconds"] = float(seconds[0].min())
    if len(calls) > 1:
        figures["one_thread"] = float(seconds[1].min())
    if compares and search_mctx is not None and case.batch * case.simulations**2 <= LARGEST_MCTX:
        theirs = search_mctx.mctx_search(case)
        output = theirs()
        figures["mctx_equal_trees"] = search_mctx.equal_trees(result, output)
        figures["mctx_bytes_per_node"] = search_mctx.bytes_per_node(output, case)
        theirs_alone = time_rounds([theirs], 3) / case.simulations * 1e6
        figures["mctx_microseconds"] = float(theirs_alone.min())
    return figures


def main() -> None:
    """Measure the part named on the command line."""
    part, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if part == "equal-states":
        print(json.dumps([asdict(saving) for saving in search_transpositions.measure()]))
        return
    figures = []
    for case in cases_of(part):
        figures.append(measure(case, part, threads, rounds))
        print(f"  {case}: {figures[-1]['microseconds']:.1f} us", file=sys.stderr, flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
