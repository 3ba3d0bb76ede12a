"""Check on a real GPU what tests check on a pretended one: the clocks, every config, and what they gain.

    python -m benchmarks.gpu --plan          # what would be run, and for how long at most; needs no torch
    python -m benchmarks.gpu                 # everything, each part in a process of its own
    python -m benchmarks.gpu --part cnn      # one part

It needs this repository with what it requires, and torch 2.11 or later, and fetches nothing. A part that
fails, or takes longer than its limit, costs itself. What each part finds is in ``results/gpu.json`` as
soon as it ends, with the device and the time; without a device the file says that there was none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "gpu.json"
#: Largest difference between the two clocks, as a share, of calls that take this many milliseconds or more.
CLOCKS_AGREE, LEAST_MS = 0.02, 1.0
#: Seconds of a part that are left for what follows its run.
RESERVE = 15.0


class Part(NamedTuple):
    """A part of the checks."""

    #: What it does, in words.
    text: str
    #: Seconds after which it is ended.
    limit: float
    #: Workload that it runs, and the batch size; none for parts that run none.
    workload: str | None = None
    batch_size: int = 0


#: All parts, in their order. Their limits are less than 8 minutes together.
PARTS: dict[str, Part] = {
    "device": Part("open the device; what it is, what the driver shows, what doctor says", 20),
    "clocks": Part("kernels of known length by both clocks; draining; warm-up", 30),
    "peak": Part("the fastest product of matrices in each type, and the fastest copy", 30),
    "cnn": Part("every config on digits_cnn", 80, "digits_cnn", 512),
    "resnet18": Part("every config on resnet18", 120, "resnet18", 32),
    "vit_b_16": Part("every config on vit_b_16", 125, "vit_b_16", 16),
    "stdlib_lm": Part("every config on stdlib_lm", 75, "stdlib_lm", 8),
}
#: Type of arithmetic of each config's products, for its share of the device's peak.
TYPES = {
    "fp32_baseline": "float32",
    "compile_fp32": "float32",
    "onnxruntime_cuda_fp32": "float32",
    "onnxruntime_tensorrt_fp32": "tensor_float32",
    "bf16": "bfloat16",
    "compile_bf16": "bfloat16",
    "compile_int8_weight_only": "bfloat16",
    "compile_int4_weight_only": "bfloat16",
    "fp16": "float16",
    "onnxruntime_tensorrt_fp16": "float16",
    "compile_int8_dynamic": "int8",
    "compile_fp8_dynamic": "float8",
}


def show_plan() -> None:
    """Print the parts with their limits in seconds."""
    for name, part in PARTS.items():
        print(f"{name:<10} {part.limit:4.0f} s at most  {part.text}")
    total = sum(part.limit for part in PARTS.values())
    print(f"{'together':<10} {total:4.0f} s at most ({total / 60:.1f} minutes)")


# Parts ------------------------------------------------------------------------------------------------


def check_device() -> dict[str, Any]:
    """Describe the device, and what may disturb it."""
    from attrs import asdict

    from qx.devices.cuda import CudaDevice
    from qx.doctor.devices import examine_devices

    device = CudaDevice("cuda:0")
    return {
        "facts": asdict(device.facts()),
        "reading": asdict(device.read()),
        "memory": asdict(device.memory()),
        "doctor": [asdict(finding) for finding in examine_devices()],
        "checks": {"opened": True},
    }


def check_clocks() -> dict[str, Any]:
    """Time kernels that spin for a known number of the device's cycles, by both clocks."""
    import torch
    from attrs import asdict

    from qx.devices.cuda import CudaDevice
    from qx.devices.timing import time_calls, warm_up

    device = CudaDevice("cuda:0")
    warm = warm_up(device, lambda _: torch.cuda._sleep(2_000_000), None)
    medians = {}
    for millions in (2, 4, 8):
        times = time_calls(device, _spin(torch, millions), None, 30)
        medians[millions] = {"wall": _median(times.wall), "device": _median(times.device)}
    began = device.now()
    torch.cuda._sleep(8_000_000)
    undrained = device.now() - began
    device.synchronize()
    true = medians[8]["device"]
    return {
        "warm_up": asdict(warm),
        "seconds": medians,
        "undrained_seconds": undrained,
        "checks": {
            "warm-up found": warm.steady,
            # Twice as many cycles take twice as long: to 1 %, what a kernel costs beside them is a constant.
            "linear": abs((medians[8]["device"] - medians[4]["device"]) / (true / 2) - 1) < 0.01,
            "clocks agree": all(_agree(pair["wall"], pair["device"]) for pair in medians.values()),
            "calls return before their work is done": undrained < true / 10,
        },
    }


