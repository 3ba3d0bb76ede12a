"""Estimates of how much more measuring would be enough, against simulated runs."""

from __future__ import annotations

import numpy as np
import pytest

from qx.statistics import over_waves
from qx.statistics.effort import MOST_WAVES, items_needed, waves_needed


@pytest.mark.parametrize(("excess", "waves"), [(1.5, 6), (4.0, 6), (2.0, 3), (1.2, 12)])
def test_so_many_waves_make_an_interval_so_narrow(excess: float, waves: int) -> None:
    """Simulated runs with the estimated number of waves have intervals narrower by that factor."""
    needed = waves_needed(excess, waves)
    assert needed is not None and needed > waves
    generator = np.random.default_rng(0)
    widths = [
        np.mean(np.log1p(over_waves.half_width(generator.normal(0, 0.01, (count, 2000)))) ** 2) ** 0.5
        for count in (waves, needed)
    ]
    # The number of waves is whole, so the interval is a little narrower than asked for.
    assert excess <= 1.02 * widths[0] / widths[1] <= 1.15 * excess


def test_what_would_take_for_ever_is_not_told() -> None:
    """An interval a thousand times as narrow, or any from a single wave, cannot be estimated."""
    assert waves_needed(1000.0, 6) is None
    assert waves_needed(1.5, 1) is None
    needed = waves_needed(10.0, 6)
    assert needed is not None and needed < MOST_WAVES


def test_items_count_by_the_square() -> None:
    """Half the width takes four times as many items."""
    assert items_needed(2.0, 500) == 2000
    assert items_needed(1.1, 500) == 606
