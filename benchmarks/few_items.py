"""Do intervals hold the truth where few items decide a difference, and at the gate's levels?

Simulated: two configs on the same items, of which 1, 3, 10 or 50 are expected to change their answer, all
from right to wrong or as many back. Statistics are those of the whole set, and means over items. The truth is
the average of sets with as many items. For values of 0 and 1 nothing is drawn: every outcome is counted with
its probability. An interval must hold the truth in 93 % of sets or more where 95 % are claimed; at the gate's
levels either tail must miss it no more often than promised.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from attrs import frozen
from scipy.stats import binom, poisson

from benchmarks.common import keep
from qx.analysis import whole_set
from qx.results.recording import Resampled
from qx.statistics import items, over_items

Rows: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
#: The gate's levels with a single rule and with twenty: either tail may miss in 1 % and in 0.05 % of sets.
GATE = (0.98, 0.999)
BINS = 15
#: Number of values in the sets that are simulated at a time.
MAX_VALUES = 2_000_000


@frozen
class Case:
    """Sets of items with classes, and how often a config changes its answers."""

    #: Number of items in a set.
    items: int
    name: str
    #: Share of the items in each class.
    shares: tuple[float, ...]
    #: Accuracy of the baseline in each class.
    accuracy: tuple[float, ...]
    #: Expected number of answers that the config changes.
    changed: float
    #: Whether all of them change from right to wrong; else as many change back.
    is_one_way: bool

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.shares)


#: Shares and accuracies of the classes, by name.
CLASSES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ten, 90 %": ((0.1,) * 10, (0.9,) * 10),
    "ten, 99 %": ((0.1,) * 10, (0.99,) * 10),
    "1 to 50": ((50 / 51, 1 / 51), (0.97, 0.8)),
}


def cases(counts: tuple[int, ...]) -> Iterator[Case]:
    """Yield all cases that are simulated, with sets of so many items."""
    for count in counts:
        for name, (shares, accuracy) in CLASSES.items():
            for is_one_way in (True, False):
                for changed in (1, 3, 10, 50):
                    yield Case(count, name, shares, accuracy, changed, is_one_way)


@frozen
class Answers:
    """Labels, and answers with their confidence, of one config on many sets, each ``[sets, items]``."""

    labels: Rows
    answers: Rows
    confidence: Rows
    classes: int

    @property
    def right(self) -> Rows:
        """1 where the answer is the label."""
        return np.asarray(self.labels == self.answers, dtype=float)

    def sum_by_bin(self, bins: Rows, weights: Rows | None = None, count: int | None = None) -> Rows:
        """Return the sum of weights in each bin, ``[sets, count]``; without weights the number of items."""
        sets, count = len(bins), count or self.classes
        flat = (bins + np.arange(sets)[:, None] * count).ravel()
        flat_weights = None if weights is None else weights.ravel()
        sums: Rows = (
            np.bincount(flat, flat_weights, minlength=sets * count).reshape(sets, count).astype(float)
        )
        return sums


def draw_answers(case: Case, sets: int, generator: np.random.Generator) -> tuple[Answers, Answers]:
    """Return the answers of the baseline and of a config, whose confidence also differs by 1 %."""
    shape = sets, case.items
    labels = np.searchsorted(np.cumsum(case.shares)[:-1], generator.random(shape))
    confidence = generator.beta(8, 2, shape) * (1 - 1 / case.classes) + 1 / case.classes
    chance = np.array(case.accuracy)[labels] + 0.6 * (confidence - confidence.mean())
    right = generator.random(shape) < np.clip(chance, 0.02, 0.999)
    other = (labels + 1 + generator.integers(0, case.classes - 1, shape)) % case.classes
    share, luck = right.mean(), generator.random(shape)
    lost = right & (luck < case.changed / (1 if case.is_one_way else 2) / case.items / share)
    won = ~right & (luck < min(1.0, case.changed / 2 / case.items / (1 - share)) * (not case.is_one_way))
    noise = 0.01 * generator.standard_normal(shape)
    return tuple(
        Answers(labels, np.where(hits, labels, other), confidences, case.classes)
        for hits, confidences in (
            (right, confidence),
            ((right & ~lost) | won, np.clip(confidence + noise, 0.01, 0.999)),
        )
    )  # type: ignore[return-value]


# Statistics, each with the influence of every item and the step of one more ------------------------

#: Value ``[sets]``, influence of each item ``[sets, items]`` and step ``[sets]``, all in units of the value.
Influences: TypeAlias = "tuple[Rows, Rows, Rows]"


def _of_items(rows: Rows, bins: Rows) -> Rows:
    return np.take_along_axis(rows, bins, 1)


def _influences(value: Rows, without: Rows, step: Rows) -> Influences:
    return value, (without.shape[1] - 1) * (value[:, None] - without), step


def balanced_accuracy(data: Answers) -> Influences:
    """Return the mean over classes of the share of right answers."""
    labels, right = data.labels, data.right
    counts, hits = data.sum_by_bin(labels), data.sum_by_bin(labels, right)
    with np.errstate(all="ignore"):
        recall = hits / counts
        without = (_of_items(hits, labels) - right) / (_of_items(counts, labels) - 1)
    value, own = np.nanmean(recall, axis=1), _of_items(recall, labels)
    without = np.where(np.isnan(without), own, without)
    step = 1 / (data.classes * np.where(counts > 0, counts, np.inf).min(axis=1))
    return _influences(value, value[:, None] - (own - without) / data.classes, step)


def macro_f1(data: Answers) -> Influences:
    """Return the mean over classes of F1."""
    labels, right, answers = data.labels, data.right, data.answers
    hits = data.sum_by_bin(labels, right)
    total = data.sum_by_bin(labels) + data.sum_by_bin(answers)
    scores = 2 * hits / np.maximum(total, 1)
    # F1 of the item's class, and of the class that was answered, without the item.
    own = 2 * (_of_items(hits, labels) - right) / np.maximum(_of_items(total, labels) - 1 - right, 1)
    answered = 2 * _of_items(hits, answers) / np.maximum(_of_items(total, answers) - 1, 1)
    change = _of_items(scores, labels) - own
    change += np.where(right > 0, 0.0, _of_items(scores, answers) - answered)
    value, step = scores.mean(axis=1), np.zeros(len(hits))
    for label in range(data.classes):
        other = (label + 1) % data.classes
        difference = scores[:, label] - 2 * (hits[:, label] - 1) / np.maximum(total[:, label] - 1, 1)
        difference += scores[:, other] - 2 * hits[:, other] / (total[:, other] + 1)
        step = np.maximum(step, np.where(hits[:, label] > 0, np.abs(difference), 0.0) / data.classes)
    return _influences(value, value[:, None] - change / data.classes, step)


def worst_class(data: Answers) -> Influences:
    """Return the least of the classes' shares of right answers."""
    labels, right = data.labels, data.right
    counts, hits = data.sum_by_bin(labels), data.sum_by_bin(labels, right)
    recall = np.where(counts > 0, hits / np.maximum(counts, 1), np.inf)
    lowest = np.sort(recall, axis=1)
    value, worst = lowest[:, 0], recall.argmin(axis=1)
    remaining = _of_items(counts, labels) - 1
    own = np.where(remaining > 0, (_of_items(hits, labels) - right) / np.maximum(remaining, 1), np.inf)
    others = np.where(labels == worst[:, None], lowest[:, 1:2], lowest[:, :1])
    lost = np.where(hits > 0, (hits - 1) / np.maximum(counts, 1), np.inf)
    return _influences(value, np.minimum(own, others), np.maximum((value[:, None] - lost).max(axis=1), 0))


