"""Do intervals hold the truth where evaluation ends as soon as they are narrow (``--quality-precision``)?

Simulated with the looks and the intervals of a run: a config and the baseline answer the same items, of which
1 to 200 are expected to differ; at each look the interval of the difference is computed, and the first that
is narrow enough is the last. Precisions are multiples of the half-width that all items give, so that
evaluation ends at each of the looks. Of several configs all intervals must be narrow, and the first config is
judged. Beside it stands what intervals at the plain level would hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from attrs import evolve, frozen

from benchmarks.common import keep
from benchmarks.few_items import Case, draw_answers, draw_doubled, draw_half_points, draw_noisy, macro_f1
from qx.analysis import on_items
from qx.contract.records import Metric
from qx.results.recording import Resampled, Series
from qx.statistics.sequential import items_at_looks

Rows: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
#: Number of all items, of those in a batch, and of those below which is not looked.
TOTAL, BATCH, LEAST = 10_000, 100, 200
#: Precisions, in half-widths that all items give at the plain level.
FACTORS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.25, 4.0)

ACCURACY = Metric(
    name="accuracy",
    summary="share of right answers",
    unit="fraction",
    better="higher",
    phase="predictions",
    samples="per_item",
    compare="difference",
)
LOSS = evolve(ACCURACY, name="loss", unit="", better="lower", compare="ratio")
F1 = evolve(ACCURACY, name="f1", samples="per_set")

#: Returns the series of a config and of the baseline on the first items of a set.
First: TypeAlias = "Callable[[int], tuple[Series, Series]]"


@frozen
class Kind:
    """A metric, and how a set of items with its true difference is drawn, with so many changes expected."""

    metric: Metric
    draw: Callable[[np.random.Generator, float], tuple[First, float]]
    #: Number of further configs, whose intervals must be narrow too before the evaluation ends.
    beside: int = 0


def series(values: Rows, **fields: Any) -> Series:
    """Return the values of items as they are recorded."""
    none = np.full(len(values), -1)
    return Series(values=values, wave=none, round=none, position=none, **fields)


def of_items(config: Rows, baseline: Rows) -> First:
    """Return the series of the first items of two rows."""
    return lambda count: (series(config[:count]), series(baseline[:count]))


def answers(losing: float) -> Callable[[np.random.Generator, float], tuple[First, float]]:
    """Return how right and wrong answers are drawn, of which changed ones are lost with this probability."""

    def draw(generator: np.random.Generator, changed: float) -> tuple[First, float]:
        luck = generator.random(TOTAL)
        lost, won = luck < losing * changed / TOTAL, luck > 1 - (1 - losing) * changed / TOTAL
        other = generator.random(TOTAL) < 0.9
        baseline = np.where(lost, True, np.where(won, False, other)).astype(float)
        config = np.where(lost, False, np.where(won, True, other)).astype(float)
        return of_items(config, baseline), (1 - 2 * losing) * changed / TOTAL

    return draw


def means(draw_pair: Any) -> Callable[[np.random.Generator, float], tuple[First, float]]:
    """Return how values of items are drawn whose mean difference is known."""

    def draw(generator: np.random.Generator, changed: float) -> tuple[First, float]:
        config, baseline, truth = draw_pair(generator, TOTAL, changed)
        return of_items(config, baseline), truth / TOTAL

    return draw


def ratios(generator: np.random.Generator, changed: float) -> tuple[First, float]:
    """Draw absolute errors (log-normal) that all change a little, and some by 2, whose means are divided."""
    config, baseline, truth = draw_noisy(generator, TOTAL, changed)
    return of_items(config, baseline), 1 + truth / TOTAL / float(np.exp(0.5))


def f1(generator: np.random.Generator, changed: float) -> tuple[First, float]:
    """Draw answers in ten classes, of which macro F1 is computed; its truth is that of a large set."""
    case = Case(TOTAL, "ten, 90 %", (0.1,) * 10, (0.9,) * 10, changed, True)
    pair = draw_answers(case, 1, generator)

    def first(count: int) -> tuple[Series, Series]:
        cut = [
            evolve(
                own,
                labels=own.labels[:, :count],
                answers=own.answers[:, :count],
                confidence=own.confidence[:, :count],
            )
            for own in pair
        ]
        return _of_set(*macro_f1(cut[1]), count), _of_set(*macro_f1(cut[0]), count)

    return first, _true_f1(changed)


def _of_set(value: Rows, influence: Rows, step: Rows, count: int) -> Series:
    sample = Resampled(
        value=float(value[0]),
        items=count,
        influence=influence[0],
        draws=np.zeros(0),
        step=float(np.ravel(step)[0]),
    )
    return series(value, resampled=(sample,))


#: Mean difference of macro F1 by the number of answers that are expected to change, once it is known.
TRUTHS: dict[float, float] = {}


def _true_f1(changed: float) -> float:
    """Return the mean difference of macro F1 over many sets."""
    if changed not in TRUTHS:
        generator = np.random.default_rng(99)
        case = Case(TOTAL, "ten, 90 %", (0.1,) * 10, (0.9,) * 10, changed, True)
        pairs = (draw_answers(case, 50, generator) for _ in range(20))
        TRUTHS[changed] = float(np.mean([macro_f1(ours)[0] - macro_f1(base)[0] for base, ours in pairs]))
    return TRUTHS[changed]


KINDS: dict[str, Kind] = {
    "answers, all changed are lost": Kind(ACCURACY, answers(1.0)),
    "answers, all changed are lost, of three configs": Kind(ACCURACY, answers(1.0), beside=2),
    "answers, four of five are lost": Kind(ACCURACY, answers(0.8)),
    "answers, as many are won": Kind(ACCURACY, answers(0.5)),
    "grades in half points": Kind(evolve(ACCURACY, unit="points"), means(draw_half_points)),
    "squared errors, doubled": Kind(evolve(ACCURACY, unit=""), means(draw_doubled)),
    "absolute errors, ratio": Kind(LOSS, ratios),
    "macro F1": Kind(F1, f1),
}
CHANGED = (1, 3, 10, 50, 200)


@frozen
class Outcome:
    """How often an interval held the truth at the last look, and after how many items that was."""

    covered: float
    items: float
    early: float


def half_width(
    metric: Metric, first: First, count: int, *, looked: bool
) -> tuple[float, tuple[float, float]]:
    """Return half of the interval on the first items, and its ends; endless where there is none."""
    ours, base = (evolve(own, looked=looked) for own in first(count))
    compared = on_items.compare(metric, ours, base)
    ends = (-np.inf, np.inf) if compared is None or compared.ci is None else compared.ci
    return (ends[1] - ends[0]) / 2, ends


def simulate(
    kind: Kind, changed: float, factors: tuple[float, ...], sets: int, *, looked: bool, seed: int = 0
) -> dict[float, Outcome]:
    """Return the outcome for each precision; intervals are ``looked`` at, or have the plain level."""
    generator = np.random.default_rng(seed)
    looks = items_at_looks(TOTAL, BATCH, LEAST)
    # How wide the interval of all items is, on sets that are not used again.
    pilot = np.random.default_rng(seed + 1)
    usual = np.median(
        [half_width(kind.metric, kind.draw(pilot, changed)[0], TOTAL, looked=False)[0] for _ in range(20)]
    )
    held: dict[float, list[tuple[bool, int]]] = {factor: [] for factor in factors}
    for _ in range(sets):
        first, truth = kind.draw(generator, changed)
        widths = [half_width(kind.metric, first, count, looked=looked) for count in looks]
        others = [kind.draw(generator, changed)[0] for _ in range(kind.beside)]
        widest = [
            max([width, *(half_width(kind.metric, other, count, looked=looked)[0] for other in others)])
            for (width, _), count in zip(widths, looks, strict=True)
        ]
        for factor in factors:
            last = next(
                (look for look, width in enumerate(widest) if width <= factor * usual), len(looks) - 1
            )
            low, high = widths[last][1]
            held[factor].append((low - 1e-12 <= truth <= high + 1e-12, looks[last]))
    return {
        factor: Outcome(
            float(np.mean([is_held for is_held, _ in own])),
            float(np.mean([count for _, count in own])),
            float(np.mean([count < TOTAL for _, count in own])),
        )
        for factor, own in held.items()
    }


def cases() -> Iterator[tuple[str, Kind, float]]:
    """Yield all cases that are simulated."""
    for name, kind in KINDS.items():
        for changed in CHANGED:
            yield name, kind, changed


def main() -> None:
    """Print and keep the lowest coverage of each case, over the precisions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=2000)
    sets = parser.parse_args().sets
    kept: dict[str, Any] = {}
    for name, kind, changed in cases():
        own = sets // 4 if kind.metric.samples == "per_set" else sets
        shown = {}
        for label, looked in (("looked at", True), ("plain level", False)):
            outcomes = simulate(kind, changed, FACTORS, own, looked=looked)
            lowest = min(outcomes, key=lambda factor: outcomes[factor].covered)
            shown[label] = {
                "lowest": round(outcomes[lowest].covered, 4),
                "at_precision": lowest,
                "mean": round(float(np.mean([one.covered for one in outcomes.values()])), 4),
                "items": round(float(np.mean([one.items for one in outcomes.values()]))),
                "early": round(float(np.mean([one.early for one in outcomes.values()])), 3),
            }
        kept[f"{name}, {changed} changed"] = shown
        print(f"{name}, {changed} changed", shown, flush=True)
    keep("narrow", {"sets": sets, "total": TOTAL, "factors": FACTORS, "cases": kept})


if __name__ == "__main__":
    main()
