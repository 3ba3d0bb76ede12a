"""Statistics against simulated truth, published values and the same tests in scipy.stats."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qx.statistics import intervals, over_items, over_waves
from qx.statistics.intervals import Difference
from qx.statistics.student_t import mean_and_error, student_between


def coverage(intervals, truth):
    """Return the share of the intervals that contain the truth."""
    low, high = np.array(intervals).T
    return np.mean((low <= truth) & (truth <= high))


# Items --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published(successes, n, low, high):
    """Wilson's interval is the one that Newcombe (1998, table I, method 3) printed."""
    assert over_items.wilson(successes, n).ci == pytest.approx((low, high), abs=5e-5)


def test_wilson_scipy():
    """Wilson's interval is scipy's at any level, and contains the share even at 0 and 1."""
    from scipy.stats import binomtest

    for successes in (0, 1, 9_132, 10_000):
        for level in (0.9, 0.95, 0.999):
            estimate = over_items.wilson(successes, 10_000, level)
            expected = binomtest(successes, 10_000).proportion_ci(level, "wilson")
            assert estimate.ci == pytest.approx((expected.low, expected.high), abs=1e-12)
            assert estimate.ci[0] <= estimate.value <= estimate.ci[1]
    with pytest.raises(ValueError, match="5 of 4"):
        over_items.wilson(5, 4)


def test_item_mean():
    """The mean over items has Wilson's interval for 0 and 1, and Student's t, not narrower, for the rest."""
    from scipy.stats import t

    values = np.random.default_rng(0).normal(2.0, 1.0, size=500)
    expected = t.interval(0.95, 499, values.mean(), values.std(ddof=1) / np.sqrt(500))
    low, high = over_items.item_mean(values).ci
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert 1.0 < (high - low) / (expected[1] - expected[0]) < 1.05
    assert over_items.item_mean([0, 1, 1, 1]) == over_items.wilson(3, 4)


def test_clopper_pearson_scipy():
    """Above 95 % a share has the exact interval, which is scipy's, and holds either tail."""
    from scipy.stats import binom, binomtest

    for successes in (0, 1, 492, 500):
        expected = binomtest(successes, 500).proportion_ci(0.999, "exact")
        row = np.arange(500) < successes
        assert over_items.item_mean(row, 0.999).ci == pytest.approx((expected.low, expected.high), abs=1e-12)
    chances = np.arange(501)
    low, high = np.array([over_items.clopper_pearson(count, 500, 0.98).ci for count in chances]).T
    for truth in (0.9, 0.98, 0.998):
        chance = binom.pmf(chances, 500, truth)
        assert max(chance[low > truth].sum(), chance[high < truth].sum()) <= 0.01


@pytest.mark.parametrize("level", [0.95, 0.98, 0.999])
def test_the_mean_of_a_heavy_tail(level):
    """The interval of log-normal values holds their mean about as often as it claims, t by itself less."""
    from scipy.stats import t

    rows = np.random.default_rng(20).lognormal(size=(1_500, 500))
    truth, claimed = np.exp(0.5), 1 - level
    missed = 1 - coverage([over_items.item_mean(row, level).ci for row in rows], truth)
    half = t.ppf(0.5 + level / 2, 499) * rows.std(axis=1, ddof=1) / np.sqrt(500)
    usual = 1 - coverage(np.stack([rows.mean(axis=1) - half, rows.mean(axis=1) + half], axis=1), truth)
    assert missed <= claimed + 0.005
    assert usual >= missed


def test_a_mean_that_few_items_carry():
    """Where all but a few values are the same the mean has no interval, and says why."""
    values = np.zeros(500)
    values[:6] = np.linspace(0.1, 3, 6)
    estimate = over_items.item_mean(values)
    assert (estimate.ci, estimate.n) == (None, 500)
    assert "fewer than 10 items differ" in estimate.reason
    values[:20] = np.linspace(0.1, 3, 20)
    assert over_items.item_mean(values).ci is not None


