"""The ratio of signal and quantization noise, as a metric, on outputs whose noise is is_finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qx_plugins.metrics import sqnr
from qx_plugins.metrics.sqnr import most_db

from qx import Context, QxError, Recorded, Samples, Unsupported, signal_and_noise
from qx.statistics import over_items
from qx.statistics.output_error import output_error

BASELINE = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
NOISE = np.random.default_rng(1).normal(size=BASELINE.shape).astype(np.float32)
#: What float32 can show: 24 bits.
MOST = 144.494


def measure(ours: Any, baseline: Any = BASELINE, output: str = "") -> Samples:
    """Measure a cell, with outputs by name or with a single one."""
    recorded = Recorded(
        samples={},
        waves={},
        baseline={},
        outputs=ours if isinstance(ours, dict) else {"output": ours},
        baseline_outputs=baseline if isinstance(baseline, dict) else {"output": baseline},
    )
    samples = sqnr.measure(recorded, Context(options={"output": output}))
    assert samples is not None
    return samples


def ratio(samples: Samples) -> float:
    """Return the value of the metric: the mean of its samples, which are finite."""
    values = np.asarray(samples.values)
    assert np.isfinite(values).all()
    return float(values.mean())


@pytest.mark.parametrize("share", [1e-3, 0.1, 3.0])
def test_the_mean_is_the_ratio_of_the_whole_set(share: float) -> None:
    """The mean over items is 10 log10 of all signal over all noise, as the results have it for each cell."""
    ours = BASELINE + share * NOISE
    signal, noise = (float(np.square(part.astype(float)).sum()) for part in (BASELINE, ours - BASELINE))
    samples = measure(ours)
    assert ratio(samples) == pytest.approx(10 * np.log10(signal / noise), rel=1e-9)
    assert ratio(samples) == pytest.approx(output_error(ours, BASELINE).sqnr_db, rel=1e-9)
    assert samples.details["outputs"] == {"output": pytest.approx(ratio(samples))}


def test_a_sample_is_what_an_item_moves_the_ratio_by() -> None:
    """Leaving an item out moves the ratio by what its sample differs from the mean, over the other items."""
    ours = BASELINE + 0.1 * NOISE
    values = np.asarray(measure(ours).values)
    without = ratio(measure(ours[1:], BASELINE[1:]))
    assert values.mean() - without == pytest.approx((values[0] - values.mean()) / (len(values) - 1), rel=0.02)


def test_the_difference_of_two_cells_is_that_of_their_ratios() -> None:
    """Twice the noise is 6.02 dB less, and its interval holds that where each item has other noise."""
    first, second = (np.asarray(measure(BASELINE + share * NOISE).values) for share in (0.01, 0.02))
    difference = over_items.paired_difference(second, first)
    assert difference.value == pytest.approx(-6.0206, abs=1e-3)
    other = np.random.default_rng(2).normal(size=BASELINE.shape).astype(np.float32)
    third = np.asarray(measure(BASELINE + 0.02 * other).values)
    difference = over_items.paired_difference(third, first)
    assert difference.ci is not None and difference.ci[0] < -6.0206 < difference.ci[1]
    assert difference.ci[1] - difference.ci[0] < 1.5


@pytest.mark.parametrize(
    ("dtype", "most"),
    [(np.float16, 66.227), (np.float32, MOST), (np.float64, 319.092), (np.int8, 48.165), (np.int64, 385.318)],
)
def test_a_ratio_is_at_most_what_the_type_can_show(dtype: Any, most: float) -> None:
    """An exact copy, of which the ratio is infinite, has one bit of its type as noise, and so many dB."""
    assert most_db(np.dtype(dtype)) == pytest.approx(most, abs=1e-3)
    outputs = (20 * BASELINE).astype(dtype)
    samples = measure(outputs, outputs, output="output")
    assert ratio(samples) == pytest.approx(most, abs=1e-3)
    assert samples.details["at_most"] == pytest.approx(most, abs=1e-3)


def test_copies_are_equal_and_have_an_interval() -> None:
    """All exact copies have the same samples, of which a gate can tell that they keep a limit."""
    first, second = measure(BASELINE.copy()), measure(BASELINE.astype(np.float64))
    assert np.array_equal(np.asarray(first.values), np.asarray(second.values))
    interval = over_items.item_mean(np.asarray(first.values), 0.999).ci
    assert interval is not None and interval[0] > 140


@pytest.mark.parametrize(("wrong", "expected"), [(400, -MOST), (40, 10 - MOST), (1, 26.02 - MOST)])
def test_an_item_that_is_not_finite_has_the_most_noise(wrong: int, expected: float) -> None:
    """Outputs that are not finite are worse than any noise, and still have a finite value."""
    ours = BASELINE.copy()
    ours[:wrong, 2] = np.nan
    assert ratio(measure(ours)) == pytest.approx(expected, abs=0.01)
    ours[:wrong, 2] = -np.inf
    assert ratio(measure(ours)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("ours", [{"other": BASELINE}, BASELINE[:, :3], BASELINE.reshape(400, 3, 2)])
def test_an_output_that_is_missing_or_of_another_shape_is_all_noise(ours: Any) -> None:
    """A cell without the baseline's output in its shape computes something else."""
    assert ratio(measure(ours)) == pytest.approx(-MOST, abs=1e-3)


