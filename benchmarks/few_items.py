"""Do intervals of items hold the truth where a difference rests on few of them, and at the gate's levels?

Simulated: two configs on the same items, of which 1, 3, 10 or 50 are expected to change their answer, all
from right to wrong or as many back; statistics of the whole set and means over items. What an interval is to
hold is what sets of as many items give on average. For values of 0 and 1 nothing is drawn: every outcome is
counted with its probability. An interval must hold the truth in 93 % of sets or more where 95 % are claimed;
at the gate's levels either tail must miss it no more often than is promised.
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
from qx.statistics import intervals, items

Rows: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
#: The gate's levels with one rule and with twenty: either tail may miss in 1 % and in 0.05 % of sets.
GATE = (0.98, 0.999)
BINS = 15
#: Numbers that are worked on at a time.
AT_ONCE = 2_000_000


@frozen
class Case:
    """Sets of items with classes, and how often a config changes its answers."""

    items: int
    name: str
    shares: tuple[float, ...]
    accuracy: tuple[float, ...]
    changed: float
    one_way: bool

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.shares)


CLASSES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ten, 90 %": ((0.1,) * 10, (0.9,) * 10),
    "ten, 99 %": ((0.1,) * 10, (0.99,) * 10),
    "1 to 50": ((50 / 51, 1 / 51), (0.97, 0.8)),
}


def cases(counts: tuple[int, ...]) -> Iterator[Case]:
    """All that are simulated."""
    for count in counts:
        for name, (shares, accuracy) in CLASSES.items():
            for one_way in (True, False):
                for changed in (1, 3, 10, 50):
                    yield Case(count, name, shares, accuracy, changed, one_way)


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

    def counted(self, places: Rows, weights: Rows | None = None, many: int | None = None) -> Rows:
        """The sum of weights at each place, ``[sets, classes]``."""
        sets, many = len(places), many or self.classes
        flat = (places + np.arange(sets)[:, None] * many).ravel()
        kept = None if weights is None else weights.ravel()
        sums: Rows = np.bincount(flat, kept, minlength=sets * many).reshape(sets, many).astype(float)
        return sums


def drawn(case: Case, sets: int, generator: np.random.Generator) -> tuple[Answers, Answers]:
    """The baseline and a config, whose confidence differs by 1 % besides."""
    shape = sets, case.items
    labels = np.searchsorted(np.cumsum(case.shares)[:-1], generator.random(shape))
    confidence = generator.beta(8, 2, shape) * (1 - 1 / case.classes) + 1 / case.classes
    chance = np.array(case.accuracy)[labels] + 0.6 * (confidence - confidence.mean())
    right = generator.random(shape) < np.clip(chance, 0.02, 0.999)
    other = (labels + 1 + generator.integers(0, case.classes - 1, shape)) % case.classes
    share, luck = right.mean(), generator.random(shape)
    lost = right & (luck < case.changed / (1 if case.one_way else 2) / case.items / share)
    won = ~right & (luck < min(1.0, case.changed / 2 / case.items / (1 - share)) * (not case.one_way))
    noise = 0.01 * generator.standard_normal(shape)
    return tuple(
        Answers(labels, np.where(hits, labels, other), sure, case.classes)
        for hits, sure in (
            (right, confidence),
            ((right & ~lost) | won, np.clip(confidence + noise, 0.01, 0.999)),
        )
    )  # type: ignore[return-value]


# Statistics, each with the influence of every item and the step of one more ------------------------

#: ``[sets]``, ``[sets, items]``, ``[sets]``: the latter two in units of the value.
Moving: TypeAlias = "tuple[Rows, Rows, Rows]"


def _at(rows: Rows, places: Rows) -> Rows:
    return np.take_along_axis(rows, places, 1)


def _moving(value: Rows, without: Rows, step: Rows) -> Moving:
    return value, (without.shape[1] - 1) * (value[:, None] - without), step


def balanced_accuracy(one: Answers) -> Moving:
    """The mean over classes of the share of right answers."""
    many, hits = one.counted(one.labels), one.counted(one.labels, one.right)
    with np.errstate(all="ignore"):
        recall = hits / many
        fewer = (_at(hits, one.labels) - one.right) / (_at(many, one.labels) - 1)
    value, own = np.nanmean(recall, axis=1), _at(recall, one.labels)
    fewer = np.where(np.isnan(fewer), own, fewer)
    step = 1 / (one.classes * np.where(many > 0, many, np.inf).min(axis=1))
    return _moving(value, value[:, None] - (own - fewer) / one.classes, step)


def macro_f1(one: Answers) -> Moving:
    """The mean over classes of F1."""
    hits = one.counted(one.labels, one.right)
    total = one.counted(one.labels) + one.counted(one.answers)
    scores = 2 * hits / np.maximum(total, 1)
    own = 2 * (_at(hits, one.labels) - one.right) / np.maximum(_at(total, one.labels) - 1 - one.right, 1)
    taken = 2 * _at(hits, one.answers) / np.maximum(_at(total, one.answers) - 1, 1)
    less = _at(scores, one.labels) - own
    less += np.where(one.right > 0, 0.0, _at(scores, one.answers) - taken)
    value, step = scores.mean(axis=1), np.zeros(len(hits))
    for label in range(one.classes):
        other = (label + 1) % one.classes
        moved = scores[:, label] - 2 * (hits[:, label] - 1) / np.maximum(total[:, label] - 1, 1)
        moved += scores[:, other] - 2 * hits[:, other] / (total[:, other] + 1)
        step = np.maximum(step, np.where(hits[:, label] > 0, np.abs(moved), 0.0) / one.classes)
    return _moving(value, value[:, None] - less / one.classes, step)


def worst_class(one: Answers) -> Moving:
    """The least of the classes' shares of right answers."""
    many, hits = one.counted(one.labels), one.counted(one.labels, one.right)
    recall = np.where(many > 0, hits / np.maximum(many, 1), np.inf)
    lowest = np.sort(recall, axis=1)
    value, least = lowest[:, 0], recall.argmin(axis=1)
    left = _at(many, one.labels) - 1
    own = np.where(left > 0, (_at(hits, one.labels) - one.right) / np.maximum(left, 1), np.inf)
    others = np.where(one.labels == least[:, None], lowest[:, 1:2], lowest[:, :1])
    lost = np.where(hits > 0, (hits - 1) / np.maximum(many, 1), np.inf)
    return _moving(value, np.minimum(own, others), np.maximum((value[:, None] - lost).max(axis=1), 0))