def calibration_error(data: Answers) -> Influences:
    """Return the expected calibration error."""
    bins = np.minimum((BINS * data.confidence).astype(int), BINS - 1)
    errors, count = data.confidence - data.right, data.labels.shape[1]
    sums = data.sum_by_bin(bins, errors, BINS)
    total, own = np.abs(sums).sum(axis=1), _of_items(sums, bins)
    without = (total[:, None] - np.abs(own) + np.abs(own - errors)) / (count - 1)
    return _influences(total / count, without, np.full(len(total), 1 / count))


STATISTICS: dict[str, Callable[[Answers], Influences]] = {
    "balanced accuracy": balanced_accuracy,
    "macro F1": macro_f1,
    "worst class": worst_class,
    "calibration error": calibration_error,
}


def ends(value: Rows, influence: Rows, step: Rows, level: float) -> tuple[Rows, Rows, Rows]:
    """Return value and interval, as ``qx.analysis.whole_set`` has them where no bootstrap is wider."""
    moments = items.moments(influence)
    low, high = items.ends(moments, np.fmax(step, moments.largest), level)
    shift = value - moments.mean
    return value, low + shift, high + shift


def miss_rates(parts: list[tuple[Rows, Rows, Rows]]) -> tuple[float, float]:
    """Return how often intervals lie above and below the average value of the sets."""
    value, low, high = (np.concatenate(part) for part in zip(*parts, strict=True))
    truth = value.mean()
    return float(np.mean(low > truth + 1e-12)), float(np.mean(high < truth - 1e-12))


