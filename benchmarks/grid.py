"""The grid of the built-in workloads by all configs: how long it takes, with its builds and without them.

Two runs of the same grid: the first builds everything and takes a first look (`--quick`), the second is whole
and must build nothing. Both measure what the default matrix does, so launches start side by side. The second
is also what pairs are told from: one recipe in two runtimes, and the share of equal predictions.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from attrs import evolve

from benchmarks.common import HERE, Lines, command, keep
from qx.host.host import Host
from qx.report import markdown
from qx.results.records import Results
from qx.runner import Request, run

METRICS = ("accuracy", "file_size", "latency", "rss")
WORKLOADS = ("cifar10_cnn", "digits_cnn", "languages_encoder")


def told(results: Results) -> dict[str, Any]:
    """How long it took, how many artifacts were built, and how the cells ended."""
    cells = [cell for cell in results.cells.values() if not cell.control]
    built = [cell for cell in cells if cell.build_seconds is not None]
    outcomes = [cell.outcome for cell in cells]
    return {
        "seconds": results.run["seconds"],
        "quick": results.run["measuring"]["quick"],
        "cells": len(cells),
        "outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        "built": sum(not cell.build_cached for cell in built),
        "build_seconds_of_all": round(sum(cell.build_seconds or 0.0 for cell in built), 1),
    }


def run_whole(request: Request) -> None:
    """A run whose builds are there: keep its tables, and print and keep what it took, and every pair."""
    results, _ = run(Host.discover(), request, Lines())
    told_in_full = markdown.render(evolve(results, run={**results.run, "command": [command()]}))
    (HERE / "results" / "grid.md").write_text(told_in_full, encoding="utf-8")
    pairs = {
        f"{one.cell} and {one.counterpart.rpartition('/')[2]}": {"agreement": one.agreement, "ci": one.ci}
        for one in results.pairs
    }
    known = [one["agreement"] for one in pairs.values() if one["agreement"] is not None]
    keep("grid", {**told(results), "lowest_agreement": min(known, default=None), "pairs": pairs})


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
            keep("grid_first", told(first))
        run_whole(whole)


if __name__ == "__main__":
    main()
