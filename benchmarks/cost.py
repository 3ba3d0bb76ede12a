"""What qx costs: latency against a bare loop, in turns; and where the seconds of the default matrix go."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.common import Lines, keep, options
from benchmarks.usual_way import BARE, ran
from qx.host import Host
from qx.runner import Request, run

CONFIGS = ("dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")


def main() -> None:
    """Print and keep the ratios and the seconds."""
    arguments = options(__doc__, runs=8).parse_args()
    host, ratios = Host.discover(), []
    for seed in range(arguments.runs):
        # Half of the loops before and half after, so that a slow drift of the machine is shared.
        before = [float(ran(BARE, "loop")) for _ in range(3)]
        request = Request(
            workload="digits_cnn",
            configs=("dynamic_int8",),
            metrics=("latency",),
            batch_sizes=(1,),
            quick=True,
            seed=seed,
        )
        results, _ = run(host, request, Lines())
        after = [float(ran(BARE, "loop")) for _ in range(3)]
        (ours,) = (one for one in results.measurements if one.cell == results.run["baseline"])
        assert ours.value is not None
        ratios.append(ours.value / float(np.median(before + after)))
        print(f"pair {seed}: {ratios[-1]:.4f}", flush=True)
    logs = np.log(ratios)
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
            "pairs": len(ratios),
            "qx_over_bare_loop": math.exp(logs.mean()),
            "standard_error": float(logs.std(ddof=1) / math.sqrt(len(logs))),
            "matrix": arguments.workload,
            "matrix_seconds": results.run["seconds"],
            "matrix_ended_by": results.run["measuring"]["ended_by"],
            "samples": {"ratios": ratios},
        },
    )


if __name__ == "__main__":
    main()