def calibration_error(one: Answers) -> Moving:
    """The expected calibration error."""
    bins = np.minimum((BINS * one.confidence).astype(int), BINS - 1)
    apart, count = one.confidence - one.right, one.labels.shape[1]
    sums = one.counted(bins, apart, BINS)
    total, own = np.abs(sums).sum(axis=1), _at(sums, bins)
    without = (total[:, None] - np.abs(own) + np.abs(own - apart)) / (count - 1)
    return _moving(total / count, without, np.full(len(total), 1 / count))


STATISTICS: dict[str, Callable[[Answers], Moving]] = {
    "balanced accuracy": balanced_accuracy,
    "macro F1": macro_f1,
    "worst class": worst_class,
    "calibration error": calibration_error,
}


def ends(value: Rows, influence: Rows, step: Rows, level: float) -> tuple[Rows, Rows, Rows]:
    """Value and interval, as ``qx.analysis.whole_set`` has them where no bootstrap is wider."""
    over_items = items.moments(influence)
    low, high = items.ends(over_items, np.fmax(step, over_items.largest), level)
    shift = value - over_items.mean
    return value, low + shift, high + shift


def missed(parts: list[tuple[Rows, Rows, Rows]]) -> tuple[float, float]:
    """How often intervals lie above and below what sets give on average."""
    value, low, high = (np.concatenate(part) for part in zip(*parts, strict=True))
    truth = value.mean()
    return float(np.mean(low > truth + 1e-12)), float(np.mean(high < truth - 1e-12))


