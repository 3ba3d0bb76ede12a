"""How do seconds and memory of analysis and reports grow with cells, waves and items?

Each size is a process of its own, whose recording is simulated: a tenth of the cells are faster, smaller and
less accurate by steps, and cells come in groups that share waves with the baseline and the control alone.
Reading the simulated samples is not in the seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

from benchmarks.common import keep
from benchmarks.front import METRICS
from qx.analysis.measurements import analyse
from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.report import markdown, screen
from qx.report.html import page
from qx.results.recording import Recording, Series
from qx.results.records import CellResult, ConfigResult
from qx.results.run_record import Environment, Measuring, RunRecord, WorkloadRecord

#: Number of cells of a group besides the baseline and the control.
GROUP = 20
#: Sizes of the plot: what varies, and what stays.
CELLS = (24, 50, 100, 200, 500, 1000, 2000)
WAVES = (6, 12, 25, 50)
ITEMS = (1_000, 5_000, 10_000, 50_000)
DEFAULT = {"cells": 200, "waves": 6, "items": 10_000}
#: Rounds of a wave, and calls of a block.
ROUNDS, CALLS = 5, 4
BASELINE, CONTROL = "simulated/config0", "simulated/control"
PLOT = Path(__file__).parents[1] / "docs" / "images" / "scale.svg"


def metrics() -> dict[str, Metric]:
    """Return the axes of the front: a quality, a size, a latency, a memory."""
    picks = ("the best accuracy", "the smallest artifact", "the lowest latency", "the least memory")
    return {
        metric.name: evolve(metric, pick=pick, unit=unit)
        for metric, pick, unit in zip(METRICS, picks, ("fraction", "bytes", "ms", "MiB"), strict=True)
    }


def recorded(cells: int, waves: int, items: int) -> Recording:
    """Return samples of cells in groups, which share waves with the baseline and the control."""
    generator, recording = np.random.default_rng(0), Recording()
    groups = -(-cells // GROUP)
    for name in [CONTROL, *map(_name, range(cells))]:
        number = 0 if name == CONTROL else int(name.rpartition("config")[2])
        own = range(groups) if number == 0 else (number // GROUP,)
        numbers = np.concatenate([np.arange(waves) + waves * group for group in own])
        level = 1.0 if number == 0 else float(np.exp(-0.1 * (number % 10) + generator.normal(0, 0.02)))
        _record(recording, name, numbers, level, items, generator)
    return recording


def _name(number: int) -> str:
    return f"simulated/config{number}"


def _record(
    recording: Recording,
    name: str,
    waves: np.ndarray,
    level: float,
    items: int,
    generator: np.random.Generator,
) -> None:
    once, each = np.array([-1]), np.full(len(waves), -1)
    wave = np.repeat(waves, ROUNDS * CALLS)
    rounds = np.tile(np.repeat(np.arange(ROUNDS), CALLS), len(waves))
    samples = {
        "latency": (level * np.exp(generator.exponential(0.05, len(wave))), wave, rounds),
        "rss": (400 * level * np.exp(generator.normal(0, 0.01, len(waves))), waves, each),
    }
    if name != CONTROL:
        answers = (generator.random(items) < 0.8 + 0.1 * level).astype(float)
        samples["accuracy"] = (answers, np.full(items, -1), np.full(items, -1))
        samples["file_size"] = (np.array([np.round(1e6 * level)]), once, once)
    for metric, (values, waves_of, rounds_of) in samples.items():
        series = Series(values=values, wave=waves_of, round=rounds_of, position=rounds_of)
        recording.add(name, Figure(metric), series)


def arguments_of(cells: int, waves: int, items: int) -> dict[str, Any]:
    """Return the arguments of the analysis beside the recording."""
    names = [*map(_name, range(cells)), CONTROL]
    results = {
        name: CellResult(
            workload="simulated", config="config0" if name == CONTROL else name.partition("/")[2], options={},
            threads=1, control=name == CONTROL, outcome="ok", stage=None, cause=None, build_seconds=1.0,
            build_cached=False, build="0", artifact={"model.bin": 1}, loader="simulated", launches=waves,
        )
        for name in names
    }  # fmt: skip
    measuring = Measuring(
        precision=0.01, budget=60.0, ended_by="budget", waves=waves * -(-cells // GROUP), pinned_to=1,
        rounds={"latency": {"1": ROUNDS}}, calls_per_block={}, seconds=60.0, deaths=(), unsteady=(),
    )  # fmt: skip
    run = RunRecord(
        id="20260102T030405-abcdef", command=("qx", "run"), started="2026-01-02T03:04:05+00:00",
        seconds={"total": 60.0}, seed=0, baseline=BASELINE, points=(), threads=1, calibration_n=None,
        engine="x86", samples="samples-20260102T030405-abcdef.npz",
        workloads={"simulated": WorkloadRecord(source="random numbers", items=items, task="classification")},
        measuring=measuring, failures=(),
    )  # fmt: skip
    environment = Environment(
        python="3", implementation="cpython", system="Linux", machine="x86_64", cpu="A CPU", cpus=2,
        cpu_flags=(), hypervisor=False, governor=None, memory_bytes=2**34, load_before=0.0, distributions={},
    )  # fmt: skip
    configs = {
        cell.config: ConfigResult(summary="Simulated.", outcome="ok", reference=name == BASELINE)
        for name, cell in results.items()
        if not cell.control
    }
    return {
        "run": run, "environment": environment, "metrics": metrics(), "configs": configs, "cells": results,
        "failures": {},
    }  # fmt: skip


def measure(cells: int, waves: int, items: int) -> dict[str, float]:
    """Return the seconds of each step, and the largest memory of the process beyond what it began with."""
    recording, arguments = recorded(cells, waves, items), arguments_of(cells, waves, items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}
    start = time.perf_counter()
    results = analyse(recording=recording, **arguments)
    seconds["analysis"], start = time.perf_counter() - start, time.perf_counter()
    screen.render(results, width=100)
    seconds["screen"], start = time.perf_counter() - start, time.perf_counter()
    markdown.render(results)
    seconds["markdown"], start = time.perf_counter() - start, time.perf_counter()
    page.render(results, recording)
    seconds["page"] = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **seconds,
        "total": sum(seconds.values()),
        "samples_mib": before / 1024,
        "mib": (peak - before) / 1024,
    }


def in_process(size: dict[str, int]) -> dict[str, Any]:
    """Measure a size in a process of its own."""
    words = [word for name, value in size.items() for word in (f"--{name}", str(value))]
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", file.name, *words]
        subprocess.run(command, check=True)
        return {**size, **json.loads(Path(file.name).read_text())}


def sizes() -> dict[str, list[dict[str, int]]]:
    """Return the sizes by what varies in them."""
    values = {"cells": CELLS, "waves": WAVES, "items": ITEMS}
    return {name: [DEFAULT | {name: value} for value in numbers] for name, numbers in values.items()}


def draw(figures: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw seconds and memory against cells, waves and items."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "qx"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), layout="constrained", sharey="row")
    for column, (name, rows) in enumerate(figures.items()):
        sizes_of = [row[name] for row in rows]
        upper, lower = axes[0][column], axes[1][column]
        for step in ("analysis", "page", "markdown", "screen"):
            upper.loglog(sizes_of, [row[step] for row in rows], marker="o", label=step)
        upper.loglog(
            sizes_of,
            [rows[0]["total"] * size / sizes_of[0] for size in sizes_of],
            ":",
            color="grey",
            label="linear",
        )
        lower.loglog(sizes_of, [max(row["mib"], 1.0) for row in rows], marker="o", color="black")
        fixed = ", ".join(f"{value:,} {other}" for other, value in DEFAULT.items() if other != name)
        upper.set_title(f"{name} ({fixed})", fontsize=9)
        lower.set_xlabel(name)
    axes[0][0].set_ylabel("seconds")
    axes[1][0].set_ylabel("MiB beyond the samples")
    axes[0][0].legend(fontsize=8)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure every size, or one; keep the figures and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in DEFAULT.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--one", type=Path, help="measure one size, and write its figures into this file")
    arguments = parser.parse_args()
    if arguments.one is not None:
        one = measure(arguments.cells, arguments.waves, arguments.items)
        arguments.one.write_text(json.dumps(one))
        return
    figures = {name: [in_process(size) for size in part] for name, part in sizes().items()}
    draw(figures, PLOT)
    keep("scale", figures)


if __name__ == "__main__":
    main()
