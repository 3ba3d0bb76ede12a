"""What it costs to hold the entries of a cache against their digests, as each run does once.

    python -m benchmarks.digests RESULTS

takes the builds and the evaluation splits that a run used, whose results lie in the folder RESULTS, from the
cache in QX_CACHE, and says how many bytes they are, how long the check takes, and what share of the run that
is.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from qx.results.records import Results
from qx.results.results_file import read
from qx.storage.cache import BUILDS, SPLITS, open_cache, read_entry


def main(arguments: list[str]) -> None:
    """Print a line for builds, one for splits, and one for all."""
    results = read(Path(arguments[0]))
    whole = float(results.run["seconds"]["total"])
    places = _places(results)
    for title, chosen in (*places.items(), ("all", [place for some in places.values() for place in some])):
        size = 0
        began, computed = time.perf_counter(), time.process_time()
        for place in chosen:
            found = read_entry(place, lambda _, digests: sum(digest.size for digest in digests.values()))
            assert found is not None, f"{place} is not in the cache"
            size += found
        seconds, computed = time.perf_counter() - began, time.process_time() - computed
        print(
            f"{title}: {len(chosen)} entries, {size / 1e6:,.1f} MB, {seconds:.3f} s "
            f"({computed:.3f} s of CPU), {seconds / whole:.2%} of the {whole:.0f} s that the run took"
        )


def _places(results: Results) -> dict[str, list[Path]]:
    cache = open_cache()
    builds = {cell.build for cell in results.cells.values() if cell.build is not None}
    splits = set()
    for workload in results.run["workloads"].values():
        splits |= {workload["evaluation_sha256"], *workload["calibrations"].values()}
    return {
        BUILDS: [cache / BUILDS / name for name in sorted(builds)],
        SPLITS: [cache / SPLITS / name for name in sorted(splits)],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
