"""Times of operators, as profilers of runtimes give them, for a typical call of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from time import perf_counter

from attrs import frozen


@frozen
class WatchedCalls:
    """The times of calls that a profiler watched, of which the typical ones are those of the middle half."""

    #: Time of each call in seconds, in their order.
    times: tuple[float, ...]

    @classmethod
    def make(cls, call: Callable[[], object], count: int) -> WatchedCalls:
        """Call so many times."""
        times = []
        for _ in range(count):
            start = perf_counter()
            call()
            times.append(perf_counter() - start)
        return cls(tuple(times))

    @property
    def typical(self) -> list[int]:
        """Positions of the typical calls: other programs may have stopped some of the slow ones."""
        order = sorted(range(len(self.times)), key=self.times.__getitem__)
        quarter = len(order) // 4
        return order[quarter : len(order) - quarter]

    @property
    def seconds(self) -> float:
        """Mean time of a typical call, in seconds."""
        return fmean(self.times[position] for position in self.typical)

    def share(self, times: Sequence[float]) -> float:
        """Return the time of an operator in a typical call.

        Parameters
        ----------
        times : sequence of float
            The time of each run in the order of the runs, of which every call has equally many.

        Returns
        -------
        float
            The mean over the typical calls, the same for all operators, so that their sum is comparable with
            ``seconds``. Over all calls, where the number of runs is no multiple of theirs.
        """
        runs, rest = divmod(len(times), len(self.times))
        if rest or not runs:
            return sum(times) / len(self.times)
        return fmean(sum(times[runs * position : runs * (position + 1)]) for position in self.typical)