def test_what_the_baseline_does_not_know_is_left_out() -> None:
    """Where the baseline itself is not finite nothing is held against a cell."""
    baseline = BASELINE.copy()
    baseline[:5], baseline[7, 1] = np.nan, np.inf
    ours = np.where(np.isfinite(baseline), baseline + 0.1 * NOISE, np.nan)
    is_finite = np.isfinite(baseline)
    signal, noise = np.square(baseline[is_finite]).sum(), np.square(0.1 * NOISE[is_finite]).sum()
    assert ratio(measure(ours, baseline)) == pytest.approx(10 * np.log10(signal / noise), rel=1e-4)


def test_of_several_outputs_the_one_with_the_least_counts() -> None:
    """The value is that of the output with the least ratio, and the details have all of them."""
    baseline = {"boxes": 100 * BASELINE, "scores": BASELINE}
    ours = {"boxes": 100 * BASELINE + NOISE, "scores": BASELINE + 0.1 * NOISE}
    samples = measure(ours, baseline)
    assert samples.details["output"] == "scores"
    assert ratio(samples) == pytest.approx(20, abs=0.5)
    assert samples.details["outputs"]["boxes"] == pytest.approx(40, abs=0.5)
    assert ratio(measure(ours, baseline, output="boxes")) == pytest.approx(40, abs=0.5)


def test_whole_numbers_count_only_where_they_are_named() -> None:
    """Whole numbers may be classes, so they are left out unless the option names them as amounts."""
    classes = {"classes": np.arange(400), "scores": BASELINE}
    samples = measure({"classes": np.arange(400)[::-1], "scores": BASELINE + 0.1 * NOISE}, classes)
    assert [*samples.details["outputs"]] == ["scores"]
    counts = {"counts": np.arange(400, dtype=np.uint8) % 200}
    with pytest.raises(Unsupported, match="whole numbers, which may be names of classes; name one as"):
        measure(counts, counts)
    named = measure({"counts": counts["counts"] ^ 1}, counts, output="counts")
    assert ratio(named) == pytest.approx(10 * np.log10(np.square(counts["counts"].astype(float)).mean()))


def test_an_unknown_output_is_refused_with_the_choices() -> None:
    """A name that no output has is an error that says which there are."""
    with pytest.raises(QxError, match="there is no output 'logits'; choose from output"):
        measure(BASELINE, output="logits")


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (np.zeros((4, 2)), "'output' has no finite number but zeros"),
        (np.full((4, 2), np.nan), "'output' has no finite number but zeros"),
        (np.full((4, 2), 1e200), "squares are too large"),
    ],
)
def test_without_a_signal_there_is_no_ratio(baseline: Any, words: str) -> None:
    """A baseline that gives only zeros has no ratio to anything, and the reason is said."""
    with pytest.raises(Unsupported, match=words):
        measure(baseline + 1, baseline)


def test_without_a_baseline_there_is_nothing() -> None:
    """Where the baseline has no outputs the metric gives None."""
    recorded = Recorded(samples={}, waves={}, baseline={}, outputs={"output": BASELINE})
    assert sqnr.measure(recorded, Context(options={"output": ""})) is None


def test_signal_and_noise_need_one_shape() -> None:
    """Sums of squares of outputs of different shapes are refused, and not spread over each other."""
    with pytest.raises(ValueError, match=r"one shape, not \(400, 1\) and \(400, 6\)"):
        signal_and_noise(BASELINE[:, :1], BASELINE)


def test_scalars_and_large_items_have_a_value_each() -> None:
    """Items of one number, and items larger than what is compared at a time, have their own sums."""
    signal, noise = signal_and_noise(np.array([1.0, 2.0]), np.array([3.0, -2.0]))
    assert (signal.tolist(), noise.tolist()) == ([9, 4], [4, 16])
    large = np.ones((3, 2, 1_000_000), dtype=np.int8)
    signal, noise = signal_and_noise(-large, large)
    assert (signal.tolist(), noise.tolist()) == ([2e6] * 3, [8e6] * 3)
