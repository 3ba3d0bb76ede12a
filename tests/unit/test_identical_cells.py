"""Cells that are the same on every item are found without a look at every pair of them."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from qx.analysis.picks import identical_cells
from qx.analysis.quantity import Quantity
from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.results.recording import Recording, Series


def _quantity(metric: Metric, rows: list[list[float]]) -> tuple[Quantity, list[str]]:
    recording = Recording()
    for number, row in enumerate(rows):
        none = np.full(len(row), -1)
        series = Series(values=np.array(row), wave=none, round=none, position=none)
        recording.add(f"toy/{number}", Figure(metric.name), series)
    return Quantity(metric, None, recording, "toy/0"), [f"toy/{number}" for number in range(len(rows))]


def test_cells_with_equal_items_are_identical(builders: ModuleType) -> None:
    """Of values per item all must be equal, and a negative zero is a zero."""
    rows = [[1.0, 0.0, 1.0], [1.0, -0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]
    quantity, cells = _quantity(builders.HITS, rows)
    expected = [[quantity.are_identical(ours, theirs) for theirs in cells] for ours in cells]
    assert identical_cells(quantity, cells).tolist() == expected
    assert np.array(expected).sum() == 10


def test_one_value_says_nothing_of_items(builders: ModuleType) -> None:
    """Two artifacts of one size are not the same on every item, since nothing is known of items."""
    quantity, cells = _quantity(builders.WEIGHT, [[5.0], [5.0], [6.0]])
    assert not identical_cells(quantity, cells).any()
    assert not quantity.are_identical(cells[0], cells[1])


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_a_look_at_every_pair_finds(builders: ModuleType, seed: int) -> None:
    """Of random cells, some of them equal, all pairs are found."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 2, size=(12, 3)).astype(float).tolist()
    quantity, cells = _quantity(builders.HITS, rows)
    expected = [[quantity.are_identical(ours, theirs) for theirs in cells] for ours in cells]
    assert identical_cells(quantity, cells).tolist() == expected