@pytest.mark.parametrize("discordant", [10, 40, 800])
@pytest.mark.parametrize("wins", [0.5, 0.8])
def test_paired_difference_coverage(discordant, wins):
    """The paired interval of accuracies covers 93 to 98 % down to ten discordant items in 10,000."""
    n, rng = 10_000, np.random.default_rng(discordant)
    better, worse = discordant * wins / n, discordant * (1 - wins) / n
    counts = rng.multinomial(n, [better, worse, 1 - better - worse], size=4_000)
    intervals = {}
    for more, less, _ in np.unique(counts, axis=0):
        ours, theirs = np.zeros(n), np.zeros(n)
        ours[:more], theirs[more : more + less] = 1, 1
        intervals[more, less] = over_items.paired_difference(ours, theirs).ci
    covered = coverage([intervals[more, less] for more, less, _ in counts], better - worse)
    assert 0.93 <= covered <= 0.98


def test_paired_difference_rare():
    """With one discordant item expected the interval of accuracies still covers 95 % or more."""
    rng, n, covered = np.random.default_rng(1), 1_000, 0
    for _ in range(1_000):
        ours = rng.random(n) >= 0.001
        covered += coverage([over_items.paired_difference(ours, np.ones(n)).ci], -0.001)
    assert covered / 1_000 >= 0.95


def test_mcnemar():
    """The p of paired accuracies is that of the exact binomial test on the discordant items."""
    from scipy.stats import binomtest

    for wins, losses in [(0, 0), (1, 0), (5, 5), (3, 14), (40, 22)]:
        ours = np.repeat([1, 0, 1, 0], [wins, losses, 100, 7])
        theirs = np.repeat([0, 1, 1, 0], [wins, losses, 100, 7])
        expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        difference = over_items.paired_difference(ours, theirs)
        assert difference.p == pytest.approx(expected)
        assert difference.value == (wins - losses) / len(ours)
        assert difference.ci[0] <= difference.value <= difference.ci[1]


def test_paired_difference_values():
    """Values other than 0 and 1 are compared by the paired t test, with an interval that is hardly wider."""
    from scipy.stats import ttest_rel

    ours, theirs = np.random.default_rng(2).normal([[0.1], [0.0]], 1.0, (2, 500))
    expected, difference = ttest_rel(ours, theirs), over_items.paired_difference(ours, theirs)
    low, high = expected.confidence_interval()
    assert 1.0 < (difference.ci[1] - difference.ci[0]) / (high - low) < 1.05
    assert difference.p == pytest.approx(expected.pvalue, rel=0.2)
    same = over_items.paired_difference(ours, ours)
    assert (same.value, same.p) == (0.0, 1.0)
    # As with right and wrong answers, 500 equal items do not prove that none ever differs.
    assert same.ci == pytest.approx((-np.ptp(ours) * 2.77 / 500, np.ptp(ours) * 2.77 / 500), rel=0.01)


@pytest.mark.parametrize("changed", [1, 3, 10, 50])
@pytest.mark.parametrize("tail", [False, True])
def test_paired_values_of_which_few_differ(changed, tail):
    """Where 1 to 50 of 500 items are expected to differ, the interval holds the truth in 93 % or more."""
    rng, held = np.random.default_rng(changed), 0
    for _ in range(600):
        theirs = rng.lognormal(size=500) if tail else 1 - 0.5 * (rng.random(500) < 0.1)
        lost = theirs if tail else 0.5 * rng.integers(0, 2, 500)
        ours = theirs - lost * (rng.random(500) < changed / 500)
        truth = -changed / 500 * (np.exp(0.5) if tail else 0.25)
        held += coverage([over_items.paired_difference(ours, theirs).ci], truth)
    assert held / 600 >= 0.93


