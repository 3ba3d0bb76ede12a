"""How fast each config decodes, and how far that is from what the memory of this machine allows.

    python -m benchmarks.decoding

runs ``stdlib_lm`` by the configs that keep its cache, at one and two threads, and writes
``results/decoding.json``: milliseconds a token, bytes of the artifact, and the share of the time that reading
these would take at the measured bandwidth. It takes some 15 minutes, and 5 with ``--quick``.

The bandwidth is that of reading an array by as many threads, once of the size of the artifact (which a cache
of the processor may hold) and once of a size that no cache holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.common import HERE

CONFIGS = (
    "dynamic_int8",
    "bf16",
    "onnxruntime_fp32",
    "onnxruntime_dynamic_int8",
    "onnxruntime_weight_only",
    "openvino_fp32",
    "openvino_weight_only",
)
#: Options that are varied.
SETTINGS = (
    "onnxruntime_weight_only.bits=4,8",
    "openvino_weight_only.bits=4,8",
)
THREADS = (1, 2)
#: Bytes of an array that no cache holds, and repetitions of which the fastest counts.
LARGE, REPEATS = 1 << 30, 7


def bandwidth(size: int, threads: int) -> float:
    """Return the bytes a second at which so many threads read an array of ``size`` bytes."""
    torch.set_num_threads(threads)
    array = torch.ones(size // 4)
    calls = max(1, (1 << 28) // size)
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        for _ in range(calls):
            array.sum()
        times.append((perf_counter() - start) / calls)
    return size / min(times)


def run(threads: int, folder: Path, *, quick: bool, configs: tuple[str, ...] = CONFIGS) -> dict[str, Any]:
    """Run the decoder at so many threads, and return the results."""
    out = folder / str(threads)
    words = [word for name in configs for word in ("-c", name)]
    words += [word for text in SETTINGS if text.partition(".")[0] in configs for word in ("--set", text)]
    command = ["run", "stdlib_lm", *words, "--threads", str(threads), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "qx", *command, *(["--quick"] if quick else [])], check=False)
    content: dict[str, Any] = json.loads((out / "full_results.json").read_text(encoding="utf-8"))
    return content


def rows_of(results: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    """Return for each cell what a token takes, what it reads, and the share of the time that is reading."""
    values = {(entry["cell"], entry["metric"]): entry for entry in results["measurements"]}
    rows = []
    for cell, result in results["cells"].items():
        decode, size = values.get((cell, "decode_latency")), values.get((cell, "file_size"))
        if result["control"] or not decode or decode["value"] is None or not size:
            continue
        seconds = decode["value"] / 1000
        least = size["value"] / bandwidth(int(size["value"]), threads)
        rows.append(
            {
                "cell": cell,
                "threads": threads,
                "milliseconds": decode["value"],
                "interval": decode["ci"],
                "bytes": size["value"],
                "share_of_bandwidth": least / seconds,
                "speedup": (decode["vs_baseline"] or {}).get("value"),
                "perplexity": values[cell, "perplexity"]["value"],
            }
        )
    return rows


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first look: few waves")
    parser.add_argument("--config", action="append", help="a config, in place of all (repeatable)")
    arguments = parser.parse_args()
    configs = tuple(arguments.config or CONFIGS)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for threads in THREADS:
            results = run(threads, Path(folder), quick=arguments.quick, configs=configs)
            rows += rows_of(results, threads)
    large = {threads: bandwidth(LARGE, threads) for threads in THREADS}
    for row in rows:
        print(
            f"{row['cell']:60} {row['threads']} threads {row['milliseconds']:8.3f} ms "
            f"{row['bytes'] / 1e6:6.1f} MB {100 * row['share_of_bandwidth']:5.1f} % of the bandwidth"
        )
    for threads, speed in large.items():
        print(f"{threads} threads read {speed / 1e9:.1f} GB/s of a large array")
    content = {"rows": rows, "bandwidth": large}
    path = HERE / "results" / "decoding.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
