"""Is the table the same, within its intervals, whatever the order of the configs?"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from benchmarks.common import Lines, keep, options
from qx.host.host import Host
from qx.runner import Request, run

CONFIGS = ("dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")
METRICS = ("accuracy", "file_size", "latency", "rss")


def table(arguments: Any, configs: tuple[str, ...], seed: int) -> dict[str, tuple[float, float]]:
    """Against the baseline, of each config and metric: the log ratio or difference, and half its interval."""
    request = Request(
        workload=arguments.workload, data=arguments.data, configs=configs, metrics=METRICS, seed=seed
    )
    results, _ = run(Host.discover(), request, Lines())
    found = {}
    for one in results.measurements:
        if (comparison := one.vs_baseline) is None or comparison.ci is None:
            continue
        place = math.log if comparison.kind != "difference" else float
        low, high = (place(end) for end in comparison.ci)
        size = one.params.get("batch_size", "")
        found[f"{one.config} {one.metric} {size}".strip()] = (place(comparison.value), (high - low) / 2)
    return found


def main() -> None:
    """Print and keep by how much tables of different orders differ, in units of their intervals."""
    arguments = options(__doc__, runs=4).parse_args()
    orders = [CONFIGS if number % 2 == 0 else CONFIGS[::-1] for number in range(arguments.runs)]
    tables = [table(arguments, order, seed) for seed, order in enumerate(orders)]
    within, exact, worst = [], [], 0.0
    for first, second in pairwise(tables):
        for name, (value, half) in first.items():
            other, other_half = second[name]
            if not half and not other_half:
                exact.append(value == other)
                continue
            apart = abs(value - other) / math.hypot(half, other_half)
            within.append(apart <= 1)
            worst = max(worst, apart)
    keep(
        "order",
        {
            "orders": [" ".join(order) for order in orders],
            "exact_figures": len(exact),
            "exact_figures_the_same": sum(exact),
            "measured_figures": len(within),
            "measured_figures_within_their_intervals": sum(within),
            "farthest_apart_in_intervals": round(worst, 2),
        },
    )


if __name__ == "__main__":
    main()
