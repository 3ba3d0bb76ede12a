"""The usual ways to time four equal models, and qx: how large is the error, and how long does each take?

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

from benchmarks.common import HERE, argument_parser, keep, measurements_of, run_configs
from qx.processes.workers import THREAD_VARIABLES

BARE = str(HERE / "by_hand.py")


def run_python(*arguments: str) -> str:
    """Run a Python process with one thread, and return its standard output."""
    import os

    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    process = subprocess.run(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return process.stdout


def time_in_process() -> list[float]:
    """Return the milliseconds of four models that one process times."""
    return [float(word) for word in run_python(BARE, "usual").split()]


def time_by_pyperf() -> list[float]:
    """Return the milliseconds of four models, each the mean of pyperf's values."""
    means = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):
            path = Path(folder, f"{number}.json")
            variables = ",".join(THREAD_VARIABLES)
            run_python(BARE, "pyperf", "--quiet", "--inherit-environ", variables, "-o", str(path))
            runs = json.loads(path.read_text())["benchmarks"][0]["runs"]
            means.append(1000 * float(np.mean([value for run in runs for value in run.get("values", [])])))
    return means


def errors_of(times: Sequence[float]) -> list[float]:
    """Return the absolute log ratio of each model to the first."""
    return [abs(math.log(times[0] / milliseconds)) for milliseconds in times[1:]]


def summarize(errors: Sequence[float], seconds: Sequence[float]) -> dict[str, Any]:
    """Return the size of the errors, and the seconds that a comparison of four models takes."""
    return {
        "comparisons": len(errors),
        "median_error": float(np.median(errors)),
        "mean_error": float(np.mean(errors)),
        "largest_error": float(np.max(errors)),
        "seconds": round(float(np.mean(seconds)), 1),
    }


def main() -> None:
    """Print and keep the errors and seconds of each, in turns."""
    parser = argument_parser(__doc__, runs=3)
    arguments = parser.parse_args()
    methods: dict[str, tuple[list[float], list[float]]] = {
        "one process": ([], []),
        "pyperf": ([], []),
        "qx": ([], []),
    }
    for seed in range(arguments.runs):
        for name, (errors, seconds) in methods.items():
            start = time.monotonic()
            if name == "qx":
                results, _ = run_configs(
                    arguments, ("copy_a", "copy_b", "copy_c"), ("latency",), seed, batch_sizes=(1,)
                )
                comparisons = [
                    measurement.vs_baseline
                    for measurement in measurements_of(results, "latency")
                    if not measurement.cell.endswith("/control")
                ]
                errors.extend(abs(math.log(comparison.value)) for comparison in comparisons if comparison)
            elif name == "pyperf":
                errors.extend(errors_of(time_by_pyperf()))
            else:
                # It takes seconds, so it is repeated to estimate its error more precisely.
                for _ in range(5):
                    errors.extend(errors_of(time_in_process()))
            seconds.append((time.monotonic() - start) / (5 if name == "one process" else 1))
            print(seed, name, summarize(errors, seconds), flush=True)
    keep("usual_way", {name: summarize(errors, seconds) for name, (errors, seconds) in methods.items()})


if __name__ == "__main__":
    main()
