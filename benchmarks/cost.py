"""What qx costs: latency against a bare loop, in turns; and where the seconds of the default matrix go."""

from __future__ import annotations

import numpy as np

from benchmarks.beside import Script, run_beside, summarize
from benchmarks.common import Lines, argument_parser, keep, measuring_of
from qx.host.host import Host
from qx.processes.workers import MALLOC
from qx.runner import Request, run

#: The loop with the allocator's settings that qx sets for its launches, and with those of the system.
SCRIPTS = {"bare_loop": Script("torch", MALLOC), "loop_with_default_allocator": Script("torch", {})}
CONFIGS = ("dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")


def main() -> None:
    """Print and keep the ratios and the seconds."""
    arguments = argument_parser(__doc__, runs=3).parse_args()
    host = Host.discover()
    waves = []
    for seed in range(arguments.runs):
        request = Request(
            workload="digits_cnn",
            configs=("dynamic_int8",),
            metrics=("latency",),
            batch_sizes=(1,),
            seed=seed,
        )
        results, logs_by_config = run_beside(host, request, {"fp32_baseline": tuple(SCRIPTS.values())})
        waves.append(logs_by_config["fp32_baseline"])
        logs = np.concatenate(waves)
        print(f"run {seed}: {len(logs)} waves, {np.exp(logs.mean(axis=0)).round(4)}", flush=True)
    request = Request(
        workload=arguments.workload,
        data=arguments.data,
        configs=CONFIGS,
        metrics=("accuracy", "file_size", "latency", "rss"),
    )
    results, _ = run(host, request, Lines())
    keep(
        "cost",
        {
            "waves": len(logs),
            "qx_over": {name: summarize(ratios) for name, ratios in zip(SCRIPTS, logs.T, strict=True)},
            "matrix": arguments.workload,
            "matrix_seconds": results.run.seconds,
            "matrix_ended_by": measuring_of(results).ended_by,
        },
    )


if __name__ == "__main__":
    main()
