"""Intervals of statistics of a whole set on simulated sets whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qx.analysis import whole_set
from qx.results.recording import Resampled

ITEMS = 500


def r2(labels: Any, errors: Any) -> Resampled:
    """Return R2 of a set with the exact influence of each item."""
    rows = np.stack([errors**2, labels, labels**2], axis=1)

    def value(means: Any) -> Any:
        return 1 - means[..., 0] / (means[..., 2] - means[..., 1] ** 2)

    count = len(rows)
    whole, without = value(rows.mean(axis=0)), value((rows.sum(axis=0) - rows) / (count - 1))
    return Resampled(
        value=float(whole), items=count, influence=(count - 1) * (whole - without), draws=(), step=None
    )


def errors_of(kind: str, generator: np.random.Generator) -> Any:
    """Draw the errors of a set."""
    normal = generator.standard_normal(ITEMS)
    return generator.standard_t(3, ITEMS) if kind == "t3" else normal


@pytest.mark.parametrize(("kind", "before"), [("normal", 0.93), ("t3", 0.75)])
def test_a_heavy_tail_makes_the_interval_of_a_value_longer(kind: str, before: float) -> None:
    """R2 of residuals without a fourth moment is held in 91 % of sets or more, and in 87 without this."""
    generator, held, held_before = np.random.default_rng(7), [], []
    variance = 3.0 if kind == "t3" else 1.0
    truth = 1 - ITEMS * variance / 9 / (ITEMS - 3)
    for _ in range(300):
        sample = r2(generator.normal(5, 3, ITEMS), errors_of(kind, generator))
        low, high = whole_set.estimate(sample).ci or (np.nan, np.nan)
        held.append(low <= truth <= high)
        longer = whole_set.tail_weight(sample) * whole_set.TAIL_STEPS * _farthest(sample)
        held_before.append(low + longer <= truth <= high)
    assert np.mean(held) >= 0.91
    assert before <= np.mean(held_before) <= np.mean(held)
    assert kind == "normal" or np.mean(held_before) < 0.87


def _farthest(sample: Resampled) -> float:
    deviations = np.abs(sample.influence - sample.influence.mean())
    return float(deviations.max() / sample.items)


@pytest.mark.parametrize("kind", ["normal", "t3"])
@pytest.mark.parametrize("changed", [3, 10, 50])
def test_a_difference_that_few_items_make_is_held(kind: str, changed: int) -> None:
    """Every item's influence moves where a few change R2, and the difference is held in 92 % of sets."""
    generator, differences = np.random.default_rng(changed), []
    for _ in range(150):
        labels, errors = generator.normal(5, 3, ITEMS), errors_of(kind, generator)
        moved = errors + (generator.random(ITEMS) < changed / ITEMS) * errors_of(kind, generator)
        differences.append(whole_set.compare(r2(labels, moved), r2(labels, errors), "difference"))
    # The sum of squares of normal labels around their mean has this expectation of its inverse.
    truth = -changed * (3.0 if kind == "t3" else 1.0) / 9 / (ITEMS - 3)
    held = [difference.ci[0] <= truth <= difference.ci[1] for difference in differences if difference.ci]
    assert len(held) == 150 and np.mean(held) >= 0.92


def test_a_tail_is_no_matter_of_few_items_or_of_answers() -> None:
    """Where an item's change was tried, few items differ, or all influences are alike, there is no tail."""
    heavy = Resampled(
        value=0.5, items=400, influence=np.random.default_rng(0).pareto(1, 400), draws=(), step=None
    )
    assert whole_set.tail_weight(heavy) == 1.0
    few = np.zeros(400)
    few[:5] = [1, 10, 100, 1000, 10000]
    for influence, step in ((heavy.influence, 0.1), (few, None), (np.tile([0.0, 1.0], 200), None)):
        sample = Resampled(value=0.5, items=400, influence=influence, draws=(), step=step)
        assert whole_set.tail_weight(sample) == 0.0
    tiny = Resampled(value=0.5, items=199, influence=heavy.influence[:199], draws=(), step=None)
    assert whole_set.tail_weight(tiny) == 0.0
