"""What does the analysis of F1 cost beside that of accuracy: 24 cells, 10,000 items, in turns?

Both metrics are measured on the same outputs, by the worker's own code. Timed is what the host does with the
samples of all cells: it reads the workers' answers, computes values, intervals, all comparisons that a report
may have, the axis of the front and its resamplings, writes the raw samples and reads them again. What a
worker takes to measure a cell stands beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from attrs import asdict

from benchmarks.common import keep
from qx.analysis.axes import DRAWS, draw_values, make_axis
from qx.analysis.details import details
from qx.analysis.quantity import Quantity
from qx.contract.figures import Figure
from qx.contract.records import Context, Metric, Predictions
from qx.host.host import Host
from qx.processes.answers import PlainSamples, Resampling
from qx.results.recording import Recording, Series
from qx.statistics import pareto
from qx.worker.plugins import BoundPlugin
from qx.worker.samples import samples_of

#: Share of the answers in which two configs differ.
DIFFERING = 0.01


def predictions(cells: int, items: int, classes: int) -> list[Predictions]:
    """Return the scores of cells, which differ by noise, and in the answers to some items."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, items)
    scores = 2.2 * np.eye(classes)[labels] + generator.standard_normal((items, classes))
    drawn = []
    for cell in range(cells):
        own = scores + 0.02 * generator.standard_normal(scores.shape)
        changed = generator.random(items) < DIFFERING * (cell > 0)
        own[changed] = generator.standard_normal((int(changed.sum()), classes))
        drawn.append(
            Predictions(
                outputs={"output": own.astype(np.float32)},
                targets={"labels": labels},
                classes=tuple(f"class {index}" for index in range(classes)),
            )
        )
    return drawn


def analyse(metric: Metric, answers: Mapping[str, str], folder: Path) -> dict[str, float]:
    """Do what the host does with the answers of the workers, and return the seconds of each part."""
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal start
        seconds[name], start = time.perf_counter() - start, time.perf_counter()

    recording = Recording()
    for cell, answer in answers.items():
        fields = json.loads(answer)
        resampled = tuple(Resampling(**entry) for entry in fields.pop("resampled"))
        recording.add(cell, Figure(metric.name), Series.plain(PlainSamples(**fields, resampled=resampled)))
    lap("read answers")
    cells = list(answers)
    quantity = Quantity(metric, None, recording, cells[0])
    for cell in cells:
        quantity.estimate(cell)
        details(quantity, cell)
    lap("values")
    for cell in cells:
        for other in cells:
            if other != cell:
                quantity.compare(cell, other)
    lap("comparisons")
    pareto.front([make_axis(quantity, cells)])
    draw_values(quantity, cells, np.zeros((DRAWS, 1), dtype=np.intp), np.random.default_rng(0))
    lap("front")
    path = folder / "samples.npz"
    path.write_bytes(recording.to_bytes())
    Recording.read(path)
    lap("raw samples")
    return seconds


def in_turns(runs: int, works: Mapping[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Do each work in every turn, and return the median of the seconds of each part."""
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            laps[name].append(work())
    return {
        name: {part: round(float(np.median([lap[part] for lap in parts])), 4) for part in parts[0]}
        for name, parts in laps.items()
    }


def main() -> None:
    """Print and keep the seconds of both metrics, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--profile", action="store_true", help="print where the time of F1 goes; keeps nothing"
    )
    arguments = parser.parse_args()
    host = Host.discover()
    drawn = predictions(arguments.cells, arguments.items, arguments.classes)
    works: dict[str, Callable[[], dict[str, float]]] = {}
    of_a_cell = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for metric in ("accuracy", "f1"):
            entry = host.get("metric", metric)
            record = entry.record
            assert isinstance(record, Metric)
            assert entry.reference is not None
            plugin = BoundPlugin(Host.of([entry.reference]), metric, Context())
            start = time.perf_counter()
            answers = {}
            for cell, data in enumerate(drawn):
                samples = samples_of(plugin, None, data)
                assert samples is not None
                answers[str(cell)] = json.dumps(asdict(samples))
            of_a_cell[metric] = round((time.perf_counter() - start) / len(drawn), 4)

            def work(record: Metric = record, answers: Mapping[str, str] = answers) -> dict[str, float]:
                return analyse(record, answers, folder)

            works[metric] = work
        if arguments.profile:
            import cProfile

            cProfile.runctx("works['f1']()", {}, {"works": works}, sort="cumulative")
            return
        seconds = in_turns(arguments.runs, works)
    totals = {metric: round(sum(parts.values()), 4) for metric, parts in seconds.items()}
    figures: dict[str, Any] = {
        "cells": arguments.cells,
        "items": arguments.items,
        "classes": arguments.classes,
        "runs": arguments.runs,
        "seconds": seconds,
        "total": totals,
        "f1_over_accuracy": round(totals["f1"] / totals["accuracy"], 2),
        "worker_seconds_for_a_cell": of_a_cell,
    }
    keep("set_cost", figures)


if __name__ == "__main__":
    main()
