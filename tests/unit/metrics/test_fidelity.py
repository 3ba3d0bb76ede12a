"""Metrics of how near the outputs are to the baseline's: cosine, divergence and largest deviation."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from qx_plugins.metrics import cosine, kl_divergence, largest_deviation
from scipy.special import softmax
from scipy.stats import entropy

from qx import Context, QxError, Recorded, Samples, Unsupported

EXACT = {"rel": 1e-9, "abs": 1e-12}
METRICS = (cosine, kl_divergence, largest_deviation)
RNG = np.random.default_rng(0)
BASELINE = RNG.normal(size=(50, 6)).astype(np.float32)
OURS = (BASELINE + 0.1 * RNG.normal(size=(50, 6))).astype(np.float32)


def measure(metric: ModuleType, ours: Any, baseline: Any, labels: Any = None, output: str = "") -> Samples:
    """Measure a cell, with outputs by name or with a single array."""
    ours, baseline = (array if isinstance(array, dict) else {"output": array} for array in (ours, baseline))
    recorded = Recorded(
        samples={},
        waves={},
        baseline={},
        outputs=ours,
        baseline_outputs=baseline,
        targets={} if labels is None else {"labels": labels},
    )
    samples = metric.measure(recorded, Context(options={"output": output}))
    assert isinstance(samples, Samples)
    return samples


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let arrays be looked at in several parts."""
    monkeypatch.setattr("qx_plugins.paired_outputs.AT_ONCE", 100)


def test_the_cosine_is_that_of_each_item() -> None:
    """Each item has the cosine of its flattened outputs, and the baseline itself has 1."""
    expected = [
        ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs))
        for ours, theirs in zip(OURS.astype(float), BASELINE.astype(float), strict=True)
    ]
    assert measure(cosine, OURS, BASELINE).values == pytest.approx(expected, **EXACT)
    cubes = OURS.reshape(50, 2, 3), BASELINE.reshape(50, 2, 3)
    assert measure(cosine, *cubes).values == pytest.approx(expected, **EXACT)
    assert measure(cosine, BASELINE, BASELINE).values == pytest.approx(1.0, **EXACT)
    huge = measure(cosine, 1e30 * OURS.astype(float), 1e-200 * BASELINE.astype(float))
    assert huge.values == pytest.approx(expected, **EXACT)


def test_the_cosine_of_what_is_no_number() -> None:
    """Zeros are near to zeros alone, outputs that are not finite are as far as can be."""
    baseline, ours = BASELINE.copy(), BASELINE.copy()
    baseline[0] = ours[0] = 0
    ours[1], ours[2, 3] = 0, np.nan
    baseline[3, 1] = np.inf
    assert measure(cosine, ours, baseline).values[:5] == pytest.approx([1, 0, -1, 1, 1])
    assert set(measure(cosine, {"other": ours}, baseline).values.tolist()) == {-1.0}


@pytest.mark.parametrize("kind", ["scores", "probabilities"])
def test_the_divergence_is_that_of_scipy(kind: str) -> None:
    """It is the relative entropy of the baseline's distribution, from scores or from probabilities."""
    ours, theirs = softmax(OURS.astype(float), axis=1), softmax(BASELINE.astype(float), axis=1)
    expected = entropy(theirs, ours, axis=1)
    pair = (ours, theirs) if kind == "probabilities" else (OURS, BASELINE)
    assert measure(kl_divergence, *pair).values == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert measure(kl_divergence, BASELINE, BASELINE).values.tolist() == [0.0] * 50


def test_the_divergence_is_a_mean_over_tokens_and_pixels() -> None:
    """Tokens have classes last, pixels in dimension 1, and positions with an ignored label are left out."""
    ours, theirs = (array.reshape(10, 5, 6) for array in (OURS.astype(float), BASELINE.astype(float)))
    by_token = entropy(softmax(theirs, axis=2), softmax(ours, axis=2), axis=2)
    expected = by_token.mean(axis=1)
    assert measure(kl_divergence, ours, theirs).values == pytest.approx(expected, **EXACT)
    labels = np.zeros((10, 5), dtype=int)
    labels[:, 3:], labels[4] = -100, -100
    expected = by_token[:, :3].mean(axis=1)
    expected[4] = 0
    assert measure(kl_divergence, ours, theirs, labels).values == pytest.approx(expected, **EXACT)
    images = [np.moveaxis(array[:, None], -1, 1) for array in (ours, theirs)]
    assert images[0].shape == (10, 6, 1, 5)
    values = measure(kl_divergence, *images, labels[:, None]).values
    assert values == pytest.approx(expected, **EXACT)


