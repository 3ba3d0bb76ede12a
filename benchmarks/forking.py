"""Are launches that are forked from an import of their wave as good as fresh ones, and how much sooner?

Two schedulers take turns: ``fresh`` starts every launch as a program of its own, which measures memory and
start-up in each wave and is timed then, as qx did before; ``forked`` is what qx does. ``alike`` measures
copies of the baseline and copies of an int8 model: their true ratio is 1. ``matrix`` measures real configs:
which share of the measure phase are recorded calls, and when are all speedups known within 2 %?
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import Any
from unittest.mock import patch

import numpy as np
from attrs import Factory, define

from benchmarks.common import HERE, PLUGINS, Lines, argument_parser, keep
from qx.analysis.quantity import Quantity
from qx.contract.figures import Figure
from qx.host.host import Host
from qx.results.recording import Recording
from qx.results.records import Results
from qx.runner import Request, run
from qx.runner.measure import timing
from qx.runner.measure.launches import Launches
from qx.runner.measure.waves import _Group
from qx.statistics import over_waves

#: Copies of one model, by kind; the baseline and the control are two more of the first.
COPIES = {"fp32": ("copy_a", "copy_b"), "int8": ("int8_a", "int8_b", "int8_c", "int8_d")}
METRICS = ("latency", "file_size", "rss", "startup")
#: Half-width of an interval that is precise enough.
PRECISE = 0.02
LEAST_WAVES = 6


@define
class Clock:
    """When each wave ended, in seconds from the first."""

    ends: list[float] = Factory(list)


def _never(*_: object) -> bool:
    return False


def _always(*_: object) -> bool:
    return True


@contextmanager
def scheduler(name: str) -> Iterator[Clock]:
    """Have runs use one of the two schedulers, and note when waves end."""
    clock, began = Clock(), time.monotonic()
    wave = _Group._wave

    def timed_wave(group: _Group) -> None:
        nonlocal began
        if not clock.ends:
            began = group.began
        wave(group)
        clock.ends.append(time.monotonic() - began)

    with patch.object(_Group, "_wave", timed_wave):
        if name == "forked":
            yield clock
            return
        with (
            patch.object(Launches, "_forks", _never),
            patch.object(_Group, "_wants_fresh", _always),
        ):
            yield clock


@define
class Run:
    """A run with one of the schedulers."""

    scheduler: str
    results: Results
    recording: Recording
    clock: Clock

    @classmethod
    def of(cls, name: str, host: Host, request: Request, budget: float | None = None) -> Run:
        """Run with a scheduler, and a budget in seconds that is never refused; None: the default."""
        with ExitStack() as stack:
            clock = stack.enter_context(scheduler(name))
            if budget is not None:
                stack.enter_context(patch.object(timing, "budget_of", lambda *_: budget))
            results, recording = run(host, request, Lines())
        return cls(name, results, recording, clock)

    @property
    def baseline(self) -> str:
        """The id of the baseline's cell."""
        return self.results.run.baseline

    def quantities(self) -> list[Quantity]:
        """Return the latency at each point."""
        points = self.results.run.points
        metric = self.results.metrics["latency"]
        return [Quantity(metric, point, self.recording, self.baseline) for point in points]

    def share(self) -> float:
        """Return which share of the seconds of the waves are recorded calls."""
        calls = sum(
            float(series.values.sum())
            for by_figure in self.recording.series.values()
            for figure, series in by_figure.items()
            if figure.metric == "latency"
        )
        return calls / 1e3 / self.clock.ends[-1]

    def widths(self) -> np.ndarray:
        """Return the widest half-width of a speedup after each wave, ``[waves]``; infinite after one."""
        waves = len(self.clock.ends)
        widest = np.zeros(waves)
        for quantity in self.quantities():
            for cell in quantity.measured:
                if cell != self.baseline:
                    advantage = quantity.by_wave.advantage(cell, self.baseline)
                    for count in range(waves):
                        widest[count] = max(widest[count], over_waves.half_width(advantage[: count + 1]))
        return widest

    def seconds_until_precise(self) -> tuple[float, bool]:
        """Return when all speedups were known within 2 %; False: that is by the variance seen."""
        widths = self.widths()
        for wave in range(LEAST_WAVES - 1, len(widths)):
            if widths[wave] <= PRECISE:
                return self.clock.ends[wave], True
        return self.clock.ends[-1] * float(widths[-1] / PRECISE) ** 2, False


