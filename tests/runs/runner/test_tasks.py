"""The meaning of outputs and labels decides which metrics apply, and data without items are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from qx.contract.tasks import CLASSIFICATION, Labels, task_of

#: Labels of a classifier with three classes.
CLASSES = Labels(shape=(), dtype="int64", lowest=0, highest=2)


@pytest.mark.parametrize(
    ("outputs", "labels", "classes"),
    [
        ([3], CLASSES, ("x", "y", "z")),
        ([3], CLASSES, ()),
        ([3], None, ("x", "y", "z")),
        ([3], Labels(shape=(), dtype="bool", lowest=0, highest=1), ()),
    ],
)
def test_scores_of_classes_are_recognized(outputs: Any, labels: Any, classes: Any) -> None:
    """Several outputs for each item, with labels or names of as many classes, are a classification."""
    task = task_of(outputs, labels, classes)
    assert (task.name, task.reason) == (CLASSIFICATION, "")


@pytest.mark.parametrize(
    ("outputs", "labels", "classes", "words"),
    [
        ([1], CLASSES, (), "one number for each item"),
        (
            [8, 3],
            CLASSES,
            (),
            "outputs have shape [batch, 8, 3], but scores of classes have shape [batch, classes]",
        ),
        ([], CLASSES, (), "outputs have shape [batch], but scores of classes have shape [batch, classes]"),
        ([128], CLASSES, ("x", "y", "z"), "gives 128 outputs and the data have 3 classes"),
        ([128], None, (), "neither labels nor classes"),
        (
            [3],
            Labels(shape=(32, 32), dtype="int64", lowest=0, highest=2),
            (),
            "labels have shape [items, 32, 32]",
        ),
        ([3], Labels(shape=(), dtype="float32", lowest=None, highest=None), (), "labels are float32"),
        ([3], Labels(shape=(), dtype="int64", lowest=1, highest=3), (), "labels go from 1 to 3"),
    ],
)
def test_what_is_no_classification_has_a_reason(outputs: Any, labels: Any, classes: Any, words: str) -> None:
    """The reason names the shape of the outputs or labels, and the one that scores of classes have."""
    task = task_of(outputs, labels, classes)
    assert task.name is None
    assert words in task.reason


@pytest.mark.parametrize(
    ("outputs", "shape", "highest", "expected"),
    [
        ([1], (), None, "regression"),
        ([3], (3,), None, "regression"),
        ([16, 9], (16,), 8, "token_classification"),
        ([16, 9], (16,), 9, None),
        ([4, 32, 48], (32, 48), 3, "segmentation"),
        ([4, 32, 48], (48, 32), 3, None),
    ],
)
def test_shapes_of_outputs_and_labels_show_other_tasks(
    outputs: Any, shape: Any, highest: int | None, expected: str | None
) -> None:
    """Floats are amounts; whole numbers are classes of items, of tokens or of pixels."""
    kind, lowest = ("float32", None) if highest is None else ("int64", 0)
    labels = Labels(shape=shape, dtype=kind, lowest=lowest, highest=highest)
    assert task_of(outputs, labels, ()).name == expected


def test_what_a_workload_states_goes_before_what_shapes_show() -> None:
    """An embedding has the shapes of a classifier."""
    task = task_of([64], CLASSES, (), "embedding")
    assert (task.name, task.reason) == ("embedding", "the task is embedding")


WORKLOAD = """
    import numpy
    from qx import Data, Workload, hookimpl

    @hookimpl
    def describe():
        return Workload(name="shaped", summary="Points, and a model of one layer.")

    @hookimpl
    def make_model():
        import torch

        class Shaped(torch.nn.Linear):
            def forward(self, points):
                outputs = super().forward(points)
                return {forward}

        return Shaped(4, {width})

    @hookimpl
    def load_data(split):
        points = numpy.random.RandomState(len(split)).randn(12, 4).astype("float32")
        labels = {labels}
        targets = {{}} if labels is None else {{"labels": labels}}
        return Data(inputs={{"point": points}}, targets=targets, classes={classes}, source="points")

    @hookimpl
    def example_inputs(batch_size):
        import torch
        return (torch.zeros(batch_size, 4),)
