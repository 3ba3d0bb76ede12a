"""A/A: copies of the baseline as configs. How large are their apparent gains, and do intervals hold 1?"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from benchmarks.common import argument_parser, keep, measurements_of, measuring_of, run_configs


def main() -> None:
    """Print and keep the errors and the coverage."""
    arguments = argument_parser(__doc__, runs=13).parse_args()
    errors, held, half_widths, endings, seconds, alarms = [], [], [], [], [], 0
    log_ratios: dict[str, list[float]] = defaultdict(list)
    for seed in range(arguments.runs):
        # The control is the fourth copy.
        results, _ = run_configs(arguments, ("copy_a", "copy_b", "copy_c"), ("latency",), seed)
        alarms += any(floor.alarm for floor in results.noise_floor)
        endings.append(measuring_of(results).ended_by)
        seconds.append(results.run.seconds["measure"])
        for measurement in measurements_of(results, "latency"):
            comparison = measurement.vs_baseline
            assert comparison is not None
            assert comparison.ci is not None
            low, high = comparison.ci
            errors.append(abs(comparison.value - 1))
            name = f"{measurement.config} {measurement.point}"
            log_ratios[name].append(math.log(comparison.value))
            held.append(low <= 1 <= high)
            half_widths.append((high - low) / 2)
        print(
            f"run {seed}: median error so far {np.median(errors):.2%}, held {np.mean(held):.1%}", flush=True
        )
    keep(
        "identical",
        {
            "runs": arguments.runs,
            "comparisons": len(errors),
            "median_error": float(np.median(errors)),
            "p95_error": float(np.quantile(errors, 0.95)),
            "interval_holds_1": float(np.mean(held)),
            "median_half_width": float(np.median(half_widths)),
            "ended_by_precision": endings.count("precision"),
            "alarms": alarms,
            "median_seconds": float(np.median(seconds)),
            "samples": {"log_ratios": log_ratios, "held": [bool(is_held) for is_held in held]},
        },
    )


if __name__ == "__main__":
    main()