def cells_alike(run_of: Run, kind: str) -> list[str]:
    """Return the cells of one model."""
    workload = run_of.baseline.partition("/")[0]
    cells = [f"{workload}/{name}" for name in COPIES[kind]]
    return cells if kind == "int8" else [run_of.baseline, f"{workload}/control", *cells]


def errors(run_of: Run, kind: str) -> dict[str, Any]:
    """Return how far copies of a model appear to differ, and how often their intervals hold 1."""
    logs, held, spreads, widths = [], [], [], []
    for quantity in run_of.quantities():
        for ours, theirs in combinations(cells_alike(run_of, kind), 2):
            difference = quantity.compare(ours, theirs)
            assert difference is not None
            assert difference.ci is not None
            logs.append(math.log(difference.value))
            held.append(difference.ci[0] <= 1 <= difference.ci[1])
            widths.append(math.log(difference.ci[1] / difference.ci[0]) / 2)
            spreads.append(float(np.nanstd(quantity.by_wave.advantage(ours, theirs), ddof=1)))
    return {
        "rms_error": float(np.sqrt(np.mean(np.square(logs)))),
        "held": held,
        "median_half_width": float(np.median(widths)),
        "spread_between_waves": float(np.median(spreads)),
    }


def across(run_of: Run) -> list[float]:
    """Return the standard deviation over waves of the log ratio of int8 to fp32, by point."""
    return [
        float(
            np.median(
                [
                    np.nanstd(quantity.by_wave.advantage(cell, run_of.baseline), ddof=1)
                    for cell in cells_alike(run_of, "int8")
                ]
            )
        )
        for quantity in run_of.quantities()
    ]


def speedups(run_of: Run) -> dict[str, list[tuple[float, float, float]]]:
    """Return the speedup of the int8 models over the baseline with its interval, by point."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for quantity in run_of.quantities():
        for cell in cells_alike(run_of, "int8"):
            difference = quantity.compare(cell, run_of.baseline)
            assert difference is not None
            assert difference.ci is not None
            found.setdefault(str(quantity.point), []).append((difference.value, *difference.ci))
    return found


def upper_bound(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Return the ratio of two rms errors of paired runs, and its upper 95 % bound by bootstrap over runs."""
    pairs = np.square(np.column_stack([ours, theirs]))
    draws = np.random.default_rng(0).integers(len(pairs), size=(10_000, len(pairs)))
    ratios = np.sqrt(pairs[draws, 0].mean(axis=1) / pairs[draws, 1].mean(axis=1))
    return float(np.sqrt(pairs[:, 0].mean() / pairs[:, 1].mean())), float(np.quantile(ratios, 0.95))


