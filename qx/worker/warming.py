"""The warm-up: calls before the ones that are recorded."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

from qx.processes.answers import WarmAnswer
from qx.values import Native

#: Length of a window in seconds: neither the resolution of the clock nor an interruption may dominate it.
WINDOW_SECONDS = 0.02
#: Times are steady after this many windows in a row that are not faster than the best one before by more than
#: the tolerance, which is relative.
STEADY_WINDOWS = 2
TOLERANCE = 0.02


def warm_up(
    call: Callable[[Native], Native],
    native: Native,
    seconds: float,
    reset: Callable[[], object] | None = None,
) -> WarmAnswer:
    """Call in windows until the calls get no faster, or for ``seconds``, but for at least one window.

    ``reset`` is called before each call, and not counted into its time.
    """
    began = perf_counter()
    medians: list[float] = []
    best, fastest, stalled, calls = float("inf"), float("inf"), 0, 0
    resets = [0.0]
    while stalled < STEADY_WINDOWS:
        times: list[float] = []
        spent = 0.0
        while spent < WINDOW_SECONDS:
            if reset is not None:
                start = perf_counter()
                reset()
                resets.append(perf_counter() - start)
                spent += resets[-1]
            start = perf_counter()
            call(native)
            times.append(perf_counter() - start)
            spent += times[-1]
        calls += len(times)
        fastest = min(fastest, *times)
        medians.append(median(times))
        stalled = 0 if medians[-1] < best * (1 - TOLERANCE) else stalled + 1
        best = min(best, medians[-1])
        if perf_counter() - began > seconds:
            break
    return WarmAnswer(
        seconds_per_call=median(medians[-STEADY_WINDOWS:]),
        fastest=fastest,
        calls=calls,
        steady=stalled >= STEADY_WINDOWS,
        reset=median(resets[1:] or resets),
    )
