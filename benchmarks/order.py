"""Is the table the same, within its intervals, for every order of the configs?"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from benchmarks.common import Lines, argument_parser, keep
from qx.host.host import Host
from qx.runner import Request, run

CONFIGS = ("dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")
METRICS = ("accuracy", "file_size", "latency", "rss")


def table(arguments: Any, configs: tuple[str, ...], seed: int) -> dict[str, tuple[float, float]]:
    """Return by config and metric the log ratio or difference to the baseline, and its half width."""
    request = Request(
        workload=arguments.workload, data=arguments.data, configs=configs, metrics=METRICS, seed=seed
    )
    results, _ = run(Host.discover(), request, Lines())
    rows = {}
    for measurement in results.measurements:
        if (comparison := measurement.vs_baseline) is None or comparison.ci is None:
            continue
        scale = math.log if comparison.kind != "difference" else float
        low, high = (scale(end) for end in comparison.ci)
        size = measurement.point.batch_size if measurement.point else ""
        name = f"{measurement.config} {measurement.metric} {size}".strip()
        rows[name] = (scale(comparison.value), (high - low) / 2)
    return rows


def main() -> None:
    """Print and keep by how much tables of different orders differ, in units of their intervals."""
    arguments = argument_parser(__doc__, runs=4).parse_args()
    orders = [CONFIGS if number % 2 == 0 else CONFIGS[::-1] for number in range(arguments.runs)]
    tables = [table(arguments, order, seed) for seed, order in enumerate(orders)]
    within, equal, worst = [], [], 0.0
    for first, second in pairwise(tables):
        for name, (value, half) in first.items():
            other, other_half = second[name]
            if not half and not other_half:
                equal.append(value == other)
                continue
            distance = abs(value - other) / math.hypot(half, other_half)
            within.append(distance <= 1)
            worst = max(worst, distance)
    keep(
        "order",
        {
            "orders": [" ".join(order) for order in orders],
            "exact_figures": len(equal),
            "exact_figures_the_same": sum(equal),
            "measured_figures": len(within),
            "measured_figures_within_their_intervals": sum(within),
            "farthest_apart_in_intervals": round(worst, 2),
        },
    )


if __name__ == "__main__":
    main()
