"""Metrics with ``combine``: influences and draws against brute force, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.analysis.whole_set import drawn_items, group_of_items
from qx.contract.records import Context, Predictions, Recorded
from qx.contract.references import reference_of
from qx.errors import QxError
from qx.host.host import Host
from qx.processes.answers import PlainSamples
from qx.worker import combined
from qx.worker.plugins import BoundPlugin
from qx.worker.whole_set import samples_of_set

PLUGIN = """
    import numpy as np
    from qx import Metric, Samples, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="figure", summary="A figure.", unit="fraction", better="higher", samples="per_set",
            compare="difference", phase="{phase}",
        )

    @hookimpl
    def measure(data):
        outputs = next(iter(data.outputs.values()))
        labels = data.targets["labels"]
        right = outputs.argmax(axis=1) == labels
        {measure}

    @hookimpl
    def combine(statistics):
        {combine}
"""
#: F1 of class 0: whether an item is a hit, an answer, a member.
F1 = (
    "own, is_label = outputs.argmax(axis=1) == 0, labels == 0; "
    "return np.stack([own & is_label, own, is_label], 1)",
    "hits, chosen, members = np.moveaxis(statistics, -1, 0); count = chosen + members; "
    "return np.divide(2 * hits, count, out=np.full(hits.shape, np.nan), where=count > 0)",
)
STATISTIC = """
    @hookimpl
    def statistic(outputs, targets, indices):
        own = next(iter(outputs.values()))[indices].argmax(axis=1) == 0
        members = targets["labels"][indices] == 0
        count = own.sum() + members.sum()
        return 2 * (own & members).sum() / count if count else None
"""
ITEMS = 90


@pytest.fixture
def bound(write_plugin: Callable[[str, str], str]) -> Callable[..., BoundPlugin]:
    """Write a metric with these bodies of ``measure`` and ``combine``."""

    def bind(measure: str = F1[0], combine: str = F1[1], phase: str = "predictions") -> BoundPlugin:
        source = dedent(PLUGIN).format(measure=measure, combine=combine, phase=phase)
        return _bound(write_plugin, source)

    return bind


def _bound(write_plugin: Callable[[str, str], str], source: str) -> BoundPlugin:
    reference = evolve(reference_of(write_plugin("figure", source)), name="figure")
    return BoundPlugin(Host.of([reference]), "figure", Context())


def data(items: int = ITEMS, classes: int = 3, members: float = 0.4) -> Predictions:
    """Return scores and labels of items, of which about this share has the label 0."""
    rng = np.random.default_rng(items)
    labels = np.where(rng.random(items) < members, 0, rng.integers(1, classes, items))
    scores = rng.random((items, classes)).astype(np.float32) + np.eye(classes, dtype=np.float32)[labels]
    return Predictions(outputs={"output": scores}, targets={"labels": labels}, classes=("a", "b", "c"))


def f1(predictions: Predictions, indices: Any) -> float:
    """Return F1 of class 0 over some items."""
    answers = predictions.outputs["output"][indices].argmax(axis=1) == 0
    members = predictions.targets["labels"][indices] == 0
    count = answers.sum() + members.sum()
    return float(2 * (answers & members).sum() / count) if count else float("nan")


def measured(plugin: BoundPlugin, predictions: Any) -> PlainSamples:
    """Measure the metric."""
    samples = samples_of_set(plugin, predictions)
    assert samples is not None
    return samples


def test_influences_and_draws_are_those_of_brute_force(bound: Any) -> None:
    """Leaving out an item, drawing items and changing an answer give what the metric gives of such items."""
    predictions, everything = data(), np.arange(ITEMS)
    sample = measured(bound(), predictions).resampled[0]
    value = f1(predictions, everything)
    without = [f1(predictions, everything[everything != item]) for item in everything]
    by_group = [without[int(np.flatnonzero(group_of_items(ITEMS, ITEMS) == item)[0])] for item in everything]
    assert sample.value == pytest.approx(value, rel=1e-12)
    assert sample.influence == pytest.approx([(ITEMS - 1) * (value - part) for part in by_group], abs=1e-9)
    assert sample.draws == pytest.approx(
        [f1(predictions, drawn_items(ITEMS, draw)) for draw in range(combined.DRAWS)], rel=1e-9
    )
    scores = predictions.outputs["output"]
    steps = []
    for item in everything:
        changed = scores.copy()
        first, second = np.argsort(-scores[item], kind="stable")[:2]
        changed[item, [first, second]] = scores[item, [second, first]]
        steps.append(abs(f1(evolve(predictions, outputs={"output": changed}), everything) - value))
    assert sample.step == pytest.approx(max(steps), rel=1e-9)


def test_items_are_left_out_in_groups_where_they_are_too_many(
    bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of items are left out as ``group_of_items`` has them, in parts of any size."""
    monkeypatch.setattr(combined, "MOST_GROUPS", 40)
    monkeypatch.setattr(combined, "AT_ONCE", 21)
    predictions, everything = data(), np.arange(ITEMS)
    sample = measured(bound(), predictions).resampled[0]
    groups, value = group_of_items(ITEMS, 40), f1(predictions, everything)
    without = np.array([f1(predictions, everything[groups != group]) for group in range(40)])
    assert sample.influence == pytest.approx((39 * (value - without)).tolist(), abs=1e-9)
    assert sample.draws[3] == pytest.approx(f1(predictions, drawn_items(ITEMS, 3)), rel=1e-9)


