"""What has been seen of a candidate so far, and the intervals that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from attrs import Factory, define, frozen

from qx.analysis import on_items
from qx.contract.records import Metric
from qx.results.constraints import Bound, Constraint
from qx.results.recording import Series
from qx.statistics import intervals, over_waves


@frozen(kw_only=True)
class Limit:
    """A constraint with the metric that it limits, and where on the metric's scale."""

    constraint: Constraint
    metric: Metric
    bound: Bound


@frozen
class Seen:
    """A figure on the scale of a bound, with the ends of its interval; infinite where none is known."""

    value: float
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def of(cls, value: float, ends: tuple[float, float] | None) -> Seen:
        """Return a figure with the ends of its interval, if it has one."""
        return cls(value) if ends is None else cls(value, *ends)


@define
class Figures:
    """Samples of one candidate, beside those of the baseline on the same items and in the same waves."""

    #: Samples of the metric of quality, of the candidate and of the baseline; None before the first look.
    items: tuple[Series, Series] | None = None
    #: Values without sampling error of the candidate and of the baseline, by the name of the metric.
    exact: dict[str, tuple[float, float]] = Factory(dict)
    #: ``log(candidate / baseline)`` by the number of the wave, by the name of the metric.
    log_ratios: dict[str, dict[int, float]] = Factory(dict)
    #: Values of the candidate's launches, by the name of the metric.
    launches: dict[str, list[float]] = Factory(dict)

    def seen(self, limit: Limit, error: float) -> Seen | None:
        """Return the figure that a constraint limits, with an interval of this error at either end.

        None where nothing is known of it.
        """
        name = limit.metric.name
        if limit.bound.kind == "value":
            return self._value(name, error)
        if limit.constraint.aim != "drop":
            return self._ratio(name, error) if name in self.log_ratios or name in self.exact else None
        if self.items is None:
            return None
        compared = on_items.compare(limit.metric, *self.items, 1 - 2 * error)
        if compared is None:
            return None
        if compared.kind == "speedup":
            ends = None if compared.ci is None else (1 / compared.ci[1], 1 / compared.ci[0])
            return Seen.of(1 / compared.value, ends)
        return Seen.of(compared.value, compared.ci)

    def objective(self, metric: Metric) -> float:
        """Return the estimate of a quantity that is to be small: the log of its ratio to the baseline's."""
        if metric.name in self.exact:
            ours, theirs = self.exact[metric.name]
            return math.log(ours / theirs)
        ratios = self.log_ratios.get(metric.name)
        return float(np.mean([*ratios.values()])) if ratios else math.inf

    def advantage(self, other: Figures, metric: Metric, error: float) -> float:
        """Return by how much this candidate is shown to be smaller than another, as a log ratio.

        It is the end of an interval with this error: minus infinity where nothing is shown.
        """
        if metric.name in self.exact and metric.name in other.exact:
            return other.objective(metric) - self.objective(metric)
        ours, theirs = self.log_ratios.get(metric.name, {}), other.log_ratios.get(metric.name, {})
        if not ours or not theirs:
            return -math.inf
        level, shared = 1 - 2 * error, sorted(ours.keys() & theirs.keys())
        if len(shared) >= 2:
            compared = over_waves.difference_interval([theirs[wave] - ours[wave] for wave in shared], level)
        else:
            compared = over_waves.independent([*theirs.values()], [*ours.values()], "difference", level)
        return -math.inf if compared.ci is None else compared.ci[0]

    def _value(self, name: str, error: float) -> Seen | None:
        if name in self.exact:
            value = self.exact[name][0]
            return Seen(value, value, value)
        if launches := self.launches.get(name):
            estimate = over_waves.between_launches(launches, 1 - 2 * error)
            return Seen.of(estimate.value, estimate.ci)
        return None

    def _ratio(self, name: str, error: float) -> Seen:
        if name in self.exact:
            compared = intervals.exact(*self.exact[name], "ratio")
        else:
            compared = over_waves.ratio_interval([*self.log_ratios[name].values()], 1 - 2 * error)
        return Seen.of(compared.value, compared.ci)


def estimates(figures: Figures, limits: Mapping[str, Limit]) -> dict[str, float]:
    """Return the value of each figure that is limited, by the words of the constraint."""
    seen = {words: figures.seen(limit, 0.025) for words, limit in limits.items()}
    return {words: figure.value for words, figure in seen.items() if figure is not None}