def _spin(torch: Any, millions: int) -> Callable[[Any], Any]:
    """Return a call of a kernel that spins for so many millions of cycles."""
    return lambda _: torch.cuda._sleep(millions * 1_000_000)


def check_peak() -> dict[str, Any]:
    """Measure the fastest product of matrices in each type, in operations a second, and the fastest copy."""
    import torch

    from qx.devices.cuda import CudaDevice
    from qx.devices.timing import time_calls, warm_up

    device, size = CudaDevice("cuda:0"), 8192
    torch.backends.cudnn.allow_tf32 = False

    def fastest(call: Callable[[Any], Any]) -> float:
        warm_up(device, call, None, seconds=2.0)
        return min(time_calls(device, call, None, 10).device)

    peak: dict[str, float | str] = {}
    for name, multiply in _products(torch, size).items():
        try:
            peak[name] = 2 * size**3 / fastest(multiply())
        except (RuntimeError, NotImplementedError) as error:
            peak[name] = f"not on this device: {str(error).splitlines()[0][:150]}"
    source = torch.empty(1 << 28, device="cuda:0")
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / fastest(lambda _: target.copy_(source))
    return {"operations_a_second": peak, "bytes_a_second": copied, "checks": {"measured": True}}


def _products(torch: Any, size: int) -> dict[str, Callable[[], Callable[[Any], Any]]]:
    """Return for each type a function that makes the matrices, and returns their product as a call."""

    def dense(dtype: Any, *, tf32: bool = False) -> Callable[[], Callable[[Any], Any]]:
        def make() -> Callable[[Any], Any]:
            matrix = torch.randn(size, size, device="cuda:0").to(dtype)

            def call(_: Any) -> Any:
                torch.backends.cuda.matmul.allow_tf32 = tf32
                return matrix @ matrix

            return call

        return make

    def int8() -> Callable[[Any], Any]:
        matrix = torch.randint(-127, 127, (size, size), device="cuda:0", dtype=torch.int8)
        other = matrix.t().contiguous().t()
        return lambda _: torch._int_mm(matrix, other)

    def float8() -> Callable[[Any], Any]:
        matrix = torch.randn(size, size, device="cuda:0").to(torch.float8_e4m3fn)
        scale = torch.ones((), device="cuda:0")
        other = matrix.t().contiguous().t()
        return lambda _: torch._scaled_mm(matrix, other, scale, scale, out_dtype=torch.bfloat16)

    return {
        "float32": dense(torch.float32),
        "tensor_float32": dense(torch.float32, tf32=True),
        "float16": dense(torch.float16),
        "bfloat16": dense(torch.bfloat16),
        "int8": int8,
        "float8": float8,
    }


def check_workload(name: str, report: Report) -> dict[str, Any]:
    """Run every config for the device on a workload, and check what comes out."""
    from benchmarks.common import Lines
    from qx.host.host import Host
    from qx.runner import Request, run

    part = PARTS[name]
    host = Host.discover()
    request = Request(
        workload=part.workload,
        device="cuda",
        batch_sizes=(part.batch_size,),
        quick=True,
        max_time=part.limit - RESERVE,
    )
    results, _ = run(host, request, Lines())
    return _findings(results, part, report.parts.get("peak", {}).get("operations_a_second", {}))


