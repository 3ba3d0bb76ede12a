"""Find steps in a series of values that each have a known error: where its mean changes, and by how much."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike

from qx.statistics.student_t import Floats

#: Largest share of series without a step in which one is found, and the level of the test for a whole series.
#: What values vary by beyond their errors is estimated, so that permutations are not quite exact.
PROMISED, LEVEL = 0.01, 0.008
#: Least number of values of a series that is tested, and of those before and behind a step. With fewer a test
#: by permutations cannot reach the level.
LEAST, LEAST_PART = 10, 2
#: Number of permutations of a test.
PERMUTATIONS = 1999
#: Median of the square of a standard normal deviate.
MEDIAN_SQUARE = 0.4549


@frozen
class Step:
    """A change of the mean of a series."""

    #: Position of the first value behind it.
    position: int
    #: Probability of so large a change where there is none, by permutations of its segment.
    p: float


def find_steps(values: ArrayLike, errors: ArrayLike, level: float = LEVEL, seed: int = 0) -> list[Step]:
    """Find the steps of a series, in their order.

    In a segment the place is looked for at which the weighted means before and behind differ most in units
    of their error (the likelihood ratio for a change of the mean, Hinkley, 1970). It is a step if so large a
    difference is rare among permutations of the segment (Antoch & Huskova, 2001), which needs no
    distribution; then both parts are looked at in the same way (binary segmentation: Vostrikova, 1981). Each
    segment is tested at its share of the level by its length. ``python -m benchmarks.history`` simulates the
    false alarms.

    Parameters
    ----------
    values : array-like of float, shape [n]
        The series, in logs where it is compared by ratio.
    errors : array-like of float, shape [n]
        Standard error of each value; NaN where it is not known. What values vary by beyond them is estimated
        from differences of neighbours, which steps are rare among.
    level : float
        Level of the test for the whole series.
    seed : int
        Seed of the permutations.

    Returns
    -------
    list of Step
        Empty for fewer than ``LEAST`` values.
    """
    series: Floats = np.asarray(values, dtype=float)
    if len(series) < LEAST or np.ptp(series) == 0:
        return []
    weights = 1 / _variances(series, np.asarray(errors, dtype=float))
    generator = np.random.default_rng(seed)
    steps, pending = [], [(0, len(series))]
    while pending:
        start, end = pending.pop()
        if end - start < max(LEAST // 2, 2 * LEAST_PART):
            continue
        place, p = _test(series[start:end], weights[start:end], generator)
        if p <= level * (end - start) / len(series):
            steps.append(Step(start + place, p))
            pending += [(start, start + place), (start + place, end)]
    return sorted(steps, key=lambda step: step.position)


def exact_steps(values: ArrayLike) -> list[Step]:
    """Return a step wherever a value differs from the one before: of values that have no error."""
    series = np.asarray(values, dtype=float)
    return [Step(int(position) + 1, 0.0) for position in np.flatnonzero(series[1:] != series[:-1])]


def _variances(series: Floats, errors: Floats) -> Floats:
    """Return the variance of each value: that of its error, and what all vary by beyond it."""
    finite = errors[np.isfinite(errors)]
    squares = np.where(np.isfinite(errors), errors, np.median(finite) if len(finite) else 0.0) ** 2
    total = float(np.median(np.diff(series) ** 2)) / 2 / MEDIAN_SQUARE
    beyond = max(0.0, total - float(np.median(squares)))
    variances: Floats = squares + beyond
    smallest = variances[variances > 0].min(initial=np.inf)
    return np.where(variances > 0, variances, smallest if np.isfinite(smallest) else 1.0)


def _test(series: Floats, weights: Floats, generator: np.random.Generator) -> tuple[int, float]:
    """Return the place of the largest difference, and its p by permutations of values with their weights."""
    statistics, places = _largest(series[None], weights[None])
    orders = generator.permuted(np.tile(np.arange(len(series)), (PERMUTATIONS, 1)), axis=1)
    permuted, _ = _largest(series[orders], weights[orders])
    # Rounding must not make an order that is the same differ from itself.
    exceeding = int(np.count_nonzero(permuted >= statistics[0] * (1 - 1e-12)))
    return int(places[0]), (1 + exceeding) / (1 + PERMUTATIONS)


def _largest(series: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the largest difference of weighted means in units of its error, and its place, by row."""
    before = np.cumsum(weights, axis=1)[:, LEAST_PART - 1 : -LEAST_PART]
    total = weights.sum(axis=1, keepdims=True)
    centred = series - (weights * series).sum(axis=1, keepdims=True) / total
    sums = np.cumsum(weights * centred, axis=1)[:, LEAST_PART - 1 : -LEAST_PART]
    differences = np.abs(sums) * np.sqrt(total / before / (total - before))
    return differences.max(axis=1), differences.argmax(axis=1) + LEAST_PART
