"""Are 64 MiB detected that are added to the memory of a config, first or last in the order of the launches?

Measured at batch size 1. At larger ones the fragmentation of glibc's heap differs between launches of the
same network by some MiB, which is true and no error of measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.common import argument_parser, keep, run_configs
from qx.results.records import Results
from qx.runner.measure import waves

#: Configs: the network without ballast, and with 64 MiB of it.
LIGHT, HEAVY = "heavier_0", "heavier_64"


class Heaviest(waves._Group):
    """Waves in which the heaviest config is launched first, or last."""

    first = True

    def _measure_wave(self, cells: Sequence[str]) -> Any:
        return super()._measure_wave(sorted(cells, key=lambda cell: cell.endswith(HEAVY) != self.first))


def differences(results: Results) -> tuple[float, float]:
    """Return by how many MiB the two configs differ, in ``rss`` and in private memory after loading."""
    measurements = {
        measurement.config: measurement for measurement in results.measurements if measurement.metric == "rss"
    }
    rss = [measurements[name].value for name in (HEAVY, LIGHT)]
    private = [measurements[name].details["stages"]["load"]["private"] for name in (HEAVY, LIGHT)]
    assert rss[0] is not None
    assert rss[1] is not None
    return rss[0] - rss[1], private[0] - private[1]


def main() -> None:
    """Print and keep the differences."""
    arguments = argument_parser(__doc__, runs=2).parse_args()
    pairs_by_place: dict[str, list[tuple[float, float]]] = {"first": [], "last": []}
    for seed in range(arguments.runs):
        for place, pairs in pairs_by_place.items():
            with patch.object(waves, "_Group", Heaviest), patch.object(Heaviest, "first", place == "first"):
                results, _ = run_configs(arguments, (LIGHT, HEAVY), ("rss",), seed, batch_sizes=(1,))
            pairs.append(differences(results))
            summary = "rss {:+.2f} MiB, private {:+.2f} MiB".format(*pairs[-1])
            print(f"seed {seed}, launched {place}: {summary}", flush=True)
    errors = np.abs(np.array([pair for pairs in pairs_by_place.values() for pair in pairs]) - 64)
    keep(
        "ballast",
        {
            "runs": len(errors),
            "truth_mib": 64,
            "rss_mib": {place: [pair[0] for pair in pairs] for place, pairs in pairs_by_place.items()},
            "private_mib": {place: [pair[1] for pair in pairs] for place, pairs in pairs_by_place.items()},
            "largest_error_rss": float(errors[:, 0].max()),
            "largest_error_private": float(errors[:, 1].max()),
        },
    )


if __name__ == "__main__":
    main()