def whole_sets(case: Case, sets: int, levels: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    """Return how often intervals of differences and of the baseline's values miss, by statistic and level."""
    generator = np.random.default_rng(0)
    estimates: dict[tuple[str, str, float], list[tuple[Rows, Rows, Rows]]] = {}
    step = max(1, MAX_VALUES // case.items)
    for start in range(0, sets, step):
        baseline, config = draw_answers(case, min(step, sets - start), generator)
        for name, statistic in STATISTICS.items():
            first, second = statistic(baseline), statistic(config)
            difference = second[0] - first[0], second[1] - first[1], np.maximum(first[2], second[2])
            for level in levels:
                estimates.setdefault((name, "difference", level), []).append(ends(*difference, level))
                estimates.setdefault((name, "value", level), []).append(ends(*first, level))
    rates: dict[str, dict[str, Any]] = {}
    for (name, kind, level), parts in estimates.items():
        rates.setdefault(f"{name}, {kind}", {})[f"{level:g}"] = miss_rates(parts)
    return rates


def lowest(coverage: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the lowest coverage of each statistic over all cases."""
    names = next(iter(coverage.values()))
    return {name: min(case[name] for case in coverage.values()) for name in names}


def largest_tails(results: Any, outer_level: str = "") -> dict[str, float]:
    """Return the larger tail of the worst case by level.

    Pairs of tails lie anywhere below a key that ends with the level.
    """
    if not isinstance(results, dict):
        return {outer_level: max(results)}
    tails: dict[str, float] = {}
    for name, inner_results in results.items():
        inner_level = next((f"{level:g}" for level in GATE if name.endswith(f"{level:g}")), outer_level)
        for level, tail in largest_tails(inner_results, inner_level).items():
            tails[level] = max(tail, tails.get(level, 0.0))
    return tails


def median_coverage(sets: int, count: int = 200) -> float:
    """Return the coverage of a median, which is not smooth, with influences and draws as qx resamples it."""
    generator, covered = np.random.default_rng(0), 0
    groups = whole_set.group_of_items(count, count)
    drawn_items = np.array([whole_set.drawn_items(count, draw) for draw in range(200)])
    truth = float(np.log(2))
    for _ in range(sets):
        values = generator.exponential(size=count)
        without = np.array([np.median(values[groups != group]) for group in range(count)])
        value = float(np.median(values))
        sample = Resampled(
            value=value,
            items=count,
            influence=(count - 1) * (value - without),
            draws=np.median(values[drawn_items], axis=1),
            step=None,
        )
        low, high = whole_set.estimate(sample).ci or (np.nan, np.nan)
        covered += low <= truth <= high
    return covered / sets


# Means over items ---------------------------------------------------------------------------------


def right_and_wrong(count: int, level: float) -> dict[str, tuple[float, float]]:
    """Return the exact tails of differences of accuracies, from all numbers of changed items."""
    tails = {}
    max_changed = 130
    bounds = {}
    for wins in range(max_changed):
        for losses in range(max_changed):
            config, baseline = np.zeros(count), np.zeros(count)
            config[:wins], baseline[wins : wins + losses] = 1, 1
            bounds[wins, losses] = over_items.paired_difference(config, baseline, level).ci
    low, high = np.array(list(bounds.values())).reshape(max_changed, max_changed, 2).transpose(2, 0, 1)
    numbers = np.arange(max_changed)
    for won, lost in ((0, 1), (0, 3), (0, 10), (0, 50), (0.5, 0.5), (1.5, 1.5), (5, 5), (25, 25), (10, 40)):
        chance = np.outer(poisson.pmf(numbers, won), binom.pmf(numbers, count, lost / count))
        truth = (won - lost) / count
        above, below = float(chance[low > truth + 1e-12].sum()), float(chance[high < truth - 1e-12].sum())
        tails[f"{won:g} won, {lost:g} lost"] = above, below
    return tails


def accuracies(count: int, level: float) -> dict[str, tuple[float, float]]:
    """Return the exact tails of accuracies."""
    tails = {}
    row = np.zeros(count)
    bounds = []
    for right in range(count + 1):
        row[:right] = 1
        bounds.append(over_items.item_mean(row, level).ci)
    low, high = np.array(bounds).T
    for truth in (0.5, 0.9, 0.98, 0.99, 0.998):
        chance = binom.pmf(np.arange(count + 1), count, truth)
        tails[f"{truth:.1%} right"] = float(chance[low > truth].sum()), float(chance[high < truth].sum())
    return tails


#: Draws the values of a config and of the baseline, both ``[items]``, with the sum of true differences.
DrawPair: TypeAlias = "Callable[[np.random.Generator, int, float], tuple[Rows, Rows, float]]"


def draw_doubled(generator: np.random.Generator, count: int, changed: float) -> tuple[Rows, Rows, float]:
    """Draw values with a heavy tail (log-normal), of which the config doubles some."""
    baseline = np.exp(generator.standard_normal(count))
    config = np.where(generator.random(count) < changed / count, 2 * baseline, baseline)
    return config, baseline, changed * np.exp(0.5)


def draw_half_points(generator: np.random.Generator, count: int, changed: float) -> tuple[Rows, Rows, float]:
    """Draw grades in half points, where an item that changes loses half a point or nothing."""
    baseline = 1 - 0.5 * (generator.random(count) < 0.1)
    lost = 0.5 * generator.integers(0, 2, count) * (generator.random(count) < changed / count)
    return baseline - lost, baseline, -0.25 * changed


def draw_noisy(generator: np.random.Generator, count: int, changed: float) -> tuple[Rows, Rows, float]:
    """Draw losses (log-normal) that all change by some percent, and a few by 2."""
    baseline = np.exp(generator.standard_normal(count))
    noise = baseline * (np.exp(0.02 * generator.standard_normal(count)) / np.exp(0.0002) - 1)
    return baseline + noise + 2 * (generator.random(count) < changed / count), baseline, 2 * changed


MEANS: dict[str, DrawPair] = {
    "heavy tail, doubled": draw_doubled,
    "half points": draw_half_points,
    "losses, all noisy": draw_noisy,
}


def means(draw_pair: DrawPair, count: int, changed: float, sets: int, level: float) -> tuple[float, float]:
    """Return how often the interval of a paired difference lies above and below the truth."""
    generator, above, below = np.random.default_rng(0), 0, 0
    for _ in range(sets):
        config, baseline, truth = draw_pair(generator, count, changed)
        low, high = over_items.paired_difference(config, baseline, level).ci or (-np.inf, np.inf)
        above, below = above + (low > truth / count + 1e-12), below + (high < truth / count - 1e-12)
    return above / sets, below / sets


#: How values of items are drawn, and their true mean.
VALUES: dict[str, tuple[Callable[[np.random.Generator, int], Rows], float]] = {
    "heavy tail, log-normal": (lambda rng, n: np.exp(rng.standard_normal(n)), float(np.exp(0.5))),
    "2 % not zero, exponential": (lambda rng, n: rng.exponential(size=n) * (rng.random(n) < 0.02), 0.02),
    "4 % not zero, exponential": (lambda rng, n: rng.exponential(size=n) * (rng.random(n) < 0.04), 0.04),
    "normal": (lambda rng, n: rng.standard_normal(n), 0.0),
}


def values(name: str, count: int, sets: int, level: float) -> dict[str, float]:
    """Return how often a mean of items gets an interval, and how often that holds or misses the truth."""
    draw, truth = VALUES[name]
    generator = np.random.default_rng(0)
    results = [over_items.item_mean(draw(generator, count), level).ci for _ in range(sets)]
    bounds = np.array([ci for ci in results if ci is not None]).reshape(-1, 2)
    return {
        "with_interval": len(bounds) / sets,
        "covered": float(np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))) if len(bounds) else 1.0,
        "missed": float(np.sum((bounds[:, 0] > truth) | (truth > bounds[:, 1])) / sets),
    }


def main() -> None:
    """Print and keep how often each interval misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000, help="sets for 95 %%; ten times as many in tails")
    draws = parser.parse_args().draws
    at_95: dict[str, Any] = {}
    for case in cases((500, 10_000)):
        direction = "lost" if case.is_one_way else "lost or won"
        key = f"{case.items} items, {case.name}, {case.changed:g} {direction}"
        sets = draws if case.items < 1000 else draws // 4
        rates = whole_sets(case, sets, (items.JOINT_LEVEL,))
        at_95[key] = {name: round(1 - sum(by_level["0.95"]), 4) for name, by_level in rates.items()}
        print(key, at_95[key], flush=True)
    tails: dict[str, Any] = {}
    for name, changed, is_one_way in (
        ("ten, 90 %", 3, True), ("ten, 99 %", 10, False), ("1 to 50", 10, True), ("1 to 50", 50, False),
    ):  # fmt: skip
        shares, accuracy = CLASSES[name]
        case = Case(500, name, shares, accuracy, changed, is_one_way)
        key = f"{name}, {changed} {'lost' if is_one_way else 'lost or won'}"
        tails[key] = whole_sets(case, 10 * draws, GATE)
        print(key, tails[key], flush=True)
    accuracy_tails = {
        f"{count} items, {level:g}": {
            "differences": right_and_wrong(count, level),
            "values": accuracies(count, level),
        }
        for count in (500, 2000)
        for level in (items.JOINT_LEVEL, *GATE)
    }
    mean_tails = {
        f"{name}, {changed} changed": {
            f"{level:g}": means(draw_pair, 500, changed, draws, level) for level in (items.JOINT_LEVEL, *GATE)
        }
        for name, draw_pair in MEANS.items()
        for changed in (1, 3, 10, 50)
    }
    keep(
        "few_items",
        {
            "draws": draws,
            "lowest_coverage_at_95": {
                **lowest(at_95),
                **{name: round(1 - sum(by_level["0.95"]), 4) for name, by_level in mean_tails.items()},
                "median": median_coverage(draws // 4),
            },
            "largest_tails_at_the_gates_levels": {
                "promised": {f"{level:g}": round((1 - level) / 2, 5) for level in GATE},
                "whole sets": largest_tails(tails),
                "accuracy": {key: tail for key, tail in largest_tails(accuracy_tails).items() if key},
                "means": {key: tail for key, tail in largest_tails(mean_tails).items() if key},
            },
            "whole_sets": at_95,
            "whole_sets_above_and_below": tails,
            "accuracy_above_and_below": accuracy_tails,
            "means_above_and_below": mean_tails,
            "values": {
                f"{name}, {level:g}": values(name, 500, draws, level)
                for name in VALUES
                for level in (items.JOINT_LEVEL, *GATE)
            },
        },
    )


if __name__ == "__main__":
    main()
