"""A known share of work is added to the baseline: is it found, and is it sized?

What is added is timed by a bare loop too, in one process with the same networks in turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from time import perf_counter

import numpy as np

from benchmarks import plugins
from benchmarks.common import keep, measured, of, options

#: Configs, and what they add to the time of a call.
TRUTH = {"slower_3": 0.03, "slower_5": 0.05}


def bare_loop(seconds: float) -> dict[str, float]:
    """What each config adds to a call, by blocks of calls in a random order: of the fastest 15 % of them."""
    import torch
    from qx_plugins.models.cifar_cnn import CifarCNN

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    modules = {"baseline": CifarCNN(quantizable=False).eval()}
    modules |= {name: getattr(plugins, name).convert(CifarCNN(quantizable=False).eval()) for name in TRUTH}
    image, order = torch.randn(1, 3, 32, 32), np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in modules}
    with torch.inference_mode():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name in order.permutation(list(modules)):
                for call in range(9):
                    start = perf_counter()
                    modules[name](image)
                    # The first calls bring the caches back.
                    times[name] += [perf_counter() - start] if call >= 3 else []
    fastest = {name: float(np.mean(np.sort(each)[: len(each) * 3 // 20])) for name, each in times.items()}
    return {name: fastest[name] / fastest["baseline"] - 1 for name in TRUTH}


def main() -> None:
    """Print and keep how often each was found and how far off its size was."""
    parser = options(__doc__, runs=10)
    parser.add_argument("--bare-loop", type=float, help="only the bare loop, for so many seconds")
    arguments = parser.parse_args()
    if arguments.bare_loop:
        print(json.dumps(bare_loop(arguments.bare_loop)))
        return
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
    command = [sys.executable, "-m", "benchmarks.slowdown", "--bare-loop", "20"]
    by_loop = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    keep(
        "slowdown",
        {
            "runs": arguments.runs,
            "by_a_bare_loop": by_loop,
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
