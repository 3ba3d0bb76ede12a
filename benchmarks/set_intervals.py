"""Do intervals of metrics of a whole set hold the truth, of the value and of the paired difference?

Simulated: two configs on the same items, of which 1, 3, 10 or 50 are expected to answer differently; balanced
classes and such of 1 to 50, residuals that are normal and that have heavy tails (Student's t with three
degrees of freedom). The metrics' own ``combine`` gives value, influences and steps, as a run has them; there
are no bootstrap draws, which could only make intervals wider. The truth is the expectation over sets of as
many items. An interval of 95 % must hold it in 93 to 98 % of sets. Where less was held, it is widened or
withheld now; where more is, few items decide, and others are supposed to have changed.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from attrs import frozen
from qx_plugins.metrics import calibration_error, f1, mean_iou, r2

from benchmarks.common import HERE, keep
from qx.analysis import whole_set
from qx.results.recording import Resampled
from qx.statistics import over_items

Rows: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Kind: TypeAlias = Literal["ratio", "speedup", "difference"]
COUNTS, CHANGED = (500, 2000), (1, 3, 10, 50)
#: Shares of the classes and accuracy in each, by name.
CLASSES: dict[str, tuple[Rows, Rows]] = {
    "ten classes": (np.full(10, 0.1), np.full(10, 0.9)),
    "classes of 1 to 50": (np.array([50, 1]) / 51, np.array([0.97, 0.8])),
}
TAILS = ("normal", "t3")
PIXELS, BINS = 64, 15


@frozen
class Cell:
    """Statistics of the items of one config, ``[items, k]``, before and after each changes its answer."""

    rows: Rows
    changed: Rows | None = None


@frozen
class Metric:
    """A metric, and how its cells are drawn."""

    name: str
    #: Kinds of sets: classes or residuals.
    kinds: Sequence[str]
    #: Draws the baseline, and a config for each of ``CHANGED``, from a generator, the kind and the number of
    #: items.
    draw: Callable[[np.random.Generator, str, int], list[Cell]]
    combine: Callable[[Rows], Rows]
    compare: Kind = "difference"
    #: Gives the expected value and difference, from the kind, the number of items and that of changed items;
    #: None: the average over the sets, which has no meaning where squares have no variance.
    truth: Callable[[str, int, float], tuple[float, float]] | None = None


def resampled(cell: Cell, combine: Callable[[Rows], Rows]) -> Resampled:
    """Return value, influences and step of a cell, as ``qx.worker.combined`` has them."""
    count, total = len(cell.rows), cell.rows.sum(axis=0)
    kinds, places = _distinct(cell.rows)
    value = float(combine(total / count))
    without = combine((total - kinds) / (count - 1))[places]
    step = None
    if cell.changed is not None:
        moves, _ = _distinct(cell.changed - cell.rows)
        step = float(np.nanmax(np.abs(combine((total + moves) / count) - value)))
    return Resampled(
        value=value, items=count, influence=(count - 1) * (value - without), draws=np.empty(0), step=step
    )


def _distinct(rows: Rows) -> tuple[Rows, Rows]:
    """Return the rows without those that are there twice, and the place of each among them."""
    codes = rows @ np.random.default_rng(0).random(rows.shape[1])
    _, firsts, places = np.unique(codes, return_index=True, return_inverse=True)
    return rows[firsts], places


def draw_moves(generator: np.random.Generator, items: int) -> list[Rows]:
    """Return which items are changed: none in the baseline, and more and more in the configs."""
    luck = generator.random(items)
    return [luck < changed / items for changed in (0, *CHANGED)]


# Classes ------------------------------------------------------------------------------------------


def draw_classes(generator: np.random.Generator, kind: str, items: int) -> tuple[Rows, list[Rows]]:
    """Return labels, and the answers of the baseline and of the configs."""
    shares, accuracy = CLASSES[kind]
    classes = len(shares)
    labels = np.searchsorted(np.cumsum(shares)[:-1], generator.random(items))
    right = generator.random(items) < accuracy[labels]
    other = (labels + 1 + generator.integers(0, classes - 1, items)) % classes
    answers, second = np.where(right, labels, other), np.where(right, other, labels)
    return labels, [np.where(moves, second, answers) for moves in draw_moves(generator, items)]


def counts_of_classes(labels: Rows, answers: Rows, classes: int) -> Rows:
    """Return hits, answers and labels by class of each item, as ``f1`` has them, ``[items, 3 classes]``."""
    one = np.eye(classes)
    members, chosen = one[labels], one[answers]
    return np.concatenate([members * chosen, chosen, members], axis=1)


def draw_f1(generator: np.random.Generator, kind: str, items: int) -> list[Cell]:
    """Return the statistics of macro F1."""
    labels, all_answers = draw_classes(generator, kind, items)
    classes = len(CLASSES[kind][0])
    cells = []
    for answers in all_answers:
        # What an item would answer next: the label where it is wrong, else the next class.
        turned = np.where(answers == labels, (labels + 1) % classes, labels)
        rows = [counts_of_classes(labels, own, classes) for own in (answers, turned)]
        cells.append(Cell(rows[0], rows[1]))
    return cells


def draw_calibration(generator: np.random.Generator, kind: str, items: int) -> list[Cell]:
    """Return the statistics of calibration error; confidence differs by 1 % in every item of each config."""
    labels, all_answers = draw_classes(generator, kind, items)
    least = 1 / len(CLASSES[kind][0])
    confidence = generator.beta(8, 2, items) * (1 - least) + least
    cells = []
    for answers in all_answers:
        right = (answers == labels).astype(float)
        cells.append(
            Cell(_in_bins(confidence, confidence - right), _in_bins(confidence, confidence - 1 + right))
        )
        confidence = np.clip(confidence + 0.01 * generator.standard_normal(items), least, 1)
    return cells


def _in_bins(confidence: Rows, errors: Rows) -> Rows:
    rows = np.zeros((len(errors), BINS))
    rows[np.arange(len(errors)), np.minimum((BINS * confidence).astype(int), BINS - 1)] = errors
    return rows


def draw_iou(generator: np.random.Generator, kind: str, items: int) -> list[Cell]:
    """Return the statistics of mean IoU: pictures of two classes, of which some pixels are wrong.

    An item has a background and a thing in a tenth to nine tenths of its pixels; where there are two classes,
    the rare one is the thing in one item of 51. In items that change, up to 60 % of the thing's right pixels
    are taken for the background.
    """
    shares, accuracy = CLASSES[kind]
    classes = len(shares)
    things = np.searchsorted(np.cumsum(shares)[:-1], generator.random(items))
    background = (things + 1 + generator.integers(0, classes - 1, items)) % classes
    if classes == 2:
        background = np.zeros(items, dtype=int)
    area = np.where(things == background, PIXELS, np.round(PIXELS * generator.uniform(0.1, 0.9, items)))
    missed = generator.binomial(area.astype(int), 1 - accuracy[things])
    taken = generator.binomial((PIXELS - area).astype(int), 1 - accuracy[background])
    more = np.round((area - missed) * generator.uniform(0, 0.6, items))
    wrong = (background + (things == background)) % classes
    place, cells = np.arange(items), []
    for moves in draw_moves(generator, items):
        lost = missed + more * moves
        hits, answers, labels = np.zeros((3, items, classes))
        for counts, classes_of, pixels in (
            (labels, things, area),
            (labels, background, PIXELS - area),
            (hits, things, area - lost),
            (hits, background, PIXELS - area - taken),
            (answers, things, area - lost + taken),
            (answers, wrong, lost),
            (answers, background, PIXELS - area - taken),
        ):
            counts[place, classes_of] += pixels
        cells.append(Cell(np.concatenate([hits, answers, labels], axis=1)))
    return cells


# Amounts ------------------------------------------------------------------------------------------


def draw_spread(generator: np.random.Generator, kind: str, items: int) -> Rows:
    """Return normal numbers, or of Student's t with three degrees of freedom."""
    normal: Rows = generator.standard_normal(items)
    return generator.standard_t(3, items) if kind == "t3" else normal


