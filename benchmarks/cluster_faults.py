"""Kill a node of a Ray cluster in each phase of a run, and count what the results have.

The cluster is one of three nodes on this machine, each a raylet with CPUs and an object store of its own. No
time is measured: nodes that share a machine disturb each other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.common import HERE, keep
from qx.runner.journal import FILE, FOLDER, BuildRecord, EvaluationRecord, WaveRecord
from qx.storage.journal_file import read_records

#: The phases in which a node is killed.
PHASES = ("build", "evaluate", "measure")
#: Number of nodes beside the head, which takes no tasks, and size of the object store of each in bytes.
NODES, STORE = 3, 80 << 20
#: Longest time of one run, in seconds.
MOST_SECONDS = 1800.0


@contextmanager
def cluster_of(nodes: int, *, head_cpus: int = 0, store: int = STORE) -> Iterator[Any]:
    """Yield a cluster of ``ray.cluster_utils`` with nodes of one CPU each beside the head.

    ``store`` is the size of the object store of each in bytes. All end with the context.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    ray = import_module("ray")
    head = {"num_cpus": head_cpus, "object_store_memory": store, "include_dashboard": False}
    cluster = import_module("ray.cluster_utils").Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes):
            add_node(cluster, store)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def add_node(cluster: Any, store: int = STORE) -> None:
    """Add a node of one CPU, with an object store of so many bytes."""
    cluster.add_node(num_cpus=1, object_store_memory=store)


def busy_node(cluster: Any) -> Any | None:
    """Return a node that is at work; None where none is."""
    free = import_module("ray._private.state").available_resources_per_node()
    nodes = [node for node in cluster.worker_nodes if free.get(node.node_id, {}).get("CPU", 0) < 1]
    return nodes[0] if nodes else None


def run_with_kills(cluster: Any, words: list[str], phases: Sequence[str], out: Path) -> dict[str, Any]:
    """Run qx on a cluster, kill a node that is at work in each phase, and return what the results have.

    Another node takes the place of each but the last.
    """
    # Which nodes are at work is known to those alone who take part.
    import_module("ray").init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    command = [sys.executable, "-m", "qx", "run", *words, "--executor", "auto", "--out", str(out)]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    with (out.with_suffix(".log")).open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        killed = []
        for number, phase in enumerate(phases):
            if number:
                add_node(cluster)
            killed.append(kill_in(cluster, process, phase, out))
        code = process.wait(MOST_SECONDS)
    text = out.with_suffix(".log").read_text()
    if not (out / "full_results.json").is_file():
        raise RuntimeError(f"no results with exit code {code}: {text[-3000:]}")
    results = json.loads((out / "full_results.json").read_text())
    return {"phases": list(phases), "killed": killed, "code": code, **counts(results)}


def kill_in(cluster: Any, process: subprocess.Popen[bytes], phase: str, out: Path) -> str:
    """Kill a node that is at work in a phase; return its id.

    Raises ``RuntimeError`` where the run ends before.
    """
    while process.poll() is None:
        if phase == phase_of(out) and (node := busy_node(cluster)) is not None:
            identity = str(node.node_id)
            cluster.remove_node(node, allow_graceful=False)
            return identity
        time.sleep(0.1)
    raise RuntimeError(f"the run has ended with {process.returncode} before its phase {phase!r}")


def phase_of(out: Path) -> str | None:
    """Return the phase of a run by what its journal has: that of the record that comes next."""
    try:
        entries = list(import_module("qx.runner.journal")._entries(read_records(out / FOLDER / FILE)[0]))
    except (OSError, ValueError):
        return None
    kinds = Counter(type(entry.record) for entry in entries)
    if kinds[WaveRecord]:
        return "measure"
    if kinds[EvaluationRecord]:
        return "evaluate"
    return "build" if kinds[BuildRecord] else None


def counts(results: dict[str, Any]) -> dict[str, Any]:
    """Return how many cells ended well, and how many waves, launches and lost tasks there are."""
    cells = [cell for cell in results["cells"].values() if not cell["control"]]
    waves = {
        name: (record["measuring"] or results["run"]["measuring"])["waves"]
        for name, record in results["run"]["workloads"].items()
    }
    names = {name for name, cell in results["cells"].items() if not cell["control"]}
    latencies = [m for m in results["measurements"] if m["metric"] == "latency" and m["cell"] in names]
    cluster = results["run"]["cluster"]
    return {
        "cells": len(cells),
        "ok": sum(cell["outcome"] == "ok" for cell in cells),
        "failures": results["run"]["failures"],
        "waves": waves,
        # Of each cell as many launches as its workload has waves: none is missing, none counts twice.
        "launches_as_waves": bool(latencies) and all(m["n"] == waves[m["workload"]] for m in latencies),
        "jobs": sum(node["jobs"] for node in cluster["nodes"]),
        "lost": [[lost["task"], lost["cause"]] for lost in cluster["lost"]],
    }


def main() -> None:
    """Print and keep what the results of each run have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="kills in each phase (default: 1)")
    parser.add_argument("--together", action="store_true", help="a kill in each phase of every run")
    parser.add_argument("--more", action="store_true", help="go on from the runs that the file has")
    parser.add_argument("--workload", action="append", default=[], help="default: digits_cnn")
    parser.add_argument("--config", action="append", default=[], help="default: two that are built quickly")
    arguments = parser.parse_args()
    words = ["--quick", "--budget", "1", "--rebuild", "-m", "latency", "-m", "file_size", "--batch-size", "1"]
    for workload in arguments.workload or ["digits_cnn"]:
        words += ["--workload", workload]
    for config in arguments.config or ["dynamic_int8", "static_int8_per_tensor"]:
        words += ["-c", config]
    rows: list[dict[str, Any]] = []
    if arguments.more:
        earlier = json.loads((HERE / "results" / "cluster_faults.json").read_text(encoding="utf-8"))
        assert earlier["words"] == words, "the file has runs of other words"
        rows = earlier["runs"]
    kills: list[tuple[str, ...]] = [PHASES] if arguments.together else [(phase,) for phase in PHASES]
    for phases in [(), *kills * arguments.times][len(rows) :]:
        with tempfile.TemporaryDirectory() as folder, cluster_of(NODES) as cluster:
            rows.append(run_with_kills(cluster, words, phases, Path(folder) / "out"))
        keep("cluster_faults", {"words": words, "runs": rows})


if __name__ == "__main__":
    main()
