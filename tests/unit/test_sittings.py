"""Waves of several sittings are pooled unless the sittings differ by more than their waves do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from qx.statistics.over_sittings import ALPHA, by_sitting, differ, difference_p, mean_over_sittings
from qx.statistics.over_waves import between_sittings


def test_of_two_sittings_it_is_welchs_t_test() -> None:
    """The p of two sittings is that of scipy's t test with unequal variances."""
    generator = np.random.default_rng(1)
    first, second = generator.normal(0, 1, 7), generator.normal(1, 3, 5)
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    p = difference_p([*first, np.nan, *second], [0] * 7 + [1] * 6)
    assert p == pytest.approx(expected)


def test_sittings_that_do_not_differ_seldom_count_as_different() -> None:
    """At three waves or more in each of two to four sittings false alarms are about as many as allowed."""
    generator = np.random.default_rng(2)
    for counts in ((3, 3), (6, 6), (3, 12), (4, 6, 5), (6, 6, 6, 6)):
        sittings = np.repeat(np.arange(len(counts)), counts)
        alarms = [differ(generator.normal(size=len(sittings)), sittings) for _ in range(2000)]
        assert np.mean(alarms) < 1.4 * ALPHA + 3 * np.sqrt(ALPHA / 2000), counts


def test_sittings_that_differ_clearly_are_seen() -> None:
    """A shift of five standard deviations is seen with six waves in each sitting."""
    generator = np.random.default_rng(3)
    values = generator.normal(size=12) + np.repeat([0, 5], 6)
    assert differ(values, np.repeat([0, 1], 6))


def test_one_wave_shows_no_spread() -> None:
    """Without two sittings of two waves each there is nothing to test, and nothing counts as different."""
    assert np.isnan(difference_p([1.0, 2.0, 9.0], [0, 0, 1]))
    assert not differ([1.0, 2.0, 9.0], [0, 0, 1])


@pytest.mark.parametrize(("values", "p"), [([1, 1, 1, 1], 1.0), ([1, 1, 2, 2], 0.0)])
def test_equal_waves_are_no_error(values: list[float], p: float) -> None:
    """Where all waves of each sitting are equal, sittings differ exactly if their values do."""
    assert difference_p(values, [0, 0, 1, 1]) == p


def test_each_sitting_counts_once_where_they_differ() -> None:
    """The estimate is the mean over sittings, with the interval of so many values."""
    values, sittings = [0.1] * 10 + [0.3, 0.3], [0] * 10 + [1] * 2
    mean, half, _ = mean_over_sittings(values, sittings, 0.95)
    assert mean == pytest.approx(0.2)
    assert half == pytest.approx(stats.t.ppf(0.975, 1) * np.std([0.1, 0.3], ddof=1) / np.sqrt(2))
    compared = between_sittings(values, sittings, "difference")
    assert compared.value == pytest.approx(0.2)
    assert "over sittings" in compared.method
    assert [len(part) for part in by_sitting(values, sittings)] == [10, 2]