def draw_errors(generator: np.random.Generator, kind: str, items: int) -> tuple[Rows, list[Rows]]:
    """Return labels and errors, which differ in the items that change by as much again."""
    labels = generator.normal(5, 3, items)
    residuals, more = (draw_spread(generator, kind, items) for _ in range(2))
    return labels, [residuals + moves * more for moves in draw_moves(generator, items)]


def draw_r2(generator: np.random.Generator, kind: str, items: int) -> list[Cell]:
    """Return the statistics of R2."""
    labels, all_errors = draw_errors(generator, kind, items)
    return [Cell(np.stack([errors**2, labels, labels**2], axis=1)) for errors in all_errors]


def true_r2(kind: str, items: int, changed: float) -> tuple[float, float]:
    """Return the expected R2 and difference: the inverse of a sum of squares of n labels has 1 / (n - 3)."""
    scale = (3.0 if kind == "t3" else 1.0) / 9 / (items - 3)
    return 1 - items * scale, -changed * scale


def draw_mae(generator: np.random.Generator, kind: str, items: int) -> list[Cell]:
    """Return absolute errors."""
    _, all_errors = draw_errors(generator, kind, items)
    return [Cell(np.abs(errors)[:, None]) for errors in all_errors]


def draw_tokens(generator: np.random.Generator, kind: str, items: int) -> list[Cell]:
    """Return sums of the negative log likelihood of items, and their numbers of tokens."""
    tokens = generator.integers(5, 60, items).astype(float)
    means, more = (np.abs(draw_spread(generator, kind, items)) / 2 for _ in range(2))
    return [
        Cell(np.stack([(3 + means + moves * more) * tokens, tokens], axis=1))
        for moves in draw_moves(generator, items)
    ]


