"""How a figure differs between builds of one cell: their spread, and the mean over builds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from qx.analysis import on_items, whole_set
from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.results.recording import Recording, Series
from qx.results.records import BuildSpread, CellResult, Comparison
from qx.statistics import intervals, items, over_builds
from qx.statistics.over_builds import BuildsMean

#: Phases of metrics that are measured of further builds.
PHASES = ("artifact", "predictions")
#: Method of an interval over builds.
METHOD = "crossed effects of items and builds, t of each"
#: Method of an interval where all builds are equal.
EQUAL = "all builds give the same"


def series_of_builds(
    recording: Recording, name: str, cell: CellResult, figure: Figure, seed: int
) -> dict[int, Series]:
    """Return the series of a figure of each build of a cell, by seed; ``seed`` is that of the run.

    Builds that failed are left out, and so are those in which the metric failed.
    """
    own = recording.get(name, figure)
    found: dict[int, Series] = {} if own is None else {seed: own}
    for build in cell.further_builds:
        source = build.seed if build.same_as is None else build.same_as
        series = own if source == seed else recording.further.get((name, source), {}).get(figure)
        if build.outcome == "ok" and series is not None:
            found[build.seed] = series
    return found


def spread(metric: Metric, by_seed: dict[int, Series], baseline: Series | None) -> BuildSpread | None:
    """Return how a figure differs between builds; None where fewer than two have it.

    ``baseline`` is that of the baseline's own build, or None where there is nothing to compare with.
    """
    builds = list(by_seed.values())
    if len(builds) < 2:
        return None
    values = np.array([_value(metric, series) for series in builds])
    mean = _mean(metric, builds)
    first = on_items.estimate(metric, builds[0])
    ci = None if first.ci is None else mean.ci
    if ci is not None and metric.unit == "fraction" and values.min() >= 0 and values.max() <= 1:
        ci = max(0.0, ci[0]), min(1.0, ci[1])
    are_equal = all(on_items.are_identical(metric, builds[0], other, lambda: False) for other in builds[1:])
    are_equal = are_equal or (metric.samples == "exact" and np.ptp(values) == 0)
    if are_equal:
        ci = first.ci
    return BuildSpread(
        values={str(seed): float(value) for seed, value in zip(by_seed, values, strict=True)},
        deviation=0.0 if are_equal else over_builds.deviation_of(values).value,
        smallest=float(values.min()),
        largest=float(values.max()),
        mean=float(values[0]) if are_equal else float(values.mean()),
        ci=ci,
        vs_baseline=None if baseline is None else _compared(metric, builds, baseline, are_equal=are_equal),
        method="" if ci is None else EQUAL if are_equal else METHOD,
    )


def deviation(metric: Metric, built: BuildSpread) -> over_builds.Deviation | None:
    """Return the spread between builds on the scale on which the metric is compared.

    None where a value is not positive, and so has no logarithm.
    """
    values = np.array([*built.values.values()])
    if not built.deviation:
        return over_builds.Deviation(0.0, len(values))
    if metric.compare == "difference":
        return over_builds.Deviation(built.deviation, len(values))
    return over_builds.deviation_of(np.log(values)) if values.min() > 0 else None


def _compared(
    metric: Metric, builds: Sequence[Series], baseline: Series, *, are_equal: bool
) -> Comparison | None:
    """Return how the mean over builds compares with the baseline; None where a build cannot be compared."""
    single = on_items.compare(metric, builds[0], baseline)
    values = [_value(metric, series) for series in (*builds, baseline)]
    is_relative = metric.compare != "difference"
    if single is None or (is_relative and min(values) <= 0):
        return None
    if are_equal:
        value, ci = single.value, single.ci
    else:
        mean = _mean(metric, builds, baseline)
        sign = -1.0 if metric.compare == "speedup" else 1.0
        ends = None if single.ci is None or mean.ci is None else [sign * end for end in mean.ci]
        value, ci = _from_scale(metric.compare, sign * mean.value, ends)
    neutral = 1.0 if is_relative else 0.0
    return Comparison(
        kind=metric.compare,
        value=value,
        ci=ci,
        p=single.p if are_equal else None,
        clear=None if ci is None else not ci[0] <= neutral <= ci[1],
        method="" if ci is None else EQUAL if are_equal else METHOD,
    )


def _from_scale(
    kind: Literal["ratio", "speedup", "difference"], value: float, ends: Sequence[float] | None
) -> tuple[float, tuple[float, float] | None]:
    """Return a value and its interval from the scale on which they were computed, logs for ratios.

    An interval of ratios that is too wide to say anything is left out.
    """
    low, high = (0.0, 0.0) if ends is None else sorted(ends)
    if kind == "difference":
        return value, None if ends is None else (low, high)
    if ends is None or high - low > intervals.MAX_LOG_WIDTH:
        return float(np.exp(value)), None
    return float(np.exp(value)), (float(np.exp(low)), float(np.exp(high)))


def _value(metric: Metric, series: Series) -> float:
    if metric.samples == "per_set":
        return series.resampled[0].value
    return float(series.values.mean() if metric.samples == "per_item" else series.values[0])


def _mean(metric: Metric, builds: Sequence[Series], baseline: Series | None = None) -> BuildsMean:
    """Return the mean over builds, or over their differences from the baseline, in logs for ratios."""
    is_relative = baseline is not None and metric.compare != "difference"
    level = on_items.level_of(0.95, *builds)
    if metric.samples == "per_set":
        samples = [series.resampled[0] for series in builds]
        base = None if baseline is None else baseline.resampled[0]
        return whole_set.mean_over_builds(samples, base, relative=is_relative, level=level)
    if metric.samples == "per_item":
        return _mean_of_items(builds, baseline, level, is_relative=is_relative)
    values = np.array([_value(metric, series) for series in builds])
    if baseline is None:
        return over_builds.mean_over_builds(values)
    theirs = _value(metric, baseline)
    return over_builds.mean_over_builds(np.log(values / theirs) if is_relative else values - theirs)


def _mean_of_items(
    builds: Sequence[Series], baseline: Series | None, level: float, *, is_relative: bool
) -> BuildsMean:
    ours = np.array([series.values for series in builds])
    values = ours.mean(axis=1)
    influence = ours / values[:, None] if is_relative else ours
    values = np.log(values) if is_relative else values
    mean_influence = influence.mean(axis=0)
    if baseline is None:
        over_items = items.moments(mean_influence)
        step = over_items.largest
    else:
        base = baseline.values / baseline.values.mean() if is_relative else baseline.values
        over_items = items.moments(mean_influence - base)
        scales = items.Scale.from_items(mean_influence), items.Scale.from_items(base)
        step = items.step_between(*scales, over_items, np.mean(mean_influence == base))
        values = values - (np.log(baseline.values.mean()) if is_relative else baseline.values.mean())
    return over_builds.mean_over_builds(values, over_items, float(step), level)
