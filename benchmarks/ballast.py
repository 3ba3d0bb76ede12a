"""64 MiB are added to the memory of a config: are they found, first or last in the order of the launches?

At batch size 1. At larger ones glibc's heap breaks up by luck of addresses, some MiB more or less in each
launch of one and the same network: that is so, and no error of measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.common import keep, measured, options
from qx.results.records import Results
from qx.runner.measure import waves

#: The same network with nothing hung on it, and with the ballast.
LIGHT, HEAVY = "heavier_0", "heavier_64"


class Heaviest(waves._Group):
    """Waves in which the heaviest is launched first, or last."""

    first = True

    def _ready(self, cells: Sequence[str]) -> Any:
        return super()._ready(sorted(cells, key=lambda cell: cell.endswith(HEAVY) != self.first))


def differences(results: Results) -> tuple[float, float]:
    """Of the two configs, MiB: ``rss``, and private memory once loaded."""
    found = {one.config: one for one in results.measurements if one.metric == "rss"}
    rss = [found[name].value for name in (HEAVY, LIGHT)]
    private = [found[name].details["stages"]["load"]["private"] for name in (HEAVY, LIGHT)]
    assert rss[0] is not None
    assert rss[1] is not None
    return rss[0] - rss[1], private[0] - private[1]


def main() -> None:
    """Print and keep the differences."""
    arguments = options(__doc__, runs=2).parse_args()
    found: dict[str, list[tuple[float, float]]] = {"first": [], "last": []}
    for seed in range(arguments.runs):
        for place, each in found.items():
            with patch.object(waves, "_Group", Heaviest), patch.object(Heaviest, "first", place == "first"):
                results, _ = measured(arguments, (LIGHT, HEAVY), ("rss",), seed, batch_sizes=(1,))
            each.append(differences(results))
            told = "rss {:+.2f} MiB, private {:+.2f} MiB".format(*each[-1])
            print(f"seed {seed}, launched {place}: {told}", flush=True)
    errors = np.abs(np.array([pair for each in found.values() for pair in each]) - 64)
    keep(
        "ballast",
        {
            "runs": len(errors),
            "truth_mib": 64,
            "rss_mib": {place: [pair[0] for pair in each] for place, each in found.items()},
            "private_mib": {place: [pair[1] for pair in each] for place, each in found.items()},
            "largest_error_rss": float(errors[:, 0].max()),
            "largest_error_private": float(errors[:, 1].max()),
        },
    )


if __name__ == "__main__":
    main()
