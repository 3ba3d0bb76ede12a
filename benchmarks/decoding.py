"""How fast each config decodes, what it costs in perplexity, and how far it is from what the memory allows.

    python -m benchmarks.decoding

runs ``stdlib_lm`` by the configs that keep its cache, at one and two threads, and writes
``results/decoding.json``: milliseconds a token, perplexity, KL divergence, bytes of the artifact, and the
share of the time that reading these would take at the measured bandwidth. It takes about half an hour. A
config whose runtime is not installed is left out.

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

from benchmarks.common import keep

CONFIGS = (
    "dynamic_int8",
    "bf16",
    "onnxruntime_dynamic_int8",
    "onnxruntime_weight_only",
    "openvino_weight_only",
    "inductor_bf16",
    "torchao_int8_weight_only",
    "torchao_int8_dynamic",
    "torchao_int4_weight_only",
    "llama_cpp_weight_only",
)
#: Options that are varied: how weights are stored. How they are rounded changes no time.
SETTINGS = (
    "onnxruntime_weight_only.bits=4,8",
    "openvino_weight_only.bits=4,8",
    "llama_cpp_weight_only.type=q4_0,q4_k_m,q8_0",
)
METRICS = ("perplexity", "kl_divergence", "file_size", "latency", "decode_latency")
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


def run(threads: int, out: Path, configs: tuple[str, ...], further: tuple[str, ...]) -> dict[str, Any]:
    """Run the decoder at so many threads, write the results into ``out``, and return them."""
    settings = [text for text in SETTINGS if text.partition(".")[0] in configs]
    command = ["run", "stdlib_lm", "--threads", str(threads), "--out", str(out), "-v"]
    for option, words in (("-c", configs), ("-m", METRICS), ("--set", settings)):
        command += [word for text in words for word in (option, text)]
    command += further
    print("qx", *command, flush=True)
    subprocess.run([sys.executable, "-m", "qx", *command], check=False)
    content: dict[str, Any] = json.loads((out / "full_results.json").read_text(encoding="utf-8"))
    return content


def rows_of(results: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    """Return for each cell what a token takes, what it reads, and the share of the time that is reading."""
    values = {(entry["cell"], entry["metric"]): entry for entry in results["measurements"]}
    rows = []
    for cell, result in results["cells"].items():
        decode, size = values.get((cell, "decode_latency")), values.get((cell, "file_size"))
        if result["control"] or not size or size["value"] is None:
            continue
        least = size["value"] / bandwidth(int(size["value"]), threads)
        # Some runtimes keep no cache: there is no time of a token.
        token = decode if decode is not None and decode["value"] is not None else None
        rows.append(
            {
                "cell": cell,
                "threads": threads,
                "milliseconds": token["value"] if token else None,
                "interval": token["ci"] if token else None,
                "bytes": size["value"],
                "share_of_bandwidth": 1000 * least / token["value"] if token else None,
                "speedup": (token["vs_baseline"] or {}).get("value") if token else None,
                "interval_of_speedup": (token["vs_baseline"] or {}).get("ci") if token else None,
                **{
                    name: {
                        "value": entry["value"],
                        "interval": entry["ci"],
                        "against_fp32": entry["vs_baseline"],
                    }
                    for name in ("perplexity", "kl_divergence")
                    if (entry := values.get((cell, name)))
                },
            }
        )
    return rows


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", action="append", help="a config, in place of all (repeatable)")
    parser.add_argument("--threads", action="append", type=int, help="in place of 1 and 2 (repeatable)")
    parser.add_argument("--eval-n", help="documents that are evaluated (default: all 128)")
    parser.add_argument("--budget", help="seconds for all launches (default: as qx has it)")
    parser.add_argument("--out", type=Path, help="where the results of the runs stay (default: nowhere)")
    arguments = parser.parse_args()
    configs, threads = tuple(arguments.config or CONFIGS), tuple(arguments.threads or THREADS)
    further = [("--eval-n", arguments.eval_n), ("--budget", arguments.budget)]
    words = tuple(word for option, value in further if value for word in (option, value))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in threads:
            out = (arguments.out or Path(folder)) / str(number)
            rows += rows_of(run(number, out, configs, words), number)
    large = {number: bandwidth(LARGE, number) for number in threads}
    for row in rows:
        time = "no cache"
        if row["milliseconds"] is not None:
            share = 100 * row["share_of_bandwidth"]
            time = f"{row['milliseconds']:8.3f} ms, {share:5.1f} % of the bandwidth"
        print(f"{row['cell']:60} {row['threads']} threads {row['bytes'] / 1e6:6.1f} MB {time}")
    for number, speed in large.items():
        print(f"{number} threads read {speed / 1e9:.1f} GB/s of a large array")
    keep("decoding", {"rows": rows, "bandwidth": large})


if __name__ == "__main__":
    main()