def alike(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure copies with both schedulers in turns, and with ``forked`` at a third of the budget too."""
    names = (*COPIES["fp32"], *COPIES["int8"])
    host = Host.discover([f"{PLUGINS}:{name}" for name in names])
    budgets = {"fresh": arguments.budget, "forked": arguments.budget, "third": arguments.budget / 3}
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in budgets}
    if arguments.more:
        earlier = json.loads((HERE / "results" / f"{arguments.name}.json").read_text(encoding="utf-8"))
        assert earlier["budget"] == arguments.budget
        samples = earlier["samples"]
    for seed in range(len(samples["fresh"]), arguments.runs):
        for name in np.roll(list(budgets), seed):
            request = Request(
                workload=arguments.workload,
                data=arguments.data,
                configs=names,
                metrics=("latency",),
                seed=seed,
                precision=1e-6,
            )
            this = Run.of("fresh" if name == "fresh" else "forked", host, request, budgets[name])
            samples[name].append(
                {
                    **{kind: errors(this, kind) for kind in COPIES},
                    "across": across(this),
                    "speedups": speedups(this),
                    "share": this.share(),
                    "seconds": this.clock.ends[-1],
                    "waves": len(this.clock.ends),
                }
            )
            print(seed, name, {kind: samples[name][-1][kind]["rms_error"] for kind in COPIES}, flush=True)
    return {
        "runs": arguments.runs,
        "budget": arguments.budget,
        "share": medians(samples, "share"),
        "seconds": medians(samples, "seconds"),
        **{kind: of_kind(samples, kind) for kind in COPIES},
        "spread_of_int8_to_fp32": {
            name: np.median([one["across"] for one in parts], axis=0).tolist()
            for name, parts in samples.items()
        },
        "samples": samples,
    }


def medians(samples: Mapping[str, Sequence[Mapping[str, Any]]], field: str) -> dict[str, float]:
    """Return the median over runs of a field, by scheduler."""
    return {name: float(np.median([part[field] for part in parts])) for name, parts in samples.items()}


def of_kind(samples: Mapping[str, Sequence[Mapping[str, Any]]], kind: str) -> dict[str, Any]:
    """Summarize the errors of the copies of one model."""
    rms = {name: [part[kind]["rms_error"] for part in parts] for name, parts in samples.items()}
    held = {
        name: [value for part in parts for value in part[kind]["held"]] for name, parts in samples.items()
    }
    same, same_bound = upper_bound(rms["forked"], rms["fresh"])
    third, third_bound = upper_bound(rms["third"], rms["fresh"])
    return {
        "rms_error": {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in rms.items()},
        "forked_to_fresh": same,
        "forked_to_fresh_upper": same_bound,
        "third_to_fresh": third,
        "third_to_fresh_upper": third_bound,
        "interval_holds_1": {name: float(np.mean(values)) for name, values in held.items()},
        "comparisons": {name: len(values) for name, values in held.items()},
        "spread_between_waves": {
            name: float(np.median([part[kind]["spread_between_waves"] for part in parts]))
            for name, parts in samples.items()
        },
    }


def matrix(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure real configs with both schedulers in turns, at the default budget or another."""
    samples: dict[str, list[dict[str, Any]]] = {"fresh": [], "forked": []}
    for seed in range(arguments.runs):
        for name in np.roll(list(samples), seed):
            request = Request(
                workload=arguments.workload,
                data=arguments.data,
                configs=tuple(arguments.config or ()),
                metrics=METRICS,
                seed=seed,
                precision=PRECISE / 2,
            )
            this = Run.of(str(name), Host.discover([]), request, arguments.budget)
            seconds, is_reached = this.seconds_until_precise()
            launches = [result.launches for result in this.results.cells.values()]
            samples[name].append(
                {
                    "share": this.share(),
                    "seconds": this.clock.ends[-1],
                    "waves": len(this.clock.ends),
                    "launches": sum(launches),
                    "cells": len(launches),
                    "widest_half_width": float(this.widths()[-1]),
                    "seconds_until_2_percent": seconds,
                    "reached": is_reached,
                    "rss_values": len(next(iter(this.recording.series.values()))[Figure("rss")].values),
                }
            )
            print(seed, name, samples[name][-1], flush=True)
    fields = ("share", "seconds", "widest_half_width", "seconds_until_2_percent", "cells")
    return {
        "runs": arguments.runs,
        **{field: medians(samples, field) for field in fields},
        "samples": samples,
    }


def main() -> None:
    """Print and keep the figures of one part."""
    parser = argument_parser(__doc__, runs=13)
    parser.add_argument("part", choices=("alike", "matrix"))
    parser.add_argument("--budget", type=float, help="seconds; by default 60, or those of qx for a matrix")
    parser.add_argument("-c", "--config", action="append")
    parser.add_argument("--name", help="of the file of results")
    parser.add_argument("--more", action="store_true", help="go on from the runs that the file has (alike)")
    arguments = parser.parse_args()
    if arguments.part == "alike":
        arguments.budget = arguments.budget or 60.0
        arguments.name = arguments.name or "forking_alike"
        keep(arguments.name, alike(arguments))
    else:
        keep(arguments.name or "forking_matrix", matrix(arguments))


if __name__ == "__main__":
    main()
