"""Group-sequential boundaries, against published tables and against simulated paths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from qx.statistics.sequential import (
    boundaries,
    items_at_looks,
    items_for_power,
    level_at_a_look,
    levels,
    obrien_fleming,
    p_at_a_look,
    pocock,
    power_of_items,
)

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("spending", "expected"),
    [
        # Of five equal looks at a one-sided error of 0.025, as tables of Lan and DeMets' method have them.
        (obrien_fleming, [4.877, 3.357, 2.680, 2.290, 2.031]),
        (pocock, [2.438, 2.427, 2.410, 2.397, 2.386]),
    ],
)
def test_boundaries_are_those_of_the_tables(spending: object, expected: list[float]) -> None:
    """Boundaries agree with the published ones to the third digit."""
    assert boundaries(FIVE, 0.025, spending) == pytest.approx(expected, abs=6e-4)  # type: ignore[arg-type]


def test_one_look_is_a_plain_test() -> None:
    """With a single look the boundary is the normal quantile, whatever the spending."""
    assert boundaries([1.0], 0.05) == pytest.approx([1.6449], abs=1e-4)
    assert levels([1.0], 0.05, obrien_fleming) == pytest.approx([0.05], rel=1e-6)


@pytest.mark.parametrize("spending", [pocock, obrien_fleming])
@pytest.mark.parametrize("error", [0.2, 0.01])
def test_all_looks_together_err_as_often_as_was_allowed(spending: object, error: float) -> None:
    """Sums without effect cross a boundary at some look as often as the error says."""
    shares = [0.1, 0.5, 0.7, 1.0]
    edges = boundaries(shares, error, spending)  # type: ignore[arg-type]
    generator = np.random.default_rng(0)
    steps = generator.normal(size=(200_000, len(shares))) * np.sqrt(np.diff([0.0, *shares]))
    crossed = np.cumsum(steps, axis=1) / np.sqrt(shares) > edges
    assert crossed.any(axis=1).mean() == pytest.approx(error, abs=4 * math.sqrt(error / 200_000))


def test_small_errors_have_boundaries_too() -> None:
    """An error shared by a thousand candidates still has ascending or equal spending and finite edges."""
    edges = boundaries([0.25, 0.5, 0.75, 1.0], 0.005 / 1000)
    assert all(4 < edge < 6 for edge in edges)
    assert sum(float(ndtr(-edge)) for edge in edges) >= 0.005 / 1000


@pytest.mark.parametrize("shares", [[], [0.5, 0.5], [0.0, 1.0], [0.5, 1.1]])
def test_looks_must_ascend(shares: list[float]) -> None:
    """Looks at the same or at more than all data are refused."""
    with pytest.raises(ValueError, match="shares must ascend"):
        boundaries(shares, 0.05)


def test_items_and_power_are_each_others_inverse() -> None:
    """As many items as a power needs have that power, and one less has less."""
    items = items_for_power(0.2, 0.005, 0.05 / 3, 0.97)
    power, less = (power_of_items(0.2, 0.005, 0.05 / 3, count) for count in (items, items - 1))
    assert power >= 0.97 > less


@pytest.mark.parametrize(
    ("total", "size", "least", "expected"),
    [
        (10_000, 100, 200, (700, 1300, 2500, 5000, 10_000)),
        (10_000, 100, 1400, (2500, 5000, 10_000)),
        # Rounded up to whole batches, 300 of 500 would follow on 200 too soon.
        (2000, 100, 200, (200, 500, 1000, 2000)),
        (500, 7, 600, (500,)),
        (50, 50, 10, (50,)),
    ],
)
def test_looks_are_at_whole_batches_each_with_twice_the_items(
    total: int, size: int, least: int, expected: tuple[int, ...]
) -> None:
    """The last is at all items, and none is where no interval can be narrow enough."""
    assert items_at_looks(total, size, least) == expected


def test_an_interval_at_a_look_misses_by_three_tails_at_most() -> None:
    """Each of them has a third of the error, and p is below 5 % where the interval excludes 0."""
    tail = (1 - level_at_a_look(0.95)) / 2
    assert 3 * tail == pytest.approx(0.05)
    assert p_at_a_look(2 * tail) == pytest.approx(0.05)
    assert p_at_a_look(0.9) == 1.0