def _findings(results: Any, part: Part, peak: dict[str, Any]) -> dict[str, Any]:
    """Return what a run shows of each config, with the checks."""
    figures = _figures(results)
    cells = {
        cell.row: {
            "outcome": cell.outcome,
            "cause": cell.cause,
            "build_seconds": cell.build_seconds,
            **figures.get(name, {}),
            **_share_of_peak(cell.config, figures.get(name, {}), part, peak),
        }
        for name, cell in results.cells.items()
    }
    timed = [cell for cell in cells.values() if "latency" in cell and "device_latency" in cell]
    long = [cell for cell in timed if cell["device_latency"] >= LEAST_MS]
    control = next((cell for row, cell in cells.items() if row.startswith("control")), {})
    ends = control.get("speedup_interval")
    return {
        "cells": cells,
        "environment": json.loads(json.dumps(_environment(results), default=str)),
        "checks": {
            "every config ended well, or says why not": all(
                cell["outcome"] == "ok" or cell["cause"] for cell in cells.values()
            ),
            "no config crashed": not any(
                cell["outcome"] in ("crashed", "failed", "timeout") for cell in cells.values()
            ),
            "both clocks within 2 %": all(_agree(cell["latency"], cell["device_latency"]) for cell in long),
            "A/A interval holds 1": None if ends is None else ends[0] <= 1 <= ends[1],
        },
    }


def _figures(results: Any) -> dict[str, dict[str, Any]]:
    """Return the figures of each cell that the checks look at, by the id of the cell."""
    figures: dict[str, dict[str, Any]] = {}
    for measured in results.measurements:
        if measured.value is None:
            continue
        own = figures.setdefault(measured.cell, {})
        own[measured.metric] = measured.value
        if measured.metric == "device_latency" and measured.vs_baseline is not None:
            own["speedup"] = measured.vs_baseline.value
            own["speedup_interval"] = measured.vs_baseline.ci
    names = ("latency", "device_latency", "device_memory", "agreement", "sqnr", "speedup", "speedup_interval")
    return {cell: {name: own[name] for name in names if name in own} for cell, own in figures.items()}


def _share_of_peak(config: str, figures: dict[str, Any], part: Part, peak: dict[str, Any]) -> dict[str, Any]:
    """Return the operations of a call, and which share of the peak of their type the config reaches."""
    most = peak.get(TYPES.get(config, ""))
    if "device_latency" not in figures or not isinstance(most, float):
        return {}
    operations = _operations(str(part.workload)) * part.batch_size
    seconds = figures["device_latency"] / 1e3
    return {"operations": operations, "share_of_peak": operations / seconds / most}


