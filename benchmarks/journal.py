"""What the journal of a run costs: seconds of a run with it and without it, side by side.

Runs alternate, with builds in the cache. The seconds that writing took are counted within the run too: they
are a lower bound of the cost, without what a sync does to the work beside it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import Lines, argument_parser, keep
from qx.host.host import Host
from qx.runner import Request, run
from qx.runner.journal import FILE, Journal, head_of

CONFIGS = ("dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")


def main() -> None:
    """Print and keep the shares."""
    arguments = argument_parser(__doc__, runs=5).parse_args()
    host = Host.discover()
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    writing: list[float] = []
    size = waves = 0
    for number in range(arguments.runs + 1):
        for name in ("with", "without") if number % 2 else ("without", "with"):
            request = Request(
                workload=arguments.workload,
                data=arguments.data,
                configs=CONFIGS,
                metrics=("accuracy", "file_size", "latency", "rss"),
                seed=number,
            )
            with tempfile.TemporaryDirectory() as folder:
                journal = Journal.begin(Path(folder), head_of(())) if name == "with" else None
                began = time.monotonic()
                results, _ = run(host, request, Lines(), journal=journal)
                took = time.monotonic() - began
                measuring = results.run.measuring
                assert measuring is not None
                waves = measuring.waves
                if journal is not None:
                    assert journal.folder is not None
                    size = (journal.folder / FILE).stat().st_size
                    journal.close()
            # The first pair builds.
            if number:
                seconds[name].append(took)
                if journal is not None:
                    writing.append(journal.seconds / took)
                print(f"{name}: {took:.1f} s, {waves} waves", flush=True)
    ratios = np.log(np.array(seconds["with"]) / np.array(seconds["without"]))
    keep(
        "journal",
        {
            "workload": arguments.workload,
            "runs": arguments.runs,
            "seconds": seconds,
            "share_of_writing": {"median": float(np.median(writing)), "largest": max(writing)},
            "ratio_with_to_without": {
                "mean": float(np.exp(ratios.mean())),
                "standard_error": float(ratios.std(ddof=1) / np.sqrt(len(ratios)))
                if len(ratios) > 1
                else None,
            },
            "bytes": size,
            "waves": waves,
        },
    )


if __name__ == "__main__":
    main()
