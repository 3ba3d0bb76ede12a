"""The grid of the built-in workloads by all configs: how long it takes, with its builds and without them.

Runs of the same grid with a cache of their own: the first builds everything and takes a first look
(`--quick`), the next are whole and must build nothing. The last is also what pairs are told from: one recipe
in two runtimes, and the share of equal predictions.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from attrs import evolve

from benchmarks.common import Lines, keep, options
from qx.host import Host
from qx.results import Results
from qx.runner import Request, run

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


def main() -> None:
    """Print and keep the two runs, and every pair."""
    parser = options(__doc__, runs=2)
    parser.add_argument("--budget", type=float, help="seconds of measuring, of all workloads; as a run's")
    arguments = parser.parse_args()
    whole = Request(workloads=WORKLOADS, every=True, data=arguments.data, budget=arguments.budget)
    runs = []
    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        os.environ["QX_CACHE"] = folder
        for number in range(arguments.runs):
            request = whole if number else evolve(whole, quick=True, budget=None)
            results, _ = run(Host.discover(), request, Lines())
            runs.append(told(results))
            print(json.dumps(runs[-1]), flush=True)
    pairs = {
        f"{one.cell} and {one.counterpart.rpartition('/')[2]}": {"agreement": one.agreement, "ci": one.ci}
        for one in results.pairs
    }
    known = [one["agreement"] for one in pairs.values() if one["agreement"] is not None]
    keep("grid", {"runs": runs, "lowest_agreement": min(known, default=None), "pairs": pairs})


if __name__ == "__main__":
    main()
