"""How fast is the fastest config that keeps the accuracy, and how far from what the processor can do?"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import HERE, Lines, argument_parser, keep
from qx.environment import cpu_flags
from qx.host.host import Host
from qx.results.records import Comparison, Results
from qx.runner import Request, run

#: Points of accuracy that a config may lose.
POINTS = 0.5
#: CPU flags with which ``peak.c`` can be compiled, and the compiler's options for each.
VNNI = {"avx512_vnni": ("-mavx512f", "-mavx512vnni"), "avx_vnni": ("-mavx2", "-mavxvnni")}
REPETITIONS, TRIES = 20_000_000, 5


def main() -> None:
    """Print and keep every config's speedup, accuracy and share of the peak, at batch 1 with one thread."""
    parser = argument_parser(__doc__, runs=1)
    parser.set_defaults(workload="cifar10_cnn")
    parser.add_argument("--config", action="append", dest="configs", default=[])
    arguments = parser.parse_args()
    request = Request(
        workload=arguments.workload,
        data=arguments.data,
        configs=tuple(arguments.configs),
        metrics=("accuracy", "latency"),
        batch_sizes=(1,),
    )
    peak_before = measure_peak()
    results, _ = run(Host.discover(), request, Lines())
    peak = max(peak_before, measure_peak())
    operations = multiply_adds()
    ideal = 1000 * operations / peak
    rows: dict[str, dict[str, Any]] = {
        config: {
            "latency_ms": latency,
            "speedup": speedup.value,
            "speedup_ci": speedup.ci,
            "points": 100 * accuracy.value,
            "share_of_peak": ideal / latency,
        }
        for config, latency, speedup, accuracy in _rows(results)
    }
    accurate = {config: row for config, row in rows.items() if row["points"] >= -POINTS}
    keep(
        "fastest",
        {
            "workload": arguments.workload,
            "multiply_adds": operations,
            "peak_multiply_adds_per_second": peak,
            "ideal_ms": ideal,
            "fastest": max(accurate, key=lambda config: accurate[config]["speedup"]) if accurate else None,
            "configs": dict(sorted(rows.items(), key=lambda item: -item[1]["speedup"])),
        },
    )


def _rows(results: Results) -> list[tuple[str, float, Comparison, Comparison]]:
    """Return each config with its latency, and how latency and accuracy compare with the baseline's."""
    measurements = {
        (measurement.config, measurement.metric): measurement
        for measurement in results.measurements
        if not results.cells[measurement.cell].control
    }
    rows = []
    for config in results.configs:
        latency, accuracy = measurements[config, "latency"], measurements[config, "accuracy"]
        if latency.value is None or latency.vs_baseline is None or accuracy.vs_baseline is None:
            continue
        rows.append((config, latency.value, latency.vs_baseline, accuracy.vs_baseline))
    return rows


def measure_peak() -> float:
    """Return 8-bit multiply-adds a second of one thread, the best of some tries. Raises without VNNI."""
    flags = next((options for flag, options in VNNI.items() if flag in cpu_flags()), None)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if flags is None or compiler is None:
        raise SystemExit("this needs a CPU with VNNI and a C compiler")
    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        library = Path(folder) / "peak.so"
        command = [compiler, "-O2", *flags, "-shared", "-fPIC", str(HERE / "peak.c"), "-o", str(library)]
        subprocess.run(command, check=True)
        code = ctypes.CDLL(str(library))
        code.peak_seconds.restype = ctypes.c_double
        code.peak_seconds.argtypes = [ctypes.c_long]
        seconds = min(code.peak_seconds(REPETITIONS) for _ in range(TRIES))
        return float(REPETITIONS * code.peak_width() / seconds)


def multiply_adds() -> int:
    """Return the multiply-adds of one image in the network of the built-in workloads."""
    import torch
    from qx_plugins.networks.cifar_cnn import CifarCNN
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        CifarCNN().eval()(torch.zeros(1, 3, 32, 32))
    return int(counter.get_total_flops()) // 2


if __name__ == "__main__":
    main()
