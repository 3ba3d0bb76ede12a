"""A known share of work is added to the baseline: is it found, and is it sized?

The baseline is 100 equal layers, and what is added is 3 or 5 more of them. ``--bare-loops`` finds out
without qx whether that takes 3 and 5 % longer: the same networks in turns in one process, and the mean over
such processes.
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
TRUTH = {name: getattr(plugins, name).more / plugins.LAYERS for name in ("slower_3", "slower_5")}

#: Seconds of one bare loop.
SECONDS = 9


def bare_loop(seed: int) -> dict[str, float]:
    """What each config adds to a call, by blocks of calls in a random order: of the fastest 15 % of them."""
    import torch

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    order = np.random.default_rng(seed)
    configs = {name: getattr(plugins, name) for name in ("copy_a", "copy_b", *TRUTH)}
    modules = {
        name: configs[name].convert(plugins.equal_layers.make_model().eval())
        for name in order.permutation(list(configs))
    }
    rows = torch.from_numpy(order.normal(size=(1, 32, 96)).astype(np.float32))
    times: dict[str, list[float]] = {name: [] for name in modules}
    with torch.inference_mode():
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for name in order.permutation(list(modules)):
                for call in range(12):
                    start = perf_counter()
                    modules[name](rows)
                    # The first calls bring the caches back.
                    times[name] += [perf_counter() - start] if call >= 3 else []
    fastest = {name: float(np.mean(np.sort(each)[: len(each) * 3 // 20])) for name, each in times.items()}
    base = (fastest["copy_a"] + fastest["copy_b"]) / 2
    return {name: fastest[name] / base - 1 for name in TRUTH}


def bare_loops(count: int) -> None:
    """Print and keep what so many processes find."""
    found = []
    for seed in range(count):
        command = [sys.executable, "-m", "benchmarks.slowdown", "--bare-loop", str(seed)]
        found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
        print(json.dumps(found[-1]), flush=True)
    told = {}
    for name in found[0]:
        sizes = np.array([one[name] for one in found])
        told[name] = {
            "mean_size": float(sizes.mean()),
            "standard_error": float(sizes.std(ddof=1) / count**0.5),
            "sizes": sizes.tolist(),
        }
    keep("slowdown_bare", {"processes": count, **told})


def main() -> None:
    """Print and keep how often each was found and how far off its size was."""
    parser = options(__doc__, runs=10)
    parser.set_defaults(workload=plugins.equal_layers.describe().name)
    parser.add_argument("--bare-loops", type=int, metavar="N", help="only bare loops, so many processes")
    parser.add_argument("--bare-loop", type=int, metavar="SEED", help="only one of them, in this process")
    arguments = parser.parse_args()
    if arguments.workload != parser.get_default("workload"):
        parser.error(f"layers are added to {parser.get_default('workload')} alone")
    if arguments.bare_loop is not None:
        print(json.dumps(bare_loop(arguments.bare_loop)))
        return
    if arguments.bare_loops is not None:
        if arguments.bare_loops < 2:
            parser.error("--bare-loops must be at least 2")
        bare_loops(arguments.bare_loops)
        return
    found: dict[str, list[bool]] = {name: [] for name in TRUTH}
    sizes: dict[str, list[float]] = {name: [] for name in TRUTH}
    for seed in range(arguments.runs):
        results, _ = measured(
            arguments, tuple(TRUTH), ("latency",), seed, batch_sizes=(1,), more=("equal_layers",)
        )
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
