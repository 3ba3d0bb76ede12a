"""Is the latency that qx reports the one that a hand-written script in the same runtime finds?"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.beside import Script, run_beside, summarize
from benchmarks.common import argument_parser, keep
from qx.host.host import Host
from qx.processes.workers import MALLOC
from qx.runner import Request

#: Configs, and the name of the runtime that serves them in ``bare.py``.
CONFIGS = {
    "fp32_baseline": "torch",
    "inductor_fp32": "aot_inductor",
    "inductor_int8": "aot_inductor",
    "torchao_int8_dynamic": "aot_inductor",
    "onnxruntime_fp32": "onnxruntime",
    "onnxruntime_static_int8_per_channel": "onnxruntime",
    "openvino_fp32": "openvino",
    "openvino_int8": "openvino",
    "executorch_fp32": "executorch",
    "executorch_int8": "executorch",
    "ncnn_fp32": "ncnn",
}


def main() -> None:
    """Print and keep the ratios of qx over the scripts."""
    arguments = argument_parser(__doc__, runs=1).parse_args()
    host = Host.discover()
    ready = {entry.name for entry in host.ready("config")}
    scripts = {name: (Script(runtime, MALLOC),) for name, runtime in CONFIGS.items() if name in ready}
    waves: dict[str, list[np.ndarray]] = {name: [] for name in scripts}
    for seed in range(arguments.runs):
        request = Request(
            workload=arguments.workload,
            data=arguments.data,
            configs=tuple(scripts),
            metrics=("latency",),
            batch_sizes=(1,),
            seed=seed,
        )
        _, logs_by_config = run_beside(host, request, scripts)
        for name, logs in logs_by_config.items():
            waves[name].append(logs[:, 0])
        ratios = ", ".join(f"{name} {math.exp(logs.mean()):.3f}" for name, logs in logs_by_config.items())
        print(f"run {seed}: qx / script: {ratios}", flush=True)
    keep(
        "runtimes",
        {
            "workload": arguments.workload,
            "configs": {name: summarize(np.concatenate(logs)) for name, logs in waves.items() if logs},
        },
    )


if __name__ == "__main__":
    main()