@pytest.mark.parametrize("level", [0.98, 0.999])
def test_paired_difference_at_the_gates_levels(level):
    """Either tail of a difference of accuracies misses the truth no more often than its level allows."""
    from scipy.stats import binom

    n, most = 500, 45
    bounds = np.empty((most, most, 2))
    for wins, losses in np.ndindex(most, most):
        ours, theirs = np.zeros(n), np.zeros(n)
        ours[:wins], theirs[wins : wins + losses] = 1, 1
        bounds[wins, losses] = over_items.paired_difference(ours, theirs, level).ci
    for won, lost in [(0, 1), (0, 4), (0, 10), (0.5, 0.5), (0.3, 5), (5, 5), (2, 8), (3, 15)]:
        chance = np.outer(*(binom.pmf(np.arange(most), n, rate / n) for rate in (won, lost)))
        truth = (won - lost) / n
        above, below = bounds[..., 0] > truth + 1e-12, bounds[..., 1] < truth - 1e-12
        assert max(chance[above].sum(), chance[below].sum()) <= (1 - level) / 2


def test_items_differ():
    """Cells evaluated on different items are refused, and so are values that are not finite."""
    with pytest.raises(ValueError, match="same items"):
        over_items.paired_difference([1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="finite"):
        over_items.paired_difference([1, np.nan], [1, 0])


# Launches -----------------------------------------------------------------------------------------


SKEWED = {
    "exponential": (lambda rng, size: 1 + 0.02 * rng.exponential(size=size), 1 + 0.02 * np.log(2)),
    "lognormal": (lambda rng, size: 1 + 0.02 * np.exp(rng.standard_normal(size)), 1.02),
    "normal": (lambda rng, size: 1 + 0.01 * rng.standard_normal(size), 1.0),
}


@pytest.mark.parametrize("n", [5, 6, 7, 10, 20, 30])
@pytest.mark.parametrize("effect", SKEWED)
def test_between_launches_coverage(effect, n):
    """The interval of a median of launches covers 93 to 98 % for 5 to 30 launches, skewed or not."""
    draw, truth = SKEWED[effect]
    estimates = [over_waves.between_launches(row) for row in draw(np.random.default_rng(n), (2_500, n))]
    assert 0.93 <= coverage([estimate.ci for estimate in estimates], truth) <= 0.98
    assert all(estimate.ci[0] <= estimate.value <= estimate.ci[1] for estimate in estimates)


def test_between_launches_few():
    """One launch has a value and no interval; two have one that is wide, and contains the median."""
    assert over_waves.between_launches([3.0]) == intervals.Estimate(3.0, None, 1)
    low, high = over_waves.between_launches([3.0, 3.3]).ci
    assert low < 3.0 < 3.3 < high
    same = over_waves.between_launches([2.0] * 3)
    assert same.ci == pytest.approx((2.0, 2.0))
    negative = over_waves.between_launches([-1.0, 0.0, 1.0])
    assert negative.ci[0] == pytest.approx(-negative.ci[1])


@pytest.mark.parametrize("n", [3, 6, 12])
def test_launch_ratio_coverage(n):
    """The interval of a ratio of memory covers 93 to 98 %."""
    rng, intervals = np.random.default_rng(n), []
    for _ in range(2_000):
        wave = rng.normal(0, 0.02, n)
        ours = 100 * np.exp(wave + rng.normal(0, 0.01, n))
        theirs = 120 * np.exp(wave + rng.normal(0, 0.015, n))
        intervals.append(over_waves.launch_ratio(ours, theirs).ci)
    assert 0.93 <= coverage(intervals, 100 / 120) <= 0.98


def test_launch_ratio_takes_waves_that_both_have():
    """Waves that only one cell has do not count; one wave gives no interval, and none no ratio."""
    ours, theirs = np.random.default_rng(4).lognormal(0.0, 0.1, (2, 5))
    assert over_waves.launch_ratio(ours, theirs).value == pytest.approx(np.median(ours) / np.median(theirs))
    holes = over_waves.launch_ratio(np.insert(ours, 0, np.nan), np.append(theirs, np.nan))
    assert holes == over_waves.launch_ratio(ours[:4], theirs[1:])
    single = over_waves.launch_ratio([50.0], [100.0], kind="speedup")
    assert (single.value, single.ci, single.p) == (pytest.approx(2.0), None, None)
    with pytest.raises(ValueError, match="both cells"):
        over_waves.launch_ratio([50.0, np.nan], [np.nan, 100.0])


def test_exact():
    """An exact value has an interval of no width, as the kind of ratio that was asked for."""
    assert intervals.exact(1.0, 4.0, "ratio") == Difference("ratio", 0.25, (0.25, 0.25), None, "exact")
    assert intervals.exact(1.0, 4.0, "speedup").ci == (4.0, 4.0)
    assert intervals.exact(1.0, 4.0, "difference").value == -3.0
    with pytest.raises(ValueError, match="positive"):
        intervals.exact(1.0, 0.0, "ratio")


# Latency ------------------------------------------------------------------------------------------


def test_ratio_interval_scipy():
    """The interval and p of a ratio are scipy's one-sample t, and waves that are missing do not count."""
    from scipy.stats import ttest_1samp

    logs = np.random.default_rng(7).normal(0.02, 0.01, 8)
    expected, ratio = ttest_1samp(logs, 0.0), over_waves.ratio_interval([*logs, np.nan])
    interval = expected.confidence_interval(0.95)
    assert ratio.ci == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert ratio.p == pytest.approx(expected.pvalue)
    assert ratio.value == pytest.approx(np.exp(logs.mean()))
    speedup = over_waves.ratio_interval(logs, kind="speedup")
    assert speedup.ci == pytest.approx((1 / ratio.ci[1], 1 / ratio.ci[0]))
    alone = over_waves.ratio_interval([0.5])
    assert (alone.value, alone.ci, alone.p) == (pytest.approx(np.exp(0.5)), None, None)


@pytest.mark.parametrize("precision", [0.0075, 0.01, 0.02])
def test_coverage_through_stopping(precision):
    """Stopped by ``enough`` after six waves or more, ratios of three cells cover 93 to 98 %."""
    rng, covered = np.random.default_rng(8), []
    for _ in range(500):
        logs = rng.normal(0.0, 0.01, (40, 3))
        waves = next(n for n in range(1, 41) if n == 40 or over_waves.enough(logs[:n], precision))
        covered += [over_waves.ratio_interval(cell).ci for cell in logs[:waves].T]
    assert 0.93 <= coverage(covered, 1.0) <= 0.98


def test_enough():
    """It is enough when every cell that was seen has six waves and an interval within the precision."""
    steady = np.tile([[0.5, 0.0]], (6, 1)) + np.array([1, -1, 1, -1, 1, -1])[:, None] * 0.001
    assert over_waves.enough(steady, 0.01)
    assert not over_waves.enough(steady[:5], 0.01)
    assert not over_waves.enough(steady, 0.0001)
    assert over_waves.half_width(steady[:, 0]) == pytest.approx(
        over_waves.ratio_interval(steady[:, 0]).ci[1] / np.exp(0.5) - 1
    )
    assert over_waves.half_width([0.1]) == np.inf
    never = np.column_stack([steady, np.full(6, np.nan)])
    assert over_waves.enough(never, 0.01)
    never[0, 2] = 0.5
    assert not over_waves.enough(never, 0.01)
    assert not over_waves.enough(np.full((6, 2), np.nan), 0.01)


def test_control_alarm():
    """The control raises no alarm in 99.8 % of sound runs, and does when it is off by ten deviations."""
    logs = np.random.default_rng(9).normal(0.0, 0.007, (4_000, 8))
    for interval in (over_waves.ratio_interval, over_waves.difference_interval):
        assert np.mean([intervals.control_alarm(interval(run)) for run in logs]) <= 0.002
        assert np.mean([intervals.control_alarm(interval(run + 0.07)) for run in logs[:200]]) >= 0.99
        assert not intervals.control_alarm(interval([0.3]))


@pytest.mark.parametrize(
    ("value", "ci", "expected"),
    [
        (1.5, (1.4, 1.6), True),
        (1.5, (0.9, 2.4), False),
        (1.01, (1.005, 1.015), False),
        (0.98, (0.97, 0.99), False),
        (0.9, (0.89, 0.91), True),
        (1.5, None, False),
    ],
)
def test_clear(value, ci, expected):
    """A speedup is clear when its interval excludes 1.0 and it is farther from 1.0 than the control."""
    control = Difference("ratio", 1 / 1.03, (0.95, 1.001), 0.06)
    assert intervals.clear(Difference("speedup", value, ci, None), control) is expected


def test_clear_difference():
    """A difference is clear against a control's difference, and cannot be held against a control's ratio."""
    control = Difference("difference", -0.001, (-0.002, 0.0), 0.1)
    assert intervals.clear(Difference("difference", 0.002, (0.001, 0.003), 0.01), control)
    assert not intervals.clear(Difference("difference", 0.0005, (0.0001, 0.001), 0.01), control)
    assert not intervals.clear(Difference("difference", 0.002, (-0.001, 0.005), 0.5), control)
    with pytest.raises(ValueError, match="cannot be held against"):
        intervals.clear(Difference("ratio", 2.0, (1.9, 2.1), 0.0), control)


def test_holm():
    """Holm's adjustment gives the known example in its order, and 5 % false alarms for a family."""
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.9, 0.8]) == [1.0, 1.0]
    assert intervals.holm([]) == []
    families = np.random.default_rng(10).random((3_000, 10))
    assert np.mean([min(intervals.holm(family)) <= 0.05 for family in families]) == pytest.approx(
        0.05, abs=0.015
    )


