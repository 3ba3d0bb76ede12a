"""A/A: copies of the baseline as configs. What they appear to gain is error; does the interval know it?"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from benchmarks.common import keep, measured, of, options


def main() -> None:
    """Print and keep the errors and the coverage."""
    arguments = options(__doc__, runs=13).parse_args()
    errors, held, widths, ended, seconds, alarms = [], [], [], [], [], 0
    signed: dict[str, list[float]] = defaultdict(list)
    for seed in range(arguments.runs):
        # The control is the fourth copy.
        results, _ = measured(arguments, ("copy_a", "copy_b", "copy_c"), ("latency",), seed)
        alarms += any(floor.alarm for floor in results.noise_floor)
        ended.append(results.run["measuring"]["ended_by"])
        seconds.append(results.run["seconds"]["measure"])
        for one in of(results, "latency"):
            comparison = one.vs_baseline
            assert comparison is not None
            assert comparison.ci is not None
            low, high = comparison.ci
            errors.append(abs(comparison.value - 1))
            signed[f"{one.config} {one.params['batch_size']}"].append(math.log(comparison.value))
            held.append(low <= 1 <= high)
            widths.append((high - low) / 2)
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
            "median_half_width": float(np.median(widths)),
            "ended_by_precision": ended.count("precision"),
            "alarms": alarms,
            "median_seconds": float(np.median(seconds)),
            "samples": {"log_ratios": signed, "held": [bool(one) for one in held]},
        },
    )


if __name__ == "__main__":
    main()
