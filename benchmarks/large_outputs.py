"""How much memory do host and workers take in a run whose outputs are larger than what they should take?"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import dedent

import psutil

#: Number of cells, and elements of the output of an item.
CELLS, ELEMENTS = 3, 1 << 16

WORKLOAD = """
    import numpy as np
    from qx import Data, Metric, Samples, Workload, hookimpl
    @hookimpl
    def describe():
        return Workload(name="wide", summary="A model with large outputs.", random_weights=True)
    @hookimpl
    def make_model():
        import torch
        return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, {elements}))
    @hookimpl
    def load_data(split):
        generator = np.random.default_rng(0)
        return Data(inputs={{"x": generator.normal(size=({items}, 8)).astype(np.float32)}})
    @hookimpl
    def example_inputs(batch_size):
        import torch
        return torch.zeros(batch_size, 8),
"""

METRIC = """
    import numpy as np
    from qx import Metric, hookimpl
    @hookimpl
    def describe():
        return Metric(
            name="spread", summary="Spread of the elements.", unit="points", better="neither",
            samples="per_item", compare="difference", phase="predictions", by_parts={by_parts},
        )
    @hookimpl
    def measure(data):
        values = next(iter(data.outputs.values())).astype(float)
        return np.square(values - values.mean(axis=1, keepdims=True)).mean(axis=1)
"""


def private(process: psutil.Process) -> float:
    """Return the private resident memory of a process that belongs to no file, in MiB; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(match[1]) / 1024 if match else 0.0


def peaks(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command, and return the largest private memory of it and of any process that it starts."""
    host, workers = 0.0, 0.0
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        process = psutil.Process(run.pid)
        while run.poll() is None:
            host = max(host, private(process))
            try:
                children = process.children(recursive=True)
            except psutil.NoSuchProcess:
                break
            workers = max(workers, *map(private, children), 0.0)
            time.sleep(0.02)
    if run.returncode:
        raise SystemExit(f"the run ended with {run.returncode}")
    return host, workers


def main() -> None:
    """Measure runs with outputs of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[20, 2000], help="outputs of all cells")
    parser.add_argument("--whole", action="store_true", help="a metric that is not measured in parts")
    arguments = parser.parse_args()
    print(f"{'outputs':>10} {'host':>10} {'largest worker':>16} {'seconds':>9}")
    for size in arguments.megabytes:
        items = max(10, size * 10**6 // (4 * ELEMENTS * CELLS))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            workload = dedent(WORKLOAD).format(items=items, elements=ELEMENTS)
            (folder / "wide.py").write_text(workload)
            (folder / "spread.py").write_text(dedent(METRIC).format(by_parts=not arguments.whole))
            began = time.monotonic()
            host, workers = peaks(
                [
                    *(sys.executable, "-m", "qx", "run", "-p", "wide.py", "-p", "spread.py"),
                    *("--workload", "wide", "-c", "dynamic_int8", "-c", "bf16"),
                    *("-m", "spread", "-m", "sqnr", "--budget", "0.01", "--quick", "--out", "out"),
                ],
                folder,
            )
            seconds = time.monotonic() - began
        print(f"{size:>7} MB {host:>6.0f} MiB {workers:>12.0f} MiB {seconds:>9.0f}")


if __name__ == "__main__":
    main()