def perplexity(statistics: Rows) -> Rows:
    """Return the exponential of the mean over tokens of the negative log likelihood."""
    return np.asarray(np.exp(statistics[..., 0] / statistics[..., 1]))


METRICS = (
    Metric("f1", tuple(CLASSES), draw_f1, f1.combine),
    Metric("calibration_error", tuple(CLASSES), draw_calibration, calibration_error.combine),
    Metric("mean_iou", tuple(CLASSES), draw_iou, mean_iou.combine),
    Metric("r2", TAILS, draw_r2, r2.combine, truth=true_r2),
    Metric("perplexity", TAILS, draw_tokens, perplexity, "ratio"),
    # A mean over items: `combine` is not asked.
    Metric("mae", TAILS, draw_mae, lambda rows: rows[..., 0], "ratio"),
)


@frozen
class Interval:
    """A value, or a difference, with its interval or None."""

    value: float
    ci: tuple[float, float] | None


def intervals_of(metric: Metric, cells: Sequence[Cell]) -> list[Interval]:
    """Return what a run would report of one set: the baseline's value, and the difference of each config."""
    if metric.name == "mae":
        rows = [cell.rows[:, 0] for cell in cells]
        estimated = over_items.item_mean(rows[0])
        compared = [over_items.ratio_of_means(row, rows[0], "ratio") for row in rows[1:]]
    else:
        samples = [resampled(cell, metric.combine) for cell in cells]
        estimated = whole_set.estimate(samples[0])
        compared = [whole_set.compare(sample, samples[0], metric.compare) for sample in samples[1:]]
    return [Interval(estimated.value, estimated.ci), *(Interval(each.value, each.ci) for each in compared)]


def coverage(sets: Sequence[Interval], truth: float | None) -> dict[str, float]:
    """Return how often an interval holds the truth, by default the average, and how often there is none."""
    if truth is None:
        truth = float(np.mean([each.value for each in sets]))
    cis = [each.ci for each in sets if each.ci is not None]
    held = [low - 1e-12 <= truth <= high + 1e-12 for low, high in cis]
    return {
        "held": round(float(np.mean(held)), 4) if held else 1.0,
        "without_interval": round(1 - len(held) / len(sets), 4),
    }


def simulate(metric: Metric, kind: str, items: int, draws: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield how often intervals of the value, and of each difference, hold the truth."""
    generator = np.random.default_rng(items)
    sets = [intervals_of(metric, metric.draw(generator, kind, items)) for _ in range(draws)]
    for place, changed in enumerate((0, *CHANGED)):
        truths = (None, None) if metric.truth is None else metric.truth(kind, items, changed)
        name = f"difference, {changed} changed" if changed else "value"
        yield name, coverage([each[place] for each in sets], truths[bool(changed)])


def main() -> None:
    """Print and keep how often each interval holds the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000, help="sets of each kind")
    parser.add_argument(
        "--metric", action="append", help="only this metric (repeatable); adds to what is kept"
    )
    arguments = parser.parse_args()
    path = HERE / "results" / "set_intervals.json"
    results: dict[str, Any] = {}
    if arguments.metric and path.exists():
        results = json.loads(path.read_text())["sets"]
    for metric in METRICS:
        if metric.name not in (arguments.metric or [metric.name]):
            continue
        for kind, items in itertools.product(metric.kinds, COUNTS):
            for name, figures in simulate(metric, kind, items, arguments.draws):
                results[f"{metric.name}, {kind}, {items} items, {name}"] = {
                    "draws": arguments.draws,
                    **figures,
                }
                print(metric.name, kind, items, name, figures, flush=True)
    lowest: dict[str, dict[str, float]] = {}
    for key, figures in results.items():
        name, kind, _, part, *_ = key.split(", ")
        own = lowest.setdefault(f"{name}, {kind}", {})
        own[part] = min(own.get(part, 1.0), figures["held"])
    keep("set_intervals", {"lowest": lowest, "sets": results})


if __name__ == "__main__":
    main()