def test_a_divergence_is_always_finite() -> None:
    """A probability of 0, and outputs that are no numbers, count as the smallest probability of the type."""
    theirs = np.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]], dtype=np.float32)
    ours = np.array([[1.0, 0.0], [np.nan, 1.0], [1.0, 0.0]], dtype=np.float32)
    most = -np.log(np.finfo(np.float32).tiny)
    values = measure(kl_divergence, ours, theirs).values
    assert values == pytest.approx([0.5 * np.log(0.5) + 0.5 * (np.log(0.5) + most), most, 0.0])
    lacking = measure(kl_divergence, {"other": ours}, {"output": theirs}).values
    assert lacking == pytest.approx([most] * 3)


def test_the_divergence_is_of_outputs_that_choose_among_the_same_classes() -> None:
    """An auxiliary output of the first one's shape counts too, and a vector of another shape does not."""
    hidden = np.ones((50, 9), dtype=np.float32)
    baseline = {"logits": BASELINE, "auxiliary": BASELINE, "hidden": hidden}
    samples = measure(kl_divergence, {"logits": BASELINE, "auxiliary": OURS, "hidden": 3 * hidden}, baseline)
    assert samples.details["output"] == "auxiliary" and list(samples.details["outputs"]) == [
        "logits",
        "auxiliary",
    ]
    with pytest.raises(Unsupported, match=r"of shape \[50\] has no classes to choose from"):
        measure(kl_divergence, OURS[:, 0], BASELINE[:, 0])


def test_the_largest_deviation_is_in_units_of_the_output() -> None:
    """It is the largest difference of an item over the root mean square of all; details have the item."""
    expected = np.abs(OURS.astype(float) - BASELINE).max(axis=1) / np.sqrt(
        (BASELINE.astype(float) ** 2).mean()
    )
    samples = measure(largest_deviation, OURS, BASELINE)
    assert samples.values == pytest.approx(expected, **EXACT)
    assert samples.details["largest"] == {
        "item": int(expected.argmax()),
        "value": pytest.approx(expected.max()),
    }
    scaled = measure(largest_deviation, 1000 * OURS, 1000 * BASELINE)
    assert scaled.values == pytest.approx(expected, rel=1e-5)


def test_a_largest_deviation_is_always_finite() -> None:
    """Outputs that are not finite or lacking deviate by a million, and a silent baseline is unsupported."""
    ours, baseline = BASELINE.copy(), BASELINE.copy()
    ours[3, 0], baseline[4, 0], ours[4, 0] = np.inf, np.nan, 7
    values = measure(largest_deviation, ours, baseline).values
    assert values[3] == 1e6 and np.count_nonzero(values) == 1
    assert set(measure(largest_deviation, {}, baseline).values.tolist()) == {1e6}
    with pytest.raises(Unsupported, match="no finite numbers but zeros"):
        measure(largest_deviation, ours, np.zeros_like(baseline))


@pytest.mark.parametrize("metric", METRICS)
def test_the_worst_output_counts_unless_one_is_named(metric: ModuleType) -> None:
    """Of several outputs the worst is the value, the details have all, and an option names another."""
    baseline = {"first": BASELINE, "second": BASELINE, "classes": np.zeros(50, dtype=int)}
    ours = {"first": BASELINE + np.float32(1e-3) * OURS, "second": OURS, "classes": np.ones(50, dtype=int)}
    samples = measure(metric, ours, baseline)
    assert samples.details["output"] == "second" and len(samples.details["outputs"]) == 2
    assert measure(metric, ours, baseline, output="first").details["output"] == "first"
    with pytest.raises(QxError, match="there is no output 'third'; choose from first, second, classes"):
        measure(metric, ours, baseline, output="third")


@pytest.mark.parametrize("metric", METRICS)
def test_without_the_baselines_outputs_there_is_no_distance(metric: ModuleType) -> None:
    """Where outputs were not kept the metrics give None; by default they are not measured at all."""
    recorded = Recorded(samples={}, waves={}, baseline={}, outputs={"output": OURS})
    assert metric.measure(recorded, Context(options={"output": ""})) is None
    record = metric.describe()
    assert record.on_request and not record.axis and record.derived_from == ("outputs",)
