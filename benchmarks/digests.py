"""What it costs to verify the entries of a cache by their digests, as each run does once.

    python -m benchmarks.digests RESULTS

verifies the builds and the splits in the cache QX_CACHE that a run used, whose results are in the folder
RESULTS, and prints their bytes, the seconds of the verification, and what share of the run's seconds these
are.
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
    total_seconds = float(results.run.seconds["total"])
    entries = _entries(results)
    all_paths = [path for paths in entries.values() for path in paths]
    for title, paths in (*entries.items(), ("all", all_paths)):
        size = 0
        start, cpu_start = time.perf_counter(), time.process_time()
        for path in paths:
            entry_size = read_entry(path, lambda _, digests: sum(digest.size for digest in digests.values()))
            assert entry_size is not None, f"{path} is not in the cache"
            size += entry_size
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        print(
            f"{title}: {len(paths)} entries, {size / 1e6:,.1f} MB, {seconds:.3f} s "
            f"({cpu_seconds:.3f} s of CPU), {seconds / total_seconds:.2%} of the {total_seconds:.0f} s that "
            f"the run took"
        )


def _entries(results: Results) -> dict[str, list[Path]]:
    """Return the cache entries that a run used, by their kind."""
    cache = open_cache()
    builds = {cell.build for cell in results.cells.values() if cell.build is not None}
    splits = set()
    for workload in results.run.workloads.values():
        splits |= {*filter(None, [workload.evaluation_sha256]), *workload.calibrations.values()}
    return {
        BUILDS: [cache / BUILDS / name for name in sorted(builds)],
        SPLITS: [cache / SPLITS / name for name in sorted(splits)],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
