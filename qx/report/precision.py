"""Estimate how much longer a run must measure until its speedups are as precise as the user asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from attrs import frozen

from qx.results import numbers
from qx.results.columns import View
from qx.results.records import Measurement
from qx.statistics.effort import waves_needed


@frozen(kw_only=True)
class Reached:
    """The precision that a run reached."""

    #: Half of the widest 95 % interval of a speedup, as a share of the speedup.
    widest: float
    #: Cell that has it.
    cell: str
    #: Estimate of the seconds of measuring that reach the precision that was asked for, by the variances
    #: seen so far. None where it was reached, and where more waves are needed than an estimate holds for.
    seconds: float | None


def reached(view: View) -> Reached | None:
    """Return the precision of the speedups of a run; None where nothing was timed, or no interval is known.

    The whole run must be that many times as long as the cell that takes longest needs waves.
    """
    measuring = view.results.run.measuring
    # The waves go on until the control is told from the baseline as precisely as the others.
    halves = list(_halves(view))
    if measuring is None or not halves:
        return None
    widest, measured = max(halves, key=lambda pair: pair[0])
    if widest <= measuring.precision:
        return Reached(widest=widest, cell=measured.cell, seconds=None)
    factors = [
        needed / entry.n
        for half, entry in halves
        if half > measuring.precision
        for needed in [waves_needed(half / measuring.precision, entry.n)]
        if needed is not None
    ]
    wide = sum(half > measuring.precision for half, _ in halves)
    seconds = measuring.seconds * max(factors) if len(factors) == wide else None
    return Reached(widest=widest, cell=measured.cell, seconds=seconds)


def budget_in_words(seconds: float) -> str:
    """Return an estimate of seconds, rounded up to two digits, as a value of ``--budget``."""
    return str(math.ceil(float(format(seconds, ".2g"))))


def _halves(view: View) -> Iterator[tuple[float, Measurement]]:
    """Yield half of the interval of each timed comparison with the baseline, as a share of its value."""
    metrics = view.results.metrics
    for measured in view.results.measurements:
        compared = measured.vs_baseline
        if metrics[measured.metric].phase != "block" or compared is None or compared.kind == "difference":
            continue
        if measured.cell in _baselines(view):
            continue
        if (half := numbers.relative_half(compared)) is not None:
            yield half, measured


def _baselines(view: View) -> set[str]:
    run = view.results.run
    return {run.baseline_of(name) for name in run.workloads}
