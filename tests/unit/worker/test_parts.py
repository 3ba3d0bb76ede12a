"""Metrics of outputs are measured part by part, and held to what their records promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from attrs import evolve
from qx_plugins.metrics import accuracy, agreement

from qx import Metric, Predictions, QxError, Recorded, Samples
from qx.contract import records
from qx.worker import parts, whole_set
from qx.worker.plugins import BoundPlugin

ITEMS = 200
RECORD = Metric(
    name="odd",
    summary="Odd.",
    unit="points",
    better="higher",
    samples="per_item",
    compare="difference",
    phase="predictions",
    by_parts=True,
)
SCORES = np.random.default_rng(0).normal(size=(ITEMS, 7)).astype(np.float32)
LABELS = np.arange(ITEMS) % 7
DATA = Predictions(outputs={"output": SCORES}, targets={"labels": LABELS}, classes=tuple("abcdefg"))


class Plugin:
    """A metric in this process, which notes how many items each call of ``measure`` gets."""

    name = "odd"

    def __init__(self, measure: Callable[[Any], Any], combine: Any = None, record: Metric = RECORD) -> None:
        self.record, self.sizes = record, list[int]()
        self._hooks = {"measure": measure, **({"combine": combine} if combine else {})}

    def implements(self, hook: str) -> bool:
        return hook in self._hooks

    def call(self, hook: str, **arguments: Any) -> Any:
        if hook == "combine":
            return self._hooks[hook](arguments["statistics"])
        data = arguments["data"]
        self.sizes.append(len(data.outputs["output"]))
        return self._hooks[hook](data)


def as_bound(plugin: Plugin) -> BoundPlugin:
    return cast("BoundPlugin", plugin)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a part hold some 30 items of ``DATA``."""
    monkeypatch.setattr(records, "PART_BYTES", 30 * (7 * 4 + 8))


def highest(data: Any) -> Samples:
    scores, labels = data.outputs["output"], data.targets["labels"]
    return Samples(scores.max(axis=1), details={"of": "scores"}, groups=labels, group_names=tuple("abcdefg"))


def test_parts_are_joined(small_parts: None) -> None:
    """Values and groups of all parts are joined in their order; no call gets more than a part."""
    plugin = Plugin(highest)
    samples = cast("Samples", parts.measure(as_bound(plugin), DATA))
    assert np.array_equal(np.asarray(samples.values), SCORES.max(axis=1))
    assert samples.groups is not None
    assert np.array_equal(samples.groups, LABELS)
    assert samples.details == {"of": "scores"}
    # At the end some items are measured alone.
    assert plugin.sizes == [30] * 6 + [20, 32]


def test_a_metric_that_says_nothing_gets_all_items(small_parts: None) -> None:
    """Without ``by_parts`` there is one call with everything."""
    plugin = Plugin(highest, record=evolve(RECORD, by_parts=False))
    parts.measure(as_bound(plugin), DATA)
    assert plugin.sizes == [ITEMS]


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda data: data.outputs["output"][:, 0] - data.outputs["output"].mean(), "something else for 32"),
        (lambda data: Samples(data.outputs["output"][:, 0], {"n": len(data.outputs["output"])}), "by_parts"),
        (lambda data: data.outputs["output"][:-1, 0], r"values of shape \[199\] for 200 items"),
        (lambda data: 1.0, r"values of shape \[\] for 200 items"),
        (lambda data: ["a"] * len(data.outputs["output"]), "not numbers"),
        (lambda data: None if len(data.outputs["output"]) < 50 else data.outputs["output"][:, 0], "32 items"),
    ],
)
def test_the_promise_is_checked_where_outputs_are_small(measure: Any, words: str) -> None:
    """A metric whose values depend on other items is refused, though all items are one part."""
    with pytest.raises(QxError, match=rf"odd: measure gave .*{words}"):
        parts.measure(as_bound(Plugin(measure)), DATA)


def test_details_of_the_whole_set_are_refused_in_parts(small_parts: None) -> None:
    """What is said of all items cannot be said of a part."""
    plugin = Plugin(
        lambda data: Samples(data.outputs["output"][:, 0], {"n": float(data.outputs["output"].sum())})
    )
    with pytest.raises(QxError, match=r"other details for some of the items .* go over data.parts\(\)"):
        parts.measure(as_bound(plugin), DATA)


def test_statistics_of_items_are_joined(small_parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric with ``combine`` has the same value, influences and steps in parts as at once."""

    def measure(data: Any) -> Samples:
        right = data.outputs["output"].argmax(axis=1) == data.targets["labels"]
        return Samples(np.stack([right, ~right], axis=1))

    def combine(statistics: Any) -> Any:
        return statistics[..., 0] / (1 + statistics[..., 1])

    plugin = Plugin(measure, combine, evolve(RECORD, samples="per_set"))
    in_parts = whole_set.samples_of_set(as_bound(plugin), DATA)
    assert max(plugin.sizes) == 32
    monkeypatch.setattr(records, "PART_BYTES", 1 << 20)
    assert whole_set.samples_of_set(as_bound(plugin), DATA) == in_parts
    assert max(plugin.sizes) == ITEMS


def test_accuracy_is_the_same_in_parts(small_parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy goes over the parts by itself, since its details are of the whole set."""
    in_parts = accuracy.measure(DATA)
    monkeypatch.setattr(records, "PART_BYTES", 1 << 20)
    at_once = accuracy.measure(DATA)
    assert in_parts is not None
    assert at_once is not None
    assert np.array_equal(np.asarray(in_parts.values), np.asarray(at_once.values))
    assert in_parts.details == at_once.details
    assert set(in_parts.details) == {"per_class", "top5"}


def test_derived_metrics_get_parts_of_both_cells(small_parts: None) -> None:
    """A part of recorded outputs has those of the cell and of the baseline for the same items."""
    data = Recorded(
        samples={}, waves={}, baseline={}, outputs=DATA.outputs, baseline_outputs={"output": SCORES + 1}
    )
    assert agreement.measure(data) is not None
    answered = evolve(data, answers={"sum": SCORES}, baseline_answers={"sum": SCORES * 2})
    part = list(answered.parts())[1]
    assert part.answers is not None and part.baseline_answers is not None
    assert np.array_equal(part.baseline_answers["sum"], 2 * part.answers["sum"])
    assert len(part.answers["sum"]) == len((part.outputs or {})["output"]) < ITEMS
    plugin = Plugin(
        lambda part: part.baseline_outputs["output"][:, 0] - part.outputs["output"][:, 0],
        record=evolve(RECORD, phase="derived"),
    )
    samples = cast("Samples", parts.measure(as_bound(plugin), data))
    assert np.allclose(np.asarray(samples.values), 1)
    assert max(plugin.sizes) == 32


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"phase": "artifact", "samples": "exact"}, "phase 'artifact' has no items"),
        ({"samples": "exact"}, "gives samples 'per_item', or 'per_set'"),
        ({"phase": "derived", "per_point": True}, "gives samples 'per_item', or 'per_set'"),
    ],
)
def test_only_metrics_of_items_have_parts(fields: Any, words: str) -> None:
    """A record that cannot be measured in parts is refused."""
    with pytest.raises(ValueError, match=words):
        evolve(RECORD, **fields)