def whole_sets(case: Case, sets: int, levels: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    """How often intervals of differences, and of the baseline's values, miss: by statistic and level."""
    generator = np.random.default_rng(0)
    found: dict[tuple[str, str, float], list[tuple[Rows, Rows, Rows]]] = {}
    step = max(1, AT_ONCE // case.items)
    for start in range(0, sets, step):
        base, ours = drawn(case, min(step, sets - start), generator)
        for name, statistic in STATISTICS.items():
            first, second = statistic(base), statistic(ours)
            apart = second[0] - first[0], second[1] - first[1], np.maximum(first[2], second[2])
            for level in levels:
                found.setdefault((name, "difference", level), []).append(ends(*apart, level))
                found.setdefault((name, "value", level), []).append(ends(*first, level))
    told: dict[str, dict[str, Any]] = {}
    for (name, what, level), parts in found.items():
        told.setdefault(f"{name}, {what}", {})[f"{level:g}"] = missed(parts)
    return told


def lowest(coverage: dict[str, dict[str, float]]) -> dict[str, float]:
    """The lowest coverage of each statistic, over all cases."""
    names = next(iter(coverage.values()))
    return {name: min(case[name] for case in coverage.values()) for name in names}


def largest_tails(found: Any, under: str = "") -> dict[str, float]:
    """The larger tail of the worst case, by level: pairs of tails lie anywhere below the name of a level."""
    if not isinstance(found, dict):
        return {under: max(found)}
    tails: dict[str, float] = {}
    for name, one in found.items():
        level = next((f"{level:g}" for level in GATE if name.endswith(f"{level:g}")), under)
        for key, tail in largest_tails(one, level).items():
            tails[key] = max(tail, tails.get(key, 0.0))
    return tails


def median_error(sets: int, count: int = 200) -> float:
    """Coverage of a median, which is not smooth: with influences and with draws, as qx resamples it."""
    generator, held = np.random.default_rng(0), 0
    groups = whole_set.group_of_items(count, count)
    drawn_anew = np.array([whole_set.drawn_items(count, draw) for draw in range(200)])
    truth = float(np.log(2))
    for _ in range(sets):
        values = generator.exponential(size=count)
        without = np.array([np.median(values[groups != group]) for group in range(count)])
        value = float(np.median(values))
        sample = Resampled(
            value=value,
            items=count,
            influence=(count - 1) * (value - without),
            draws=np.median(values[drawn_anew], axis=1),
            step=None,
        )
        low, high = whole_set.estimate(sample).ci or (np.nan, np.nan)
        held += low <= truth <= high
    return held / sets


# Means over items ---------------------------------------------------------------------------------


def right_and_wrong(count: int, level: float) -> dict[str, tuple[float, float]]:
    """Tails of differences of accuracies, exactly: every number of changed items with its probability."""
    told = {}
    most = 130
    bounds = {}
    for wins in range(most):
        for losses in range(most):
            ours, theirs = np.zeros(count), np.zeros(count)
            ours[:wins], theirs[wins : wins + losses] = 1, 1
            bounds[wins, losses] = intervals.paired_difference(ours, theirs, level).ci
    low, high = np.array(list(bounds.values())).reshape(most, most, 2).transpose(2, 0, 1)
    for won, lost in ((0, 1), (0, 3), (0, 10), (0, 50), (0.5, 0.5), (1.5, 1.5), (5, 5), (25, 25), (10, 40)):
        chance = np.outer(poisson.pmf(np.arange(most), won), binom.pmf(np.arange(most), count, lost / count))
        truth = (won - lost) / count
        tails = float(chance[low > truth + 1e-12].sum()), float(chance[high < truth - 1e-12].sum())
        told[f"{won:g} won, {lost:g} lost"] = tails
    return told


def accuracies(count: int, level: float) -> dict[str, tuple[float, float]]:
    """Tails of accuracies, exactly."""
    told = {}
    row = np.zeros(count)
    bounds = []
    for right in range(count + 1):
        row[:right] = 1
        bounds.append(intervals.item_mean(row, level).ci)
    low, high = np.array(bounds).T
    for truth in (0.5, 0.9, 0.98, 0.99, 0.998):
        chance = binom.pmf(np.arange(count + 1), count, truth)
        told[f"{truth:.1%} right"] = float(chance[low > truth].sum()), float(chance[high < truth].sum())
    return told


Pairs: TypeAlias = "Callable[[np.random.Generator, int, float], tuple[Rows, Rows, float]]"


def doubled(generator: np.random.Generator, count: int, changed: float) -> tuple[Rows, Rows, float]:
    """A heavy tail (log-normal): what changes is twice as much."""
    ours = np.exp(generator.standard_normal(count))
    return np.where(generator.random(count) < changed / count, 2 * ours, ours), ours, changed * np.exp(0.5)


def graded(generator: np.random.Generator, count: int, changed: float) -> tuple[Rows, Rows, float]:
    """Half points: an item that changes loses half a point or nothing."""
    ours = 1 - 0.5 * (generator.random(count) < 0.1)
    lost = 0.5 * generator.integers(0, 2, count) * (generator.random(count) < changed / count)
    return ours - lost, ours, -0.25 * changed


def noisy(generator: np.random.Generator, count: int, changed: float) -> tuple[Rows, Rows, float]:
    """Losses (log-normal) that all change by some percent, and a few by two."""
    ours = np.exp(generator.standard_normal(count))
    noise = ours * (np.exp(0.02 * generator.standard_normal(count)) / np.exp(0.0002) - 1)
    return ours + noise + 2 * (generator.random(count) < changed / count), ours, 2 * changed


MEANS: dict[str, Pairs] = {"heavy tail, doubled": doubled, "half points": graded, "losses, all noisy": noisy}


def means(pair: Pairs, count: int, changed: float, sets: int, level: float) -> tuple[float, float]:
    """How often the interval of a paired difference lies above and below the truth."""
    generator, above, below = np.random.default_rng(0), 0, 0
    for _ in range(sets):
        ours, theirs, truth = pair(generator, count, changed)
        low, high = intervals.paired_difference(ours, theirs, level).ci or (-np.inf, np.inf)
        above, below = above + (low > truth / count + 1e-12), below + (high < truth / count - 1e-12)
    return above / sets, below / sets


VALUES: dict[str, tuple[Callable[[np.random.Generator, int], Rows], float]] = {
    "heavy tail, log-normal": (lambda rng, n: np.exp(rng.standard_normal(n)), float(np.exp(0.5))),
    "2 % not zero, exponential": (lambda rng, n: rng.exponential(size=n) * (rng.random(n) < 0.02), 0.02),
    "4 % not zero, exponential": (lambda rng, n: rng.exponential(size=n) * (rng.random(n) < 0.04), 0.04),
    "normal": (lambda rng, n: rng.standard_normal(n), 0.0),
}


def values(name: str, count: int, sets: int, level: float) -> dict[str, float]:
    """How often the interval of a mean misses where one is given, and how often one is."""
    draw, truth = VALUES[name]
    generator = np.random.default_rng(0)
    given = [intervals.item_mean(draw(generator, count), level).ci for _ in range(sets)]
    known = np.array([one for one in given if one is not None]).reshape(-1, 2)
    return {
        "given": len(known) / sets,
        "covered": float(np.mean((known[:, 0] <= truth) & (truth <= known[:, 1]))) if len(known) else 1.0,
        "missed": float(np.sum((known[:, 0] > truth) | (truth > known[:, 1])) / sets),
    }


def main() -> None:
    """Print and keep how often each interval misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000, help="sets for 95 %%; ten times as many in tails")
    draws = parser.parse_args().draws
    at_95: dict[str, Any] = {}
    for case in cases((500, 10_000)):
        key = f"{case.items} items, {case.name}, {case.changed:g} {'lost' if case.one_way else 'lost or won'}"
        many = draws if case.items < 1000 else draws // 4
        told = whole_sets(case, many, (items.JOINT_LEVEL,))
        at_95[key] = {name: round(1 - sum(one["0.95"]), 4) for name, one in told.items()}
        print(key, at_95[key], flush=True)
    tails: dict[str, Any] = {}
    for name, changed, one_way in (
        ("ten, 90 %", 3, True), ("ten, 99 %", 10, False), ("1 to 50", 10, True), ("1 to 50", 50, False),
    ):  # fmt: skip
        shares, accuracy = CLASSES[name]
        case = Case(500, name, shares, accuracy, changed, one_way)
        key = f"{name}, {changed} {'lost' if one_way else 'lost or won'}"
        tails[key] = whole_sets(case, 10 * draws, GATE)
        print(key, tails[key], flush=True)
    of_accuracy = {
        f"{count} items, {level:g}": {
            "differences": right_and_wrong(count, level),
            "values": accuracies(count, level),
        }
        for count in (500, 2000)
        for level in (items.JOINT_LEVEL, *GATE)
    }
    of_means = {
        f"{name}, {changed} changed": {
            f"{level:g}": means(pair, 500, changed, draws, level) for level in (items.JOINT_LEVEL, *GATE)
        }
        for name, pair in MEANS.items()
        for changed in (1, 3, 10, 50)
    }
    keep(
        "few_items",
        {
            "draws": draws,
            "lowest_coverage_at_95": {
                **lowest(at_95),
                **{name: round(1 - sum(one["0.95"]), 4) for name, one in of_means.items()},
                "median": median_error(draws // 4),
            },
            "largest_tails_at_the_gates_levels": {
                "promised": {f"{level:g}": round((1 - level) / 2, 5) for level in GATE},
                "whole sets": largest_tails(tails),
                "accuracy": {key: tail for key, tail in largest_tails(of_accuracy).items() if key},
                "means": {key: tail for key, tail in largest_tails(of_means).items() if key},
            },
            "whole_sets": at_95,
            "whole_sets_above_and_below": tails,
            "accuracy_above_and_below": of_accuracy,
            "means_above_and_below": of_means,
            "values": {
                f"{name}, {level:g}": values(name, 500, draws, level)
                for name in VALUES
                for level in (items.JOINT_LEVEL, *GATE)
            },
        },
    )


if __name__ == "__main__":
    main()
