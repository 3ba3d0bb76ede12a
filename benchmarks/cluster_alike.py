"""Does a Ray cluster give the speedups that this machine gives without, and does it work as fast?

    python -m benchmarks.cluster_alike [--runs 10] [--more]

alternates runs without Ray with runs on a cluster of two nodes of one CPU each, both on this machine, each
with all builds anew. Without Ray two builds or evaluations go on at a time, as on the cluster. Of every pair
it takes the ratios of the seconds of builds and of evaluations, and of the speedup of each config. A run on
two CPUs takes some three minutes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.cluster_faults import MOST_SECONDS, cluster_of
from benchmarks.common import HERE, argument_parser, keep

CONFIGS = ("bf16", "dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")
EXECUTORS = ("local", "ray")
#: Number of nodes of one CPU each: as many as builds and evaluations go on at a time without Ray.
NODES = 2
PHASES = ("build", "evaluate")


def run(executor: str, words: Sequence[str], out: Path) -> dict[str, Any]:
    """Run qx in a process of its own, and return the results."""
    command = [sys.executable, "-m", "qx", "run", *words, "--out", str(out)]
    log, environment = out.with_suffix(".log"), dict(os.environ)
    with nullcontext() if executor == "local" else cluster_of(NODES) as cluster, log.open("w") as file:
        if cluster is not None:
            command += ["--executor", "auto"]
            environment["RAY_ADDRESS"] = cluster.address
        code = subprocess.run(
            command, stdout=file, stderr=file, env=environment, timeout=MOST_SECONDS
        ).returncode
    if code:
        raise RuntimeError(f"{executor}: exit code {code}: {log.read_text()[-2000:]}")
    results: dict[str, Any] = json.loads((out / "full_results.json").read_text())
    return results


def figures_of(results: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of the phases, and the speedup of each config at each point."""
    baseline = results["run"]["baseline"]
    others = {name for name, cell in results["cells"].items() if name != baseline and not cell["control"]}
    latencies = [m for m in results["measurements"] if m["metric"] == "latency" and m["cell"] in others]
    return {
        "seconds": {phase: results["run"]["seconds"][phase] for phase in PHASES},
        "waves": results["run"]["measuring"]["waves"],
        "speedups": {
            f"{m['config']} {m['point']['batch_size']}": m["vs_baseline"]["value"] for m in latencies
        },
    }


def with_interval(logs: Sequence[float]) -> list[float]:
    """Return the geometric mean of ratios from their logarithms, and its 95 % interval by Student's t."""
    values = np.asarray(logs)
    half = 0.0
    if len(values) > 1:
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    centre = values.mean()
    return [round(math.exp(value), 4) for value in (centre, centre - half, centre + half)]


def summary_of(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the ratios of the cluster's figures to those without it, over all pairs of runs."""
    seconds = {
        phase: [[pair[name]["seconds"][phase] for name in EXECUTORS] for pair in pairs] for phase in PHASES
    }
    speedups = [
        {
            name: math.log(value / pair["local"]["speedups"][name])
            for name, value in pair["ray"]["speedups"].items()
        }
        for pair in pairs
    ]
    return {
        "rate_of_the_cluster": {
            phase: with_interval([math.log(local / ray) for local, ray in both])
            for phase, both in seconds.items()
        },
        "speedup_of_the_cluster": {
            name: with_interval([row[name] for row in speedups]) for name in sorted(speedups[0])
        },
        # The configs of a run share its baseline, so the unit is the pair of runs.
        "speedups_of_the_cluster_together": with_interval([mean(row.values()) for row in speedups]),
    }


def earlier_pairs(words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the pairs of runs of these words that the file of results has."""
    file = HERE / "results" / "cluster_alike.json"
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    pairs: list[dict[str, Any]] = earlier.get("pairs", []) if earlier.get("words") == list(words) else []
    return pairs


def main() -> None:
    """Print and keep the ratios after every pair of runs."""
    parser = argument_parser(__doc__, runs=10)
    parser.add_argument("--config", "-c", action="append", default=[], help=f"default: {' '.join(CONFIGS)}")
    parser.add_argument("--budget", default="60", help="seconds of launches of each run (default: 60)")
    parser.add_argument("--more", action="store_true", help="go on from the pairs that the file has")
    arguments = parser.parse_args()
    words = [arguments.workload, "--rebuild", "--budget", arguments.budget, "-m", "latency", "-m", "accuracy"]
    words += [word for config in arguments.config or CONFIGS for word in ("-c", config)]
    place = [] if arguments.data is None else ["--data", str(arguments.data)]
    pairs = earlier_pairs(words) if arguments.more else []
    while len(pairs) < arguments.runs:
        pair = {}
        for executor in EXECUTORS if len(pairs) % 2 == 0 else EXECUTORS[::-1]:
            with tempfile.TemporaryDirectory() as folder:
                pair[executor] = figures_of(run(executor, [*words, *place], Path(folder) / "out"))
        pairs.append(pair)
        keep("cluster_alike", {"words": words, "nodes": NODES, **summary_of(pairs), "pairs": pairs})


if __name__ == "__main__":
    main()