def test_combine_gives_the_draws_of_statistic(bound: Any, write_plugin: Any) -> None:
    """One metric, written with ``combine`` and with ``statistic``, has the same influences and draws."""
    source = dedent(PLUGIN).split("@hookimpl\ndef measure")[0].format(phase="predictions") + dedent(STATISTIC)
    by_statistic = measured(_bound(write_plugin, source), data()).resampled[0]
    by_combine = measured(bound(), data()).resampled[0]
    assert by_combine.influence == pytest.approx(by_statistic.influence, abs=1e-9)
    assert by_combine.draws == pytest.approx(by_statistic.draws, rel=1e-9)
    assert by_combine.step == pytest.approx(by_statistic.step, rel=1e-9)


def test_groups_of_items_are_resampled_by_themselves(bound: Any) -> None:
    """The items of a group have their own value and influences, and none where they have no value."""
    measure = f"{F1[0].replace('return ', 'rows = ')}; return Samples(rows, groups=labels, group_names='abc')"
    predictions = data()
    _, *groups = measured(bound(measure), predictions).resampled
    for label, sample in enumerate(groups):
        members = np.flatnonzero(predictions.targets["labels"] == label)
        assert sample.items == len(members)
        if sample.reason:
            assert np.isnan(f1(predictions, members)) or "without some" in sample.reason
        else:
            assert sample.value == pytest.approx(f1(predictions, members))
            assert len(sample.influence) == len(members) and not sample.draws


def test_a_set_without_a_value_has_a_reason(bound: Any) -> None:
    """A value that is lost with one item has no interval, and none at all is 'not applicable'."""
    predictions = data(members=0.0)
    labels = predictions.targets["labels"].copy()
    predictions.outputs["output"][:, 0] = -1
    assert samples_of_set(bound(), predictions) is None
    labels[7] = 0
    lonely = measured(bound(), evolve(predictions, targets={"labels": labels})).resampled[0]
    assert lonely.value == 0.0 and not lonely.influence
    assert "no value without some of its items (1 of 90 groups)" in lonely.reason


@pytest.mark.parametrize(
    ("measure", "combine", "words"),
    [
        (
            "return outputs - outputs.mean(axis=0)",
            "return statistics[..., 0]",
            "each row must follow from its",
        ),
        ("return outputs[1:]", "return statistics[..., 0]", "statistics of 89 items, and there are 90 items"),
        ("return outputs * np.nan", "return statistics[..., 0]", "statistics of item 0 that are not finite"),
        ("return outputs.astype(str)", "return statistics[..., 0]", r"array of <U\d+ of shape \[90, 3\]"),
        ("return right", "return statistics[..., 0]", "1-dimensional values; expected statistics of items"),
        ("return outputs", "return statistics", r"combine gave shape \[2, 3\] for statistics \[2, 3\]"),
        ("return outputs", "return statistics.mean()", r"combine gave shape \[\] for statistics \[2, 3\]"),
        ("return outputs", "return statistics[..., 0] / 0", "combine gave values that are not finite"),
        (
            "return outputs",
            "return statistics[..., 0] - np.mean(statistics)",
            "it must work over the last axis alone",
        ),
        ("return outputs", "return 'good'", "combine gave 'good'"),
        (
            "return Samples(outputs, groups=[0, 1], group_names='ab')",
            "return statistics[..., 0]",
            "statistics of 90 items and 2 groups, and there are 90 items",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_does_not_combine_is_refused(bound: Any, measure: str, combine: str, words: str) -> None:
    """Statistics that are not one row of numbers for each item, or a value of other sets, are one line."""
    with pytest.raises(QxError, match=words):
        samples_of_set(bound(measure, combine), data())


def test_statistics_may_be_of_the_baselines_outputs(bound: Any) -> None:
    """A derived metric combines statistics of both outputs, and no step is tried where scores are lacking."""
    predictions = data()
    both = Recorded(
        samples={},
        waves={},
        baseline={},
        outputs={"output": predictions.outputs["output"], "other": np.zeros((ITEMS, 2))},
        baseline_outputs={"output": predictions.outputs["output"] + 1},
        targets=predictions.targets,
    )
    plugin = bound(
        "return data.baseline_outputs['output'] - data.outputs['output']",
        "return statistics.mean(axis=-1)",
        "derived",
    )
    sample = measured(plugin, both).resampled[0]
    assert sample.value == pytest.approx(1.0)
    assert sample.step is None