@cache
def _operations(workload: str) -> float:
    """Return the floating-point operations that the model of a workload takes for an item."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model, item = _model_and_item(workload)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(item)
    return float(counter.get_total_flops())


def _model_and_item(workload: str) -> tuple[Any, Any]:
    """Return the model of a workload with random weights, and an input of one item."""
    import torch

    if workload == "digits_cnn":
        from qx_plugins.networks.cifar_cnn import CifarCNN

        return CifarCNN(quantizable=False), torch.zeros((1, 3, 32, 32))
    if workload == "stdlib_lm":
        from qx_plugins.networks.llama import LlamaDecoder, LlamaShape
        from qx_plugins.workloads.stdlib_lm import POSITIONS, VOCABULARY

        shape = LlamaShape(vocabulary=VOCABULARY, positions=POSITIONS)
        return LlamaDecoder(shape), torch.zeros((1, POSITIONS), dtype=torch.int64)
    from torchvision import models

    return getattr(models, workload)(weights=None), torch.zeros((1, 3, 224, 224))


def _environment(results: Any) -> dict[str, Any]:
    from attrs import asdict

    measuring = results.run.measuring
    return {
        "devices": {name: asdict(facts) for name, facts in results.environment.devices.items()},
        "distributions": dict(results.environment.distributions),
        "waves": measuring.waves,
        "ended_by": measuring.ended_by,
        "unsteady": [f"{pair.cell} {pair.point}" for pair in measuring.unsteady],
        "first_calls": {cell: dict(first) for cell, first in measuring.first_calls.items()},
        "readings": [asdict(reading) for reading in measuring.readings],
    }


def _agree(wall: float, device: float) -> bool:
    return abs(wall / device - 1) <= CLOCKS_AGREE


def _median(values: Any) -> float:
    from statistics import median

    return float(median(values))


CHECKS: dict[str, Callable[[], dict[str, Any]]] = {
    "device": check_device,
    "clocks": check_clocks,
    "peak": check_peak,
}


# Running ----------------------------------------------------------------------------------------------


class Report:
    """The file of results, which every part writes what it finds into."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def fields(self) -> dict[str, Any]:
        """What earlier parts have written; empty where there is no file."""
        return dict(json.loads(self.path.read_text(encoding="utf-8"))) if self.path.is_file() else {}

    @property
    def parts(self) -> dict[str, Any]:
        """What each part has found so far."""
        return dict(self.fields.get("parts", {}))

    def write(self, **fields: Any) -> None:
        """Put fields into the file, beside what it has."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps({**self.fields, **fields}, indent=1) + "\n", encoding="utf-8")

    def add(self, name: str, found: dict[str, Any]) -> None:
        """Put what a part has found into the file."""
        self.write(parts={**self.parts, name: found})


def run_part(name: str, report: Report) -> int:
    """Run one part in this process, and write what it finds. Returns 1 where a check fails."""
    began = time.monotonic()
    found = CHECKS[name]() if name in CHECKS else check_workload(name, report)
    found["seconds"] = round(time.monotonic() - began, 1)
    report.add(name, found)
    failed = [check for check, holds in found["checks"].items() if holds is False]
    print(f"{name}: {f'FAILED: {failed}' if failed else 'all checks hold'}")
    return 1 if failed else 0


def run_all(names: list[str], report: Report) -> int:
    """Run parts one after another, each in a process that is ended at its limit.

    Returns 1 where one of them fails, which costs no other.
    """
    worst = 0
    for name in names:
        options = ["--out", str(report.path), "--part", name, "--here"]
        command = [sys.executable, "-m", "benchmarks.gpu", *options]
        try:
            done = subprocess.run(
                command, timeout=PARTS[name].limit, check=False, stderr=subprocess.PIPE, text=True
            )
            last = (done.stderr.strip().splitlines() or [""])[-1]
            status, cause = done.returncode, f"ended with status {done.returncode}: {last}"
        except subprocess.TimeoutExpired:
            status, cause = 1, f"took longer than {PARTS[name].limit:.0f} s"
        if status and "checks" not in report.parts.get(name, {}):
            report.add(name, {"failed": cause})
            print(f"{name}: FAILED: {cause}")
        worst = max(worst, int(status != 0))
    return worst


def main() -> int:
    """Print the plan, run one part, or run them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--plan", action="store_true", help="print the parts and their limits, and run none")
    parser.add_argument("--part", choices=list(PARTS), action="append", help="run this part (repeatable)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="FILE", help=f"default: {RESULTS.name} in results/"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        show_plan()
        return 0
    names, report = arguments.part or list(PARTS), Report(arguments.out)
    if arguments.here:
        return run_part(names[0], report)
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if reason := no_device():
        report.path.unlink(missing_ok=True)
        report.write(when=when, device=None, reason=reason, parts={})
        print(f"no device: {reason}")
        return 0
    # What other parts have found before stays where single parts are run again.
    kept = report.parts if arguments.part else {}
    report.path.unlink(missing_ok=True)
    report.write(
        when=when, command="python -m benchmarks.gpu", parts={**kept, **{name: {} for name in names}}
    )
    return run_all(names, report)


def no_device() -> str:
    """Return why there is no device; empty where there is one."""
    from qx.devices.finding import find_cuda

    return find_cuda().reason


if __name__ == "__main__":
    sys.exit(main())
