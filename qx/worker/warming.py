"""Calls that come before those that count."""

from __future__ import annotations

from statistics import median
from time import perf_counter

from qx.contract.records import Subject
from qx.values import JsonObject, Native

#: A window is long enough that the clock and one interruption do not decide it.
WINDOW_SECONDS = 0.02
#: Steady: so many windows in a row, none of which is faster than the best before by more than the tolerance.
STEADY_WINDOWS = 2
TOLERANCE = 0.02


def warm_up(subject: Subject, native: Native, seconds: float) -> JsonObject:
    """Call in windows until they get no faster, or for ``seconds``; at least one window.

    Gives the seconds that a call took in the last windows and at least, the number of calls, and whether they
    became steady.
    """
    began = perf_counter()
    medians: list[float] = []
    best, fastest, stalled, calls = float("inf"), float("inf"), 0, 0
    while stalled < STEADY_WINDOWS:
        times: list[float] = []
        spent = 0.0
        while spent < WINDOW_SECONDS:
            start = perf_counter()
            subject.call(native)
            times.append(perf_counter() - start)
            spent += times[-1]
        calls += len(times)
        fastest = min(fastest, *times)
        medians.append(median(times))
        stalled = 0 if medians[-1] < best * (1 - TOLERANCE) else stalled + 1
        best = min(best, medians[-1])
        if perf_counter() - began > seconds:
            break
    return {
        "seconds_per_call": median(medians[-STEADY_WINDOWS:]),
        "fastest": fastest,
        "calls": calls,
        "steady": stalled >= STEADY_WINDOWS,
    }