# All pairs ----------------------------------------------------------------------------------------


def test_pairwise_over_waves():
    """Intervals of all pairs are those of the pairs one by one, and antisymmetric."""
    logs = np.random.default_rng(11).normal(0.0, 0.1, (7, 4))
    logs[2, 1] = np.nan
    low, high = over_waves.pairwise_over_waves(logs)
    for ours, theirs in np.ndindex(4, 4):
        expected = over_waves.ratio_interval(logs[:, ours] - logs[:, theirs]).ci
        assert (np.exp(low[ours, theirs]), np.exp(high[ours, theirs])) == pytest.approx(expected)
    assert low == pytest.approx(-high.T)


def test_pairwise_with_rows_that_take_back_what_others_count():
    """Where pairs differ in what a wave says of them, each has the interval of its own values."""
    rng = np.random.default_rng(13)
    logs, in_shared_rounds = rng.normal(3.0, 0.1, (2, 7, 5))
    has_fewer = np.zeros((7, 5), dtype=bool)
    has_fewer[3:, 1], has_fewer[5:, 2], has_fewer[4, 3] = True, True, True
    of_whole = np.where(has_fewer, np.nan, logs), np.where(has_fewer, np.nan, in_shared_rounds)
    rows = np.concatenate([of_whole[0], in_shared_rounds, of_whole[1]])
    low, high = over_waves.pairwise_over_waves(rows, 0, weights=np.repeat([1, 1, -1], 7))
    for ours, theirs in itertools.permutations(range(5), 2):
        is_shared = has_fewer[:, ours] | has_fewer[:, theirs]
        values = np.where(is_shared[:, None], in_shared_rounds, logs)
        expected = over_waves.ratio_interval(values[:, ours] - values[:, theirs]).ci
        assert (np.exp(low[ours, theirs]), np.exp(high[ours, theirs])) == pytest.approx(expected)


