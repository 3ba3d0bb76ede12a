"""How fast is the fastest config that keeps the accuracy, and how far from what the processor can do?"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import HERE, Lines, keep, options
from qx.environment import cpu_flags
from qx.host.host import Host
from qx.results.records import Comparison, Results
from qx.runner import Request, run

#: Points of accuracy that a config may lose.
POINTS = 0.5
#: CPU flags with which ``peak.c`` can be compiled, and how the compiler calls them.
VNNI = {"avx512_vnni": ("-mavx512f", "-mavx512vnni"), "avx_vnni": ("-mavx2", "-mavxvnni")}
REPETITIONS, TRIES = 20_000_000, 5


def main() -> None:
    """Print and keep every config's speedup, accuracy and share of the peak, at batch 1 with one thread."""
    parser = options(__doc__, runs=1)
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
    before = measured_peak()
    results, _ = run(Host.discover(), request, Lines())
    peak = max(before, measured_peak())
    operations = multiply_adds()
    ideal = 1000 * operations / peak
    rows: dict[str, dict[str, Any]] = {
        config: {
            "latency_ms": latency,
            "speedup": faster.value,
            "speedup_ci": faster.ci,
            "points": 100 * accurate.value,
            "share_of_peak": ideal / latency,
        }
        for config, latency, faster, accurate in _rows(results)
    }
    kept = {config: row for config, row in rows.items() if row["points"] >= -POINTS}
    keep(
        "fastest",
        {
            "workload": arguments.workload,
            "multiply_adds": operations,
            "peak_multiply_adds_per_second": peak,
            "ideal_ms": ideal,
            "fastest": max(kept, key=lambda config: kept[config]["speedup"]) if kept else None,
            "configs": dict(sorted(rows.items(), key=lambda item: -item[1]["speedup"])),
        },
    )


def _rows(results: Results) -> list[tuple[str, float, Comparison, Comparison]]:
    """Config, latency, and how latency and accuracy compare with the baseline's."""
    found = {
        (one.config, one.metric): one for one in results.measurements if not results.cells[one.cell].control
    }
    rows = []
    for config in results.configs:
        latency, accuracy = found[config, "latency"], found[config, "accuracy"]
        if latency.value is None or latency.vs_baseline is None or accuracy.vs_baseline is None:
            continue
        rows.append((config, latency.value, latency.vs_baseline, accuracy.vs_baseline))
    return rows


def measured_peak() -> float:
    """8-bit multiply-adds a second of one thread, the best of some tries; raises where there is no VNNI."""
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
    """Of one image in the network of the built-in workloads."""
    import torch
    from qx_plugins.networks.cifar_cnn import CifarCNN
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        CifarCNN().eval()(torch.zeros(1, 3, 32, 32))
    return int(counter.get_total_flops()) // 2


if __name__ == "__main__":
    main()
