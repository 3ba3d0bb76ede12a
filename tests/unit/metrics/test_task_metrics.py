"""The metrics of tasks, held against scikit-learn and against references that are written out here."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from qx_plugins.metrics import (
    calibration_error,
    f1,
    mae,
    mean_average_precision,
    mean_iou,
    r2,
    recall_at_1,
    recall_at_10,
    token_f1,
)
from scipy.special import softmax
from sklearn import metrics as sklearn

from qx import Context, Predictions, QxError, Samples, Unsupported

EXACT = {"rel": 1e-9, "abs": 1e-12}
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def predictions(outputs: Any, labels: Any, classes: tuple[str, ...] = ()) -> Predictions:
    """Return outputs and labels as a metric gets them; outputs may be a single array."""
    named = outputs if isinstance(outputs, dict) else {"output": outputs}
    targets = labels if isinstance(labels, dict) else {"labels": labels}
    return Predictions(outputs=named, targets=targets, classes=classes)


def samples_of(metric: ModuleType, data: Predictions, **options: Any) -> Samples:
    """Measure a metric, with its default options but for these."""
    defaults = {option.name: option.default for option in metric.describe().options}
    takes_context = "context" in metric.measure.__code__.co_varnames[: metric.measure.__code__.co_argcount]
    context = (Context(options={**defaults, **options}),) if takes_context else ()
    samples = metric.measure(data, *context)
    assert isinstance(samples, Samples)
    return samples


def value_of(metric: ModuleType, data: Predictions, **options: Any) -> float:
    """Return the value of a metric: the mean over items, or what ``combine`` makes of their statistics."""
    values = np.asarray(samples_of(metric, data, **options).values, dtype=float)
    if values.ndim == 1:
        return float(values.mean())
    return float(metric.combine(values.mean(axis=0)))


def choices(shape: tuple[int, ...], classes: int, share: float, seed: int = 0) -> tuple[Any, Any]:
    """Return labels, of which the last class never occurs, and scores that are right in a share of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - 1, shape)
    answers = np.where(rng.random(shape) < share, labels, rng.integers(0, classes - 1, shape))
    return labels, np.eye(classes)[answers] + 0.3 * rng.random((*shape, classes))


# Classification -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_f1_is_that_of_scikit_learn(share: float) -> None:
    """Macro F1 leaves out a class that neither occurs nor is answered, as scikit-learn's does."""
    labels, scores = choices((300,), 7, share)
    expected = sklearn.f1_score(labels, scores.argmax(axis=1), average="macro")
    samples = samples_of(f1, predictions(scores, labels))
    assert samples.values.dtype == np.uint8 and samples.values.shape == (300, 21)
    assert value_of(f1, predictions(scores, labels)) == pytest.approx(expected, **EXACT)
    per_class = sklearn.f1_score(labels, scores.argmax(axis=1), average=None)
    assert list(samples.details["per_class"].values()) == pytest.approx(per_class.tolist(), **EXACT)


def test_f1_of_a_set_without_labels_or_answers_is_none() -> None:
    """Sets combine over the last axis, and one without any class has no value."""
    rows = samples_of(f1, predictions(*reversed(choices((40,), 4, 0.5)))).values.astype(float)
    sets = np.stack([rows[:10].mean(axis=0), rows[10:].mean(axis=0), np.zeros(12)]).reshape(3, 1, 12)
    values = f1.combine(sets)
    assert values.shape == (3, 1)
    assert np.isnan(values[:, 0]).tolist() == [False, False, True]


