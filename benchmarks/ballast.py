"""64 MiB are added to the memory of a config: are they found, whatever the order of the launches?"""

from __future__ import annotations

import numpy as np

from benchmarks.common import keep, measured, options


def main() -> None:
    """Print and keep the differences to the baseline, MiB."""
    arguments = options(__doc__, runs=5).parse_args()
    rss, private = [], []
    for seed in range(arguments.runs):
        results, _ = measured(arguments, ("heavier_64",), ("rss",), seed)
        by_config = {one.cell.rpartition("/")[2]: one for one in results.measurements}
        heavier, baseline = by_config["heavier_64"], by_config[results.run["baseline"].rpartition("/")[2]]
        assert heavier.value is not None
        assert baseline.value is not None
        rss.append(heavier.value - baseline.value)
        # Once loaded: later stages hold scratch memory of kernels, megabytes more or less in each launch.
        loaded = [one.details["stages"]["load"]["private"] for one in (heavier, baseline)]
        private.append(loaded[0] - loaded[1])
        print(f"seed {seed}: rss {rss[-1]:+.2f} MiB, private {private[-1]:+.2f} MiB", flush=True)
    keep(
        "ballast",
        {
            "runs": arguments.runs,
            "truth_mib": 64,
            "rss_mib": rss,
            "private_mib": private,
            "largest_error_rss": float(np.max(np.abs(np.array(rss) - 64))),
            "largest_error_private": float(np.max(np.abs(np.array(private) - 64))),
        },
    )


if __name__ == "__main__":
    main()
