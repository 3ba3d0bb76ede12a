"""Values of cells in waves that are drawn anew, group by group."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from qx.analysis.axes import drawn_sums
from qx.analysis.measurements import most_likely
from qx.results.records import FrontResult


def _groups(cells: int, per_group: int = 20, waves: int = 6) -> np.ndarray:
    """Return log ratios ``[cells, waves]`` of cells in groups; NaN in the waves of other groups."""
    groups = -(-cells // per_group)
    ratios = np.full((cells, groups * waves), np.nan)
    for cell in range(cells):
        start = cell // per_group * waves
        ratios[cell, start : start + waves] = np.random.default_rng(cell).normal(size=waves)
    ratios[0] = 0.0
    return ratios


@pytest.mark.parametrize("cells", [3, 45])
def test_sums_are_those_of_the_waves_drawn(cells: int) -> None:
    """Sums and numbers are those that every drawn wave, one after another, adds up to."""
    ratios = _groups(cells)
    waves = np.random.default_rng(1).integers(0, ratios.shape[1], size=(50, ratios.shape[1]))
    sums, counts = drawn_sums(ratios, ~np.isnan(ratios), waves)
    drawn = ratios[:, waves]
    assert sums == pytest.approx(np.nansum(drawn, axis=2).T)
    assert counts.tolist() == np.count_nonzero(~np.isnan(drawn), axis=2).T.tolist()


def test_equal_cells_have_equal_sums() -> None:
    """Two cells with the same ratios have the same sums to the last digit, so neither seems better."""
    ratios = np.repeat(np.random.default_rng(0).normal(size=(1, 7)), 33, axis=0)
    waves = np.random.default_rng(1).integers(0, 7, size=(100, 7))
    sums, _ = drawn_sums(ratios, ~np.isnan(ratios), waves)
    assert (sums == sums[:, :1]).all()


def test_memory_grows_with_cells_and_not_with_their_square() -> None:
    """Four times as many cells take about four times as much memory, where sums themselves are most of it."""
    peaks = []
    for cells in (200, 800):
        ratios = _groups(cells)
        waves = np.random.default_rng(1).integers(0, ratios.shape[1], size=(100, ratios.shape[1]))
        tracemalloc.start()
        drawn_sums(ratios, ~np.isnan(ratios), waves)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] / peaks[0] < 8


def test_a_large_front_is_not_compared_with_whole() -> None:
    """Of a large front every cell is compared with those that are most likely on it, in their order."""
    front = {
        f"toy/{number}": FrontResult(on_front=number != 3, probability=number / 100) for number in range(40)
    }
    assert most_likely(front) == [f"toy/{number}" for number in range(24, 40)]
    small = {name: front[name] for name in ("toy/9", "toy/3", "toy/2")}
    assert most_likely(small) == ["toy/9", "toy/2"]