def test_pairwise_through_baseline():
    """Cells of two groups are compared through the baseline, with 93 to 98 % coverage, others directly."""
    rng, intervals = np.random.default_rng(12), []
    for _ in range(1_500):
        logs = rng.normal([0.0, 0.5, 0.8, 0.9], [0.01, 0.01, 0.02, 0.02], (12, 4))
        logs[:6, 1], logs[6:, 2:] = np.nan, np.nan
        low, high = over_waves.pairwise_over_waves(logs, baseline=0)
        intervals.append((low[1, 2], high[1, 2]))
    assert 0.93 <= coverage(intervals, -0.3) <= 0.98
    assert np.isnan(over_waves.pairwise_over_waves(logs)[0][1, 2])
    direct = over_waves.ratio_interval(logs[:, 2] - logs[:, 3]).ci
    assert np.exp(low[2, 3]) == pytest.approx(direct[0])
    to_base = [mean_and_error(logs[:, cell] - logs[:, 0]) for cell in (1, 2)]
    mean, half, _ = student_between(*to_base, level=0.95)
    assert (low[1, 2], high[1, 2]) == pytest.approx((mean - half, mean + half), rel=1e-3)


@pytest.mark.parametrize("baseline", [None, 0])
def test_pairwise_in_pieces(monkeypatch, baseline):
    """The intervals are the same however many cells are worked on at a time, and however groups are mixed."""
    rng = np.random.default_rng(14)
    logs = rng.normal(0.0, 0.1, (18, 40))
    group = rng.integers(0, 3, 40)
    logs[np.arange(18)[:, None] // 6 != np.where(np.arange(40) == 0, np.arange(18)[:, None] // 6, group)] = (
        np.nan
    )
    whole = over_waves.pairwise_over_waves(logs, baseline)
    assert np.isnan(whole[0]).any() == (baseline is None)
    monkeypatch.setattr(over_waves, "ROWS", 3)
    np.testing.assert_allclose(over_waves.pairwise_over_waves(logs, baseline), whole, rtol=1e-9)