def expected_calibration_error(probabilities: Any, labels: Any, bins: int) -> float:
    """Return the error as Guo et al. (2017) write it, bin by bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for index in range(bins):
        upper = confidence <= 1 if index == bins - 1 else confidence < (index + 1) / bins
        inside = (confidence >= index / bins) & upper
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


@pytest.mark.parametrize("bins", [15, 4])
def test_calibration_error_is_the_gap_in_bins(bins: int) -> None:
    """It is the same of scores and of their softmax, since probabilities are taken as they are."""
    labels, scores = choices((500,), 5, 0.7)
    probabilities = softmax(3 * scores, axis=1)
    expected = expected_calibration_error(probabilities, labels, bins)
    for outputs in (3 * scores, probabilities):
        data = predictions(outputs, labels)
        assert value_of(calibration_error, data, bins=bins) == pytest.approx(expected, **EXACT)
    # Of scores that are no probabilities softmax makes some, though they are positive.
    assert value_of(calibration_error, predictions(2 * probabilities, labels), bins=bins) > 2 * expected


def test_full_confidence_belongs_into_the_last_bin() -> None:
    """A probability of 1 is counted, and an error of everything is 1."""
    data = predictions(np.eye(3)[[0, 1, 2, 0]], np.array([1, 2, 0, 1]))
    assert value_of(calibration_error, data) == 1.0


# Regression ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes", [((200,), (200, 1)), ((200, 3), (200, 3)), ((200, 1), (200,))])
def test_errors_of_a_regressor_are_those_of_scikit_learn(shapes: tuple[Any, Any]) -> None:
    """Mean absolute error and R2 are scikit-learn's, of one amount or of several."""
    rng = np.random.default_rng(1)
    labels = rng.normal(50, 4, shapes[0])
    outputs = (labels.reshape(200, -1) + rng.standard_t(3, (200, labels.size // 200))).reshape(shapes[1])
    flat = labels.reshape(200, -1), outputs.reshape(200, -1)
    data = predictions(outputs, labels)
    assert value_of(mae, data) == pytest.approx(sklearn.mean_absolute_error(*flat), **EXACT)
    assert value_of(r2, data) == pytest.approx(sklearn.r2_score(*flat), **EXACT)
    root = np.sqrt(sklearn.mean_squared_error(*flat))
    assert samples_of(mae, data).details["root_mean_square"] == pytest.approx(root)


def test_r2_has_no_value_of_labels_that_are_all_the_same() -> None:
    """Labels without variance have none to explain, and a variance that rounding would hide is refused."""
    outputs = np.arange(6.0)
    assert np.isnan(value_of(r2, predictions(outputs, np.full(6, 0.1))))
    with pytest.raises(Unsupported, match="subtract a constant"):
        samples_of(r2, predictions(outputs, 1e6 + 1e-3 * outputs))


# Tokens -------------------------------------------------------------------------------------------


def entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """Return type, first and last token of each entity, by the rules of conlleval, token by token."""
    spans, start, kind = set(), 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        is_new = prefix == "B" or (prefix == "I" and name != kind)
        if kind and (prefix == "O" or is_new):
            spans.add((kind, start, place - 1))
            kind = ""
        if is_new:
            start, kind = place, name
    return spans


def test_f1_of_entities_is_that_of_conlleval() -> None:
    """Micro F1 counts entities with type, first and last token; tokens that are ignored are left out."""
    labels, scores = choices((80, 12), 6, 0.8)
    scores = scores[..., :5]
    labels[np.random.default_rng(3).random(labels.shape) < 0.2] = -100
    hits = answered = labelled = 0
    for row, answers in zip(labels, scores.argmax(axis=2), strict=True):
        ours = entities([TAGS[answer] for answer in answers[row >= 0]])
        theirs = entities([TAGS[label] for label in row[row >= 0]])
        hits, answered, labelled = hits + len(ours & theirs), answered + len(ours), labelled + len(theirs)
    data = predictions(scores, labels, TAGS)
    samples = samples_of(token_f1, data)
    assert samples.values.sum(axis=0).tolist() == [hits, answered, labelled]
    assert 0 < hits < labelled
    assert value_of(token_f1, data) == pytest.approx(2 * hits / (answered + labelled), **EXACT)
    assert samples.details["precision"] == pytest.approx(hits / answered)


def test_entities_end_with_their_item() -> None:
    """An entity at the end of an item does not go on in the next one, and one of another type begins anew."""
    labels = np.array([[0, 1, 2], [2, 0, 1], [1, 1, 4]])
    samples = samples_of(token_f1, predictions(np.eye(5)[labels], labels, TAGS))
    assert samples.values.tolist() == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


def test_f1_of_tokens_is_that_of_scikit_learn() -> None:
    """Where classes name no entities, F1 is the mean over classes of that of the tokens with a label."""
    labels, scores = choices((60, 9), 5, 0.7)
    labels[:, 6:] = -1
    answers = scores.argmax(axis=2)[:, :6].ravel()
    expected = sklearn.f1_score(labels[:, :6].ravel(), answers, average="macro")
    for classes in ((), ("a", "b", "c", "d", "e")):
        assert value_of(token_f1, predictions(scores, labels, classes)) == pytest.approx(expected, **EXACT)


# Segmentation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [False, True])
def test_mean_iou_is_that_of_scikit_learn(chosen: bool) -> None:
    """It is the macro Jaccard score of all pixels with a label, of scores and of classes that were chosen."""
    labels, scores = choices((30, 8, 9), 6, 0.6)
    labels[0], labels[:, 3] = -1, 255
    answers = scores.argmax(axis=3)
    counted = (labels >= 0) & (labels < 255)
    expected = sklearn.jaccard_score(labels[counted], answers[counted], average="macro")
    outputs = answers if chosen else np.moveaxis(scores, 3, 1)
    data = predictions(outputs, labels, tuple("abcdef"))
    assert value_of(mean_iou, data, ignored=255) == pytest.approx(expected, **EXACT)
    right = (labels[counted] == answers[counted]).mean()
    assert samples_of(mean_iou, data, ignored=255).details["pixel_accuracy"] == pytest.approx(right)
    with pytest.raises(QxError, match="labels have a class 255, and there are 6 classes"):
        value_of(mean_iou, data)


# Detection ----------------------------------------------------------------------------------------


def boxes(images: int, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return answers and targets of some images: boxes of three classes, moved, with a few that are wrong."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 80, (images, 5, 2)), rng.uniform(8, 30, (images, 5, 2))
    right = np.concatenate([corner, corner + size], axis=2)
    labels = rng.integers(0, 3, (images, 5))
    labels[rng.random(labels.shape) < 0.3] = -1
    answers = {
        "boxes": (right + rng.normal(0, 2, right.shape)).astype(np.float32),
        "scores": np.round(rng.random((images, 5)), 1).astype(np.float32),
        "labels": np.where(rng.random(labels.shape) < 0.8, labels, 2),
    }
    return answers, {"boxes": right, "labels": labels}


def average_precision(answers: Any, targets: Any, label: int, threshold: float, images: Any) -> float | None:
    """Return COCO's average precision of one class, as its paper has it: greedy, at 101 recalls."""
    total, entries = 0, []
    for image in images:
        theirs = targets["boxes"][image][targets["labels"][image] == label]
        chosen = np.flatnonzero(answers["labels"][image] == label)
        order = chosen[np.argsort(-answers["scores"][image][chosen], kind="stable")]
        taken: set[int] = set()
        total += len(theirs)
        for place in order:
            own = answers["boxes"][image][place].astype(float)
            best, best_overlap = -1, threshold
            for index, box in enumerate(theirs):
                sides = np.minimum(own[2:], box[2:]) - np.maximum(own[:2], box[:2])
                common = np.prod(np.maximum(sides, 0))
                overlap = common / (np.prod(own[2:] - own[:2]) + np.prod(box[2:] - box[:2]) - common)
                if index not in taken and overlap >= best_overlap:
                    best, best_overlap = index, overlap
            taken |= {best} - {-1}
            entries.append((float(answers["scores"][image][place]), best >= 0))
    if not total:
        return None
    hits = np.array([hit for _, hit in sorted(entries, key=lambda entry: -entry[0])], dtype=float)
    recall = hits.cumsum() / total
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[np.minimum(places, len(hits))].mean())


def test_mean_average_precision_is_that_of_coco() -> None:
    """All images, and images that are drawn with repetition, have the mean over classes and thresholds."""
    pytest.importorskip("pycocotools")
    answers, targets = boxes(12)
    data = predictions(answers, targets, ("x", "y", "z"))
    samples = samples_of(mean_average_precision, data)
    for indices in (np.arange(12), np.array([3, 0, 3, 7, 11, 7, 3])):
        thresholds = np.linspace(0.5, 0.95, 10)
        expected = [
            average_precision(answers, targets, label, threshold, sorted(indices))
            for label in range(3)
            for threshold in thresholds
        ]
        value = mean_average_precision.statistic(answers, targets, indices)
        assert value == pytest.approx(np.mean([part for part in expected if part is not None]), **EXACT)
        if len(indices) == 12:
            assert samples.values == value and 0.1 < value < 0.9
            assert samples.details["per_class"]["y"] == pytest.approx(np.mean(expected[10:20]), **EXACT)
            assert samples.details["at_0.5"] == pytest.approx(np.mean(expected[::10]), **EXACT)
    reverse = mean_average_precision.statistic(answers, targets, np.arange(12)[::-1])
    assert reverse == samples.values


def test_images_without_boxes_have_no_average_precision() -> None:
    """Images without right boxes have no value, and a model that answers nothing has 0."""
    pytest.importorskip("pycocotools")
    answers, targets = boxes(4)
    nothing = {**answers, "labels": np.full_like(answers["labels"], -1)}
    assert mean_average_precision.statistic(nothing, targets, np.arange(4)) == 0.0
    empty = {**targets, "labels": np.full_like(targets["labels"], -1)}
    assert mean_average_precision.statistic(answers, empty, np.arange(4)) is None
    assert mean_average_precision.measure(predictions(answers, empty)) is None


# Embedding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "count"), [(recall_at_1, 1), (recall_at_10, 10)])
def test_recall_is_that_of_the_nearest_neighbours(
    metric: ModuleType, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item is a hit where another one with its label is among the nearest, whatever the chunks."""
    rng = np.random.default_rng(5)
    labels = np.append(rng.integers(0, 40, 249), 99)
    vectors = (rng.standard_normal((100, 8))[labels] + 0.9 * rng.standard_normal((250, 8))).astype(np.float32)
    nearness = sklearn.pairwise.cosine_similarity(vectors.astype(float))
    np.fill_diagonal(nearness, -2)
    nearest = np.argsort(-nearness, axis=1)[:, :count]
    expected = (labels[nearest] == labels[:, None]).any(axis=1)
    monkeypatch.setattr("qx_plugins.neighbours.AT_ONCE", 1000)
    samples = samples_of(metric, predictions(vectors, labels))
    assert samples.values.tolist() == expected.tolist()
    assert 0.2 < expected.mean() < 0.95
    assert samples.details == {"items_without_another": int((np.bincount(labels) == 1).sum())}


def test_vectors_that_are_all_the_same_find_nothing() -> None:
    """A model that has collapsed, or gives no numbers, has a recall of 0."""
    labels = np.arange(20) % 2
    for vectors in (np.full((20, 3), 0.1), np.zeros((20, 3)), np.full((20, 3), np.nan)):
        assert value_of(recall_at_1, predictions(vectors, labels)) == 0.0


# What does not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "words"),
    [
        (f1, (5, 3), (5, 2), r"outputs have shape \[5, 3\] and labels \[5, 2\]"),
        (calibration_error, (5, 3, 2), (5,), r"outputs have shape \[5, 3, 2\] and labels \[5\]"),
        (mae, (5, 2), (5, 3), r"outputs have shape \[5, 2\] and labels \[5, 3\]"),
        (r2, (5, 2), (5,), r"outputs have shape \[5, 2\] and labels \[5\]"),
        (token_f1, (5, 4, 3), (5, 6), r"outputs have shape \[5, 4, 3\] and labels \[5, 6\]"),
        (mean_iou, (5, 3, 4, 4), (5, 8, 8), r"outputs have shape \[5, 3, 4, 4\] and labels \[5, 8, 8\]"),
        (recall_at_1, (5, 3, 2), (5,), r"outputs have shape \[5, 3, 2\] and labels \[5\]"),
    ],
)
def test_shapes_that_do_not_fit_are_named(metric: Any, outputs: Any, labels: Any, words: str) -> None:
    """Outputs that do not fit the labels are an error with both shapes."""
    with pytest.raises(QxError, match=words):
        samples_of(metric, predictions(np.zeros(outputs), np.zeros(labels, dtype=int)))


def test_values_that_do_not_fit_are_named() -> None:
    """Labels that are no classes, amounts that are no numbers and outputs without boxes are errors."""
    with pytest.raises(QxError, match="labels are float64; expected classes"):
        samples_of(f1, predictions(np.zeros((4, 3)), np.zeros(4)))
    with pytest.raises(QxError, match="the output of item 2 is not finite"):
        samples_of(mae, predictions(np.array([0, 1, np.nan, np.inf]), np.zeros(4)))
    answers, targets = boxes(3)
    with pytest.raises(QxError, match="outputs are output, without boxes, scores, labels"):
        mean_average_precision.measure(predictions(np.zeros((3, 4)), targets))
    pytest.importorskip("pycocotools")
    with pytest.raises(QxError, match=r"answers have shapes boxes \[3, 4, 4\], scores \[3, 5\]"):
        mean_average_precision.measure(predictions({**answers, "boxes": answers["boxes"][:, :4]}, targets))


@pytest.mark.parametrize(
    "metric", [f1, calibration_error, mae, r2, token_f1, mean_iou, mean_average_precision, recall_at_1]
)
def test_without_labels_no_metric_of_a_task_applies(metric: Any) -> None:
    """Metrics that judge answers by labels give None where there are none."""
    arguments = [predictions(np.zeros((3, 4)), {}), Context(options={"bins": 15, "ignored": -1})]
    assert metric.measure(*arguments[: metric.measure.__code__.co_argcount]) is None


@pytest.mark.parametrize(
    "metric",
    [
        *(f1, calibration_error, mae, r2, token_f1, mean_iou, mean_average_precision),
        *(recall_at_1, recall_at_10),
    ],
)
def test_each_task_has_one_axis_of_quality(metric: Any) -> None:
    """A metric of a task is an axis of the front, or it is measured only on request."""
    record = metric.describe()
    assert record.axis is not record.on_request
    assert record.quality == (2 if record.axis else 0)
    assert record.margin > 0 and len(record.tasks) == 1
