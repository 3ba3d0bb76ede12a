"""The grid of the built-in workloads by all configs: how long does it take, with and without the builds?

Two runs of the same grid: the first builds everything and measures with `--quick`, the second measures in
full and must build nothing. Both measure what the default matrix does, so launches start side by side. The
second also gives the share of equal predictions for each pair of runtimes that follow the same recipe.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from attrs import evolve

from benchmarks.common import HERE, Lines, command, keep, measuring_of
from qx.host.host import Host
from qx.report import markdown
from qx.results.records import Results
from qx.runner import Request, run

METRICS = ("accuracy", "file_size", "latency", "rss")
WORKLOADS = ("cifar10_cnn", "digits_cnn", "languages_encoder")


def summarize(results: Results) -> dict[str, Any]:
    """Return how long a run took, how many artifacts were built, and how the cells ended."""
    cells = [cell for cell in results.cells.values() if not cell.control]
    built = [cell for cell in cells if cell.build_seconds is not None]
    outcomes = [cell.outcome for cell in cells]
    return {
        "seconds": results.run.seconds,
        "quick": measuring_of(results).quick,
        "cells": len(cells),
        "outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        "built": sum(not cell.build_cached for cell in built),
        "build_seconds_of_all": round(sum(cell.build_seconds or 0.0 for cell in built), 1),
    }


def run_whole(request: Request) -> None:
    """Run with builds in the cache: keep its tables, and print and keep its seconds and every pair."""
    results, _ = run(Host.discover(), request, Lines())
    report = markdown.render(evolve(results, run=evolve(results.run, command=(command(),))))
    (HERE / "results" / "grid.md").write_text(report, encoding="utf-8")
    pairs = {
        f"{pair.cell} and {results.cells[pair.counterpart].row}": {"agreement": pair.agreement, "ci": pair.ci}
        for pair in results.pairs
    }
    agreements = [pair["agreement"] for pair in pairs.values() if pair["agreement"] is not None]
    keep("grid", {**summarize(results), "lowest_agreement": min(agreements, default=None), "pairs": pairs})


def main() -> None:
    """Print and keep the two runs, the first in a file of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--budget", type=float, help="seconds of measuring, of all workloads; as a run's")
    parser.add_argument(
        "--built", type=Path, metavar="DIR", help="a cache that has the builds: only the second run"
    )
    arguments = parser.parse_args()
    whole = Request(
        workloads=WORKLOADS, every=True, metrics=METRICS, data=arguments.data, budget=arguments.budget
    )
    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        os.environ["QX_CACHE"] = str(arguments.built or folder)
        if arguments.built is None:
            first, _ = run(Host.discover(), evolve(whole, quick=True, budget=None), Lines())
            keep("grid_first", summarize(first))
        run_whole(whole)


if __name__ == "__main__":
    main()
