"""Times of operators, as profilers of runtimes give them, for one call of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter


def per_call(times: Sequence[float], calls: int) -> float:
    """Return the time of an operator in a typical call.

    Parameters
    ----------
    times : sequence of float
        The time of each run in the order of the runs, of which every call has equally many.
    calls : int
        Number of calls.

    Returns
    -------
    float
        The median over the calls of the sum of a call's runs: other programs may have stopped some calls.
        The mean, where the number of runs is no multiple of that of the calls.
    """
    runs, rest = divmod(len(times), calls)
    if rest or not runs:
        return sum(times) / calls
    return median(sum(times[start : start + runs]) for start in range(0, len(times), runs))


def time_calls(call: Callable[[], object], calls: int) -> float:
    """Call so many times, and return the median time of a call in seconds."""
    times = []
    for _ in range(calls):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return median(times)
