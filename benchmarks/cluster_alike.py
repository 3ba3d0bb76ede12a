"""Does a Ray cluster work as fast as this machine does without, and does it give the same speedups?

    python -m benchmarks.cluster_alike rate [--runs 5] [--more]
    python -m benchmarks.cluster_alike speedups [--runs 10] [--more]

alternates runs without Ray with runs on a cluster of two nodes of one CPU each, both on this machine.
``rate`` has all builds made anew and evaluated, and times nothing else: without Ray two builds or evaluations
go on at a time, as on the cluster. Of every pair of runs it takes the ratios of the seconds of both phases.
``speedups`` takes the builds from the cache, and of every pair of runs the ratio of each config's speedups.
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

#: Configs of each part, unless others are named.
CONFIGS = {
    # None that compiles: the last of these would be alone for half a minute, here or there.
    "rate": (
        *("fp32_baseline", "dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel"),
        *("bf16", "fx_static_int8", "onnxruntime_fp32", "onnxruntime_dynamic_int8"),
        *("onnxruntime_static_int8_per_tensor", "onnxruntime_static_int8_per_channel", "openvino_fp32"),
        *("openvino_int8", "executorch_fp32", "executorch_int8", "ncnn_fp32", "ncnn_fp16"),
    ),
    "speedups": ("bf16", "dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel"),
}
#: Words of the runs of each part: which metrics they measure, and how long.
WORDS = {
    "rate": ("--rebuild", "-m", "accuracy", "-m", "file_size"),
    "speedups": ("-m", "latency", "--eval-n", "100", "--budget"),
}
EXECUTORS = ("local", "ray")
#: Number of nodes of one CPU each, the head among them: as many as builds and evaluations go on at a time
#: without Ray.
NODES = 2
PHASES = ("build", "evaluate")
#: Size of the object store of each node in bytes: the items of CIFAR-10 fit.
STORE = 400 << 20


def run(executor: str, words: Sequence[str], out: Path) -> dict[str, Any]:
    """Run qx in a process of its own, and return the results."""
    command = [sys.executable, "-m", "qx", "run", *words, "--out", str(out)]
    log, environment = out.with_suffix(".log"), dict(os.environ)
    with (
        nullcontext() if executor == "local" else cluster_of(NODES - 1, head_cpus=1, store=STORE) as cluster,
        log.open("w") as file,
    ):
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
    failed = [name for name, cell in results["cells"].items() if cell["outcome"] != "ok"]
    if failed:
        raise RuntimeError(f"these cells failed: {failed}")
    return {
        "seconds": {phase: results["run"]["seconds"][phase] for phase in PHASES},
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


def rates_of(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the ratio of the cluster's rate to that without it, of each phase and of both together."""
    phases = {phase: (phase,) for phase in PHASES} | {"both": PHASES}
    return {
        name: with_interval(
            [
                math.log(
                    sum(pair["local"]["seconds"][phase] for phase in parts)
                    / sum(pair["ray"]["seconds"][phase] for phase in parts)
                )
                for pair in pairs
            ]
        )
        for name, parts in phases.items()
    }


def speedups_of(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the ratio of the cluster's speedup to that without it, of each config and of all together."""
    logs = [
        {
            name: math.log(value / pair["local"]["speedups"][name])
            for name, value in pair["ray"]["speedups"].items()
        }
        for pair in pairs
    ]
    return {
        **{name: with_interval([row[name] for row in logs]) for name in sorted(logs[0])},
        # The configs of a run share its baseline, so the unit is the pair of runs.
        "together": with_interval([mean(row.values()) for row in logs]),
    }


SUMMARIES = {"rate": rates_of, "speedups": speedups_of}


def earlier_results() -> dict[str, Any]:
    """Return what the file of results has of each part."""
    file = HERE / "results" / "cluster_alike.json"
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {part: earlier[part] for part in WORDS if part in earlier}


def main() -> None:
    """Print and keep the ratios after every pair of runs."""
    parser = argument_parser(__doc__, runs=10)
    parser.add_argument("part", choices=WORDS, help="what is compared")
    parser.add_argument("--config", "-c", action="append", default=[], help="default: those of the part")
    parser.add_argument("--budget", default="60", help="seconds of launches of each run (default: 60)")
    parser.add_argument("--more", action="store_true", help="go on from the pairs that the file has")
    arguments = parser.parse_args()
    part = arguments.part
    words = [arguments.workload, *WORDS[part], *([arguments.budget] if WORDS[part][-1] == "--budget" else [])]
    words += [word for config in arguments.config or CONFIGS[part] for word in ("-c", config)]
    place = [] if arguments.data is None else ["--data", str(arguments.data)]
    results = earlier_results()
    earlier = results.get(part, {})
    pairs = earlier.get("pairs", []) if arguments.more and earlier.get("words") == words else []
    while len(pairs) < arguments.runs:
        pair = {}
        for executor in EXECUTORS if len(pairs) % 2 == 0 else EXECUTORS[::-1]:
            with tempfile.TemporaryDirectory() as folder:
                pair[executor] = figures_of(run(executor, [*words, *place], Path(folder) / "out"))
        pairs.append(pair)
        results[part] = {"words": words, "nodes": NODES, "ratios": SUMMARIES[part](pairs), "pairs": pairs}
        keep("cluster_alike", results)


if __name__ == "__main__":
    main()