"""


@pytest.fixture(scope="module")
def shaped(qx: Callable[..., Any], toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run the toy's baseline once for each number of outputs, labels and classes."""
    import torch

    @cache
    def run(width: int, *, labels: str, classes: str = "()", forward: str = "outputs") -> Any:
        tmp_path = tmp_path_factory.mktemp("shaped")
        path = tmp_path / "shaped.py"
        source = dedent(WORKLOAD).format(width=width, labels=labels, classes=classes, forward=forward)
        path.write_text(source)
        torch.save({"weight": torch.ones(width, 4), "bias": torch.zeros(width)}, tmp_path / "w.pt")
        return qx(
            *("run", "--workload", "shaped", "--weights", tmp_path / "w.pt"),
            *toy.plugin_arguments(str(path)),
            *("-m", "accuracy", "-m", "agreement", "-m", "file_size", "--out", tmp_path / "out"),
        )

    return run


@pytest.mark.parametrize(
    ("width", "labels", "classes", "words"),
    [
        (1, "numpy.arange(12) % 2", "()", "one number for each item"),
        pytest.param(
            *(8, "numpy.arange(12) % 3", "('x', 'y', 'z')", "8 outputs and the data have 3 classes"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(3, "numpy.zeros((12, 5), int)", "()", "the labels have shape [items, 5]"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["regression", "embedding", "labels-of-two-dimensions"],
)
def test_accuracy_and_agreement_do_not_apply_to_other_tasks(
    shaped: Callable[..., Any], width: int, labels: str, classes: str, words: str
) -> None:
    """Metrics of classification have no value for other tasks, and terminal and table give the reason."""
    done = shaped(width, labels=labels, classes=classes)
    assert done.code == 0, done.err
    assert done.results["run"]["workloads"]["shaped"]["task"] is None
    for name in ("accuracy", "agreement"):
        figure = done.measurement("toy_fp32", name)
        assert (figure["outcome"], figure["value"]) == ("unsupported", None)
        assert words in figure["cause"]
        for shown in (done.out, done.table.replace("\\", "")):
            # Line breaks of the terminal are not part of the text.
            text = " ".join(shown.split()).replace("`", "")
            assert "accuracy and agreement do not apply: " in text
            assert words in text
    assert [axis["metric"] for axis in done.results["axes"]] == ["file_size"]
    assert not any(pick["metric"] == "accuracy" for pick in done.results["picks"])


def test_figures_without_a_task_are_the_same_when_computed_again(
    shaped: Callable[..., Any], qx: Callable[..., Any]
) -> None:
    """``qx report`` reads from the results that a metric did not apply, and why."""
    done = shaped(1, labels="numpy.arange(12) % 2", classes="()")
    report = qx("report", done.folder)
    assert report.code == 0, report.err
    assert "differ from those" not in report.err
    assert "accuracy and agreement do not apply: the model gives one number" in " ".join(report.out.split())


def test_outputs_must_begin_with_the_batch(shaped: Callable[..., Any]) -> None:
    """Outputs whose first dimension is not the batch are refused with one line that names the shapes."""
    done = shaped(2, labels="None", forward="outputs.T")
    assert done.code == 2
    assert "Shaped gives outputs [2, 2] for a batch of 2 and [2, 3] for a batch of 3" in done.err
    assert "expected [batch, ...]" in done.err and "dimension 1 seems to be the batch" in done.err
    assert not done.folder.exists()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("numpy.array(['x'] * 12)", "expected an array of numbers [items, ...]"),
        ("numpy.array(3)", "expected an array of numbers [items, ...]"),
        ("numpy.arange(12) % 4", "has the label 3, and its 3 classes are numbered from 0 to 2"),
        ("numpy.zeros(5, int)", "arrays of different lengths"),
    ],
)
def test_labels_that_no_metric_could_use_are_refused_in_a_line(
    shaped: Callable[..., Any], labels: str, words: str
) -> None:
    """Labels that fit no metric are refused with the split, its labels and what was expected."""
    done = shaped(3, labels=labels, classes="('x', 'y', 'z')")
    assert done.code == 2
    assert words in done.err
    assert "split" in done.err


def test_a_metric_can_say_why_it_does_not_apply(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str], tmp_path: Path
) -> None:
    """``Unsupported`` in ``measure`` costs no exit code, and its reason is printed once for all rows."""
    path = write_plugin(
        "choosy",
        """
        from qx import Metric, Unsupported, hookimpl

        @hookimpl
        def describe():
            return Metric(name="choosy", summary="None.", unit="points", better="higher", samples="per_item",
                          compare="difference", phase="predictions")

        @hookimpl
        def measure(data):
            raise Unsupported("only sounds have a pitch")
        """,
    )
    done = qx(
        *("run", *toy.arguments(path, toy.config("second")), "-m", "choosy", "-m", "file_size"),
        *("--out", tmp_path / "out"),
    )
    assert done.code == 0, done.err
    assert done.out.count("choosy does not apply: only sounds have a pitch.") == 1
