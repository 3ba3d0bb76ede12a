"""A known share of work is added to the baseline: does qx detect it, and estimate its size?

The baseline has 100 equal layers, and 3 or 5 more of them are added. ``--bare-loops`` measures without qx
whether that takes 3 and 5 % longer: it times the same networks in turns in one process, and takes the mean
over several processes.
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
from benchmarks.common import argument_parser, keep, measurements_of, run_configs

#: Configs, and the share by which they lengthen a call.
TRUTH = {name: getattr(plugins, name).added_layers / plugins.LAYERS for name in ("slower_3", "slower_5")}

#: Seconds of one bare loop.
SECONDS = 9


def bare_loop(seed: int) -> dict[str, float]:
    """Return the share by which each config lengthens a call, from the fastest 15 % of the calls."""
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
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for name in order.permutation(list(modules)):
                for call in range(12):
                    start = perf_counter()
                    modules[name](rows)
                    # The first calls fill the caches.
                    times[name] += [perf_counter() - start] if call >= 3 else []
    fastest = {name: float(np.mean(np.sort(calls)[: len(calls) * 3 // 20])) for name, calls in times.items()}
    base = (fastest["copy_a"] + fastest["copy_b"]) / 2
    return {name: fastest[name] / base - 1 for name in TRUTH}


def bare_loops(count: int) -> None:
    """Print and keep the shares that ``count`` processes measure."""
    shares = []
    for seed in range(count):
        command = [sys.executable, "-m", "benchmarks.slowdown", "--bare-loop", str(seed)]
        shares.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
        print(json.dumps(shares[-1]), flush=True)
    summary = {}
    for name in shares[0]:
        sizes = np.array([by_config[name] for by_config in shares])
        summary[name] = {
            "mean_size": float(sizes.mean()),
            "standard_error": float(sizes.std(ddof=1) / count**0.5),
            "sizes": sizes.tolist(),
        }
    keep("slowdown_bare", {"processes": count, **summary})


def main() -> None:
    """Print and keep how often each config was detected, and the errors of its size."""
    parser = argument_parser(__doc__, runs=10)
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
    detected: dict[str, list[bool]] = {name: [] for name in TRUTH}
    sizes: dict[str, list[float]] = {name: [] for name in TRUTH}
    for seed in range(arguments.runs):
        results, _ = run_configs(
            arguments, tuple(TRUTH), ("latency",), seed, batch_sizes=(1,), other_plugins=("equal_layers",)
        )
        for measurement in measurements_of(results, "latency"):
            config, comparison = measurement.config, measurement.vs_baseline
            if config not in TRUTH or comparison is None or comparison.ci is None:
                continue
            detected[config].append(comparison.ci[1] < 1)
            sizes[config].append(1 / comparison.value - 1)
        print(f"run {seed}: " + ", ".join(f"{name} {sizes[name][-1]:+.2%}" for name in TRUTH), flush=True)
    keep(
        "slowdown",
        {
            "runs": arguments.runs,
            **{
                name: {
                    "truth": truth,
                    "found": sum(detected[name]),
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
