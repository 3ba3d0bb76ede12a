"""A known share of work is added to the baseline: is it found, and is it sized?"""

from __future__ import annotations

import numpy as np

from benchmarks.common import keep, measured, of, options

#: Configs, and what they add to the time of a call.
TRUTH = {"slower_3": 0.03, "slower_5": 0.05}


def main() -> None:
    """Print and keep how often each was found and how far off its size was."""
    arguments = options(__doc__, runs=10).parse_args()
    found: dict[str, list[bool]] = {name: [] for name in TRUTH}
    sizes: dict[str, list[float]] = {name: [] for name in TRUTH}
    for seed in range(arguments.runs):
        results, _ = measured(arguments, tuple(TRUTH), ("latency",), seed, batch_sizes=(1,))
        for one in of(results, "latency"):
            if one.config not in TRUTH or one.vs_baseline is None or one.vs_baseline.ci is None:
                continue
            found[one.config].append(one.vs_baseline.ci[1] < 1)
            sizes[one.config].append(1 / one.vs_baseline.value - 1)
        print(f"run {seed}: " + ", ".join(f"{name} {sizes[name][-1]:+.2%}" for name in TRUTH), flush=True)
    keep(
        "slowdown",
        {
            "runs": arguments.runs,
            **{
                name: {
                    "truth": truth,
                    "found": sum(found[name]),
                    "mean_size": float(np.mean(sizes[name])),
                    "within_a_point": int(np.sum(np.abs(np.array(sizes[name]) - truth) <= 0.01)),
                    "largest_error": float(np.max(np.abs(np.array(sizes[name]) - truth))),
                    "sizes": sizes[name],
                }
                for name, truth in TRUTH.items()
            },
        },
    )


if __name__ == "__main__":
    main()