@pytest.mark.parametrize("binary", [True, False])
def test_pairwise_differences(monkeypatch, binary):
    """Intervals of all paired differences are those of the pairs one by one."""
    monkeypatch.setattr(over_items, "ROWS", 3)
    items = np.random.default_rng(13).random((4, 60))
    items = items < 0.8 if binary else items
    low, high = over_items.pairwise_differences(items)
    for ours, theirs in np.ndindex(4, 4):
        expected = over_items.paired_difference(items[ours], items[theirs]).ci
        assert (low[ours, theirs], high[ours, theirs]) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["ratio", "speedup"])
def test_an_interval_that_says_nothing_is_none(kind):
    """A ratio of two waves that differ much has no interval, which would span a factor of a million."""
    wide = over_waves.ratio_interval([0.0, 1.2], kind=kind)
    assert (wide.ci, intervals.clear(wide, wide)) == (None, False)
    assert wide.p == pytest.approx(0.5)
    assert over_waves.ratio_interval([0.0, 0.9], kind=kind).ci is not None
    assert over_waves.between_launches([1.0, 4.0]).ci is None
    assert over_waves.between_launches([1.0, 2.0]).ci is not None


def test_difference_interval():
    """The interval is Student's t of the differences in waves, leaving out missing waves."""
    from scipy.stats import ttest_1samp

    apart = np.random.default_rng(3).normal(size=9)
    expected = ttest_1samp(apart, 0.0)
    difference = over_waves.difference_interval(np.append(apart, np.nan))
    assert (difference.value, difference.p) == pytest.approx((apart.mean(), expected.pvalue))
    assert difference.ci == pytest.approx(tuple(expected.confidence_interval()))
    assert over_waves.difference_interval([0.5]).ci is None
    with pytest.raises(ValueError, match="both cells"):
        over_waves.difference_interval([np.nan])
