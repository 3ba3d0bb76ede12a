"""How long does the front of 2,000 cells take, from the values of their waves and items, bootstrap apart?"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.common import keep
from qx.analysis.quantity import Quantity
from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.results.recording import Recording, Series
from qx.statistics import pareto

ITEMS, WAVES, GROUP = 10_000, 6, 20


def metric(name: str, samples: Any, compare: Any, better: Any) -> Metric:
    """Return a metric that is an axis of the front."""
    phases: dict[str, Any] = {
        "exact": "artifact",
        "per_item": "predictions",
        "per_launch": "fresh",
        "per_block": "block",
    }
    return Metric(
        name=name, summary="An axis.", unit="", better=better, samples=samples, compare=compare,
        phase=phases[samples], margin=0.01, axis=True,
    )  # fmt: skip


METRICS = (
    metric("accuracy", "per_item", "difference", "higher"),
    metric("file_size", "exact", "ratio", "lower"),
    metric("latency", "per_block", "speedup", "lower"),
    metric("rss", "per_launch", "ratio", "lower"),
)


def recorded(cells: int) -> Recording:
    """Return samples of cells in groups, whose cells share waves with each other and with the first cell."""
    generator, recording = np.random.default_rng(0), Recording()
    groups = -(-cells // GROUP)
    for cell in range(cells):
        groups_of_cell = range(groups) if cell == 0 else (cell // GROUP,)
        waves = np.concatenate([np.arange(WAVES) + WAVES * group for group in groups_of_cell])
        level = np.exp(generator.normal(0, 0.5))
        for axis in METRICS:
            none = np.full(ITEMS if axis.samples == "per_item" else 1, -1)
            wave, rounds = none, none
            values = (generator.random(len(none)) < 0.87).astype(float)
            if axis.samples == "exact":
                values = np.array([level])
            elif axis.samples == "per_launch":
                wave, rounds = waves, np.full(len(waves), -1)
                values = level * np.exp(generator.normal(0, 0.01, len(waves)))
            elif axis.samples == "per_block":
                wave, rounds = np.repeat(waves, 20), np.tile(np.repeat(np.arange(5), 4), len(waves))
                values = level * np.exp(generator.exponential(0.05, len(wave)))
            recording.add(
                str(cell), Figure(axis.name), Series(values=values, wave=wave, round=rounds, position=rounds)
            )
    return recording


def main() -> None:
    """Print and keep the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2000)
    cells = parser.parse_args().cells
    recording = recorded(cells)
    seconds = {}
    first_start = start = time.perf_counter()
    axes = []
    for axis in METRICS:
        axes.append(Quantity(axis, None, recording, "0").axis([str(cell) for cell in range(cells)]))
        seconds[axis.name], start = time.perf_counter() - start, time.perf_counter()
    front = pareto.front(axes)
    seconds["front"] = time.perf_counter() - start
    seconds["total"] = time.perf_counter() - first_start
    keep("front", {"cells": cells, "on_the_front": int(front.on_front.sum()), "seconds": seconds})


if __name__ == "__main__":
    main()
