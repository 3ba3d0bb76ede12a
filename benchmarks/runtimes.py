"""Is the latency that qx reports the one that a hand-written script in the same runtime finds?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from attrs import evolve

from benchmarks.common import HERE, Lines, keep, options
from qx.files import cache_folder
from qx.host import Host
from qx.results import CellResult, Results
from qx.runner import Request, run
from qx.runner.processes import THREAD_VARIABLES

#: Configs, and how ``bare.py`` calls what serves them.
CONFIGS = {
    "fp32_baseline": "torch",
    "onnxruntime_fp32": "onnxruntime",
    "onnxruntime_static_int8_per_channel": "onnxruntime",
    "openvino_fp32": "openvino",
    "openvino_int8": "openvino",
    "executorch_fp32": "executorch",
    "executorch_int8": "executorch",
}
#: Processes of the script for each config, before and after the run of qx.
PROCESSES = 3


def main() -> None:
    """Print and keep latencies of both, milliseconds, and their ratios; qx and the scripts take turns."""
    arguments = options(__doc__, runs=3).parse_args()
    host = Host.discover()
    ready = {entry.name for entry in host.ready("config")}
    configs = tuple(name for name in CONFIGS if name in ready)
    request = Request(
        workload=arguments.workload,
        data=arguments.data,
        configs=configs,
        metrics=("latency",),
        batch_sizes=(1,),
    )
    ours: dict[str, list[float]] = {name: [] for name in configs}
    theirs: dict[str, list[float]] = {name: [] for name in configs}
    # For the artifacts alone: nothing is launched.
    results, _ = run(host, evolve(request, metrics=("file_size",)), Lines())
    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        images = Path(folder) / "images.npy"
        np.save(images, np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32))
        for number in range(arguments.runs):
            before = _scripts(results, configs, images)
            results, _ = run(host, request, Lines())
            after = _scripts(results, configs, images)
            for name in configs:
                ours[name].append(_latency(results, name))
                theirs[name].append(float(np.median(before[name] + after[name])))
            told = ", ".join(f"{name} {ours[name][-1] / theirs[name][-1]:.3f}" for name in configs)
            print(f"run {number}: qx / script: {told}", flush=True)
    keep(
        "runtimes",
        {
            "runs": arguments.runs,
            "workload": arguments.workload,
            "configs": {
                name: {
                    "qx_ms": float(np.median(ours[name])),
                    "script_ms": float(np.median(theirs[name])),
                    "ratio": float(np.median(np.array(ours[name]) / theirs[name])),
                    "ratios": (np.array(ours[name]) / theirs[name]).tolist(),
                }
                for name in configs
            },
        },
    )


def _scripts(results: Results, configs: tuple[str, ...], images: Path) -> dict[str, list[float]]:
    """Milliseconds that each process of the scripts found, the configs in turn."""
    cells = {cell.config: cell for cell in results.cells.values() if not cell.control}
    found: dict[str, list[float]] = {name: [] for name in configs}
    for _ in range(PROCESSES):
        for name in configs:
            found[name].append(_script(CONFIGS[name], _file(cells[name]), images))
    return found


def _script(runtime: str, path: Path, images: Path) -> float:
    command = [sys.executable, str(HERE / "bare.py"), runtime, str(path), str(images), "1"]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _file(cell: CellResult) -> Path:
    """The file of a cell's artifact that is loaded."""
    assert cell.build is not None
    return cache_folder() / "builds" / cell.build / "artifact" / next(iter(cell.artifact))


def _latency(results: Results, config: str) -> float:
    values = [
        one.value
        for one in results.measurements
        if (one.config, one.metric) == (config, "latency") and not results.cells[one.cell].control
    ]
    assert values[0] is not None
    return values[0]


if __name__ == "__main__":
    main()
