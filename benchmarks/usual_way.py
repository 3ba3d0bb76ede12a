"""The usual ways to time four equal models, and qx: how wrong is each, and how long does it take?

(a) one process, one model after another, 10 calls to warm up and 200 timed; (b) pyperf at its defaults, once
for each model; (c) qx. The error is the absolute log ratio of two equal models. Needs pyperf.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import HERE, keep, measured, of, options
from qx.processes.workers import THREAD_VARIABLES

BARE = str(HERE / "by_hand.py")


def ran(*arguments: str) -> str:
    """Standard output of a Python process that computes with one thread."""
    import os

    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def one_process() -> list[float]:
    """Milliseconds of four models."""
    return [float(word) for word in ran(BARE, "usual").split()]


def by_pyperf() -> list[float]:
    """Milliseconds of four models, the mean of pyperf's values."""
    means = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):
            path = Path(folder, f"{number}.json")
            ran(BARE, "pyperf", "--quiet", "--inherit-environ", ",".join(THREAD_VARIABLES), "-o", str(path))
            runs = json.loads(path.read_text())["benchmarks"][0]["runs"]
            means.append(1000 * float(np.mean([value for one in runs for value in one.get("values", [])])))
    return means


def errors(times: Sequence[float]) -> list[float]:
    """Of each model against the first."""
    return [abs(math.log(times[0] / one)) for one in times[1:]]


def told(found: Sequence[float], seconds: Sequence[float]) -> dict[str, Any]:
    """Their size, and what one comparison of four models costs."""
    return {
        "comparisons": len(found),
        "median_error": float(np.median(found)),
        "mean_error": float(np.mean(found)),
        "largest_error": float(np.max(found)),
        "seconds": round(float(np.mean(seconds)), 1),
    }


def main() -> None:
    """Print and keep the errors and seconds of each, in turns."""
    parser = options(__doc__, runs=3)
    arguments = parser.parse_args()
    ways: dict[str, tuple[list[float], list[float]]] = {
        "one process": ([], []),
        "pyperf": ([], []),
        "qx": ([], []),
    }
    for seed in range(arguments.runs):
        for name, found in ways.items():
            began = time.monotonic()
            if name == "qx":
                results, _ = measured(
                    arguments, ("copy_a", "copy_b", "copy_c"), ("latency",), seed, batch_sizes=(1,)
                )
                copies = [one for one in of(results, "latency") if not one.cell.endswith("/control")]
                found[0].extend(abs(math.log(one.vs_baseline.value)) for one in copies if one.vs_baseline)
            elif name == "pyperf":
                found[0].extend(errors(by_pyperf()))
            else:
                # It is over in seconds: the more often it is asked, the surer its error is known.
                for _ in range(5):
                    found[0].extend(errors(one_process()))
            found[1].append((time.monotonic() - began) / (5 if name == "one process" else 1))
            print(seed, name, told(*found), flush=True)
    keep("usual_way", {name: told(*found) for name, found in ways.items()})


if __name__ == "__main__":
    main()
