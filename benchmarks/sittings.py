"""How often sittings that do not differ count as different, and what intervals over several sittings hold.

Waves are simulated: a normal error for each wave, and one for each sitting. No time is measured.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.common import keep
from qx.statistics.over_sittings import ALPHA, difference_p, mean_over_sittings
from qx.statistics.over_waves import ratio_interval

#: Numbers of waves of each sitting.
SITTINGS = ((3, 3), (6, 6), (3, 12), (6, 24), (4, 6, 5), (6, 6, 6, 6), (3, 3, 3, 3, 3, 3))
#: Standard deviations of what all waves of a sitting share, as shares of that of waves.
SHARED = (0.0, 0.5, 1.0, 2.0, 4.0)
#: Ratio of the noise of the last sitting to that of the others.
NOISIER = 2.0


def simulate(counts: tuple[int, ...], shared: float, runs: int, generator: np.random.Generator) -> Any:
    """Return the share of runs in which sittings count as different, and coverages of 95 % intervals."""
    sittings = np.repeat(np.arange(len(counts)), counts)
    noise = np.where(sittings == len(counts) - 1, NOISIER, 1.0)
    alarms = held = pooled_held = 0
    widths: list[float] = []
    for _ in range(runs):
        values = shared * generator.normal(size=len(counts))[sittings] + noise * generator.normal(
            size=len(sittings)
        )
        pooled = ratio_interval(0.01 * values).ci
        assert pooled is not None
        pooled_holds = pooled[0] <= 1.0 <= pooled[1]
        pooled_held += pooled_holds
        if difference_p(values, sittings) < ALPHA:
            alarms += 1
            mean, half, _ = mean_over_sittings(values, sittings, 0.95)
            held += bool(abs(mean) <= half)
            widths.append(float(half))
        else:
            held += pooled_holds
            widths.append(float(np.log(pooled[1] / pooled[0])) / 2 / 0.01)
    return {
        "different": alarms / runs,
        "coverage": held / runs,
        "coverage_pooled": pooled_held / runs,
        "median_half_width": float(np.median(widths)),
    }


def main() -> None:
    """Print and keep the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    runs = parser.parse_args().runs
    generator = np.random.default_rng(24)
    rows = []
    for counts in SITTINGS:
        for shared in SHARED:
            row = {"waves": list(counts), "shared": shared, **simulate(counts, shared, runs, generator)}
            rows.append(row)
            print(row, flush=True)
    keep("sittings", {"runs": runs, "alpha": ALPHA, "noisier": NOISIER, "simulated": rows})


if __name__ == "__main__":
    main()
