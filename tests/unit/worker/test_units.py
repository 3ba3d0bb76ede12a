"""Items that belong together: intervals take their units, and values stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from qx import UNITS, Predictions, QxError
from qx.worker.units import by_unit, unit_of_items


def data(units: object) -> Predictions:
    """Return predictions with these units."""
    return Predictions(outputs={"output": np.zeros((4, 1))}, targets={UNITS: np.asarray(units)}, classes=())


def test_the_mean_over_units_is_the_mean_over_items() -> None:
    """Of values and of statistics, whatever the sizes of the units."""
    units = unit_of_items(data([7, 3, 7, 7]))
    assert units is not None
    assert units.tolist() == [1, 0, 1, 1]
    for values in (np.arange(4.0), np.arange(12.0).reshape(4, 3)):
        assert by_unit(values, units).shape == (2, *values.shape[1:])
        np.testing.assert_allclose(by_unit(values, units).mean(axis=0), values.mean(axis=0))


def test_items_of_their_own_are_no_units() -> None:
    """Nor are targets that are no whole numbers, which is an error with their shape."""
    assert unit_of_items(data([4, 3, 2, 1])) is None
    assert unit_of_items(Predictions(outputs={}, targets={}, classes=())) is None
    with pytest.raises(QxError, match=r"have shape \[4\] and type float64; expected a whole number"):
        unit_of_items(data([0.5, 1, 1, 1]))
