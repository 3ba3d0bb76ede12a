"""Answers of models that choose a class for each item, token or pixel, and how often each class is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from qx import LABELS, QxError
from qx_plugins.arrays import first_output

if TYPE_CHECKING:
    import numpy as np

    from qx import Predictions

#: Number of scores that are looked at at a time, so that memory stays at some tens of MiB.
AT_ONCE = 1 << 22


@frozen(eq=False)
class ClassAnswers:
    """Classes that a model chose, beside the right ones; arrays ``[n, positions]`` of whole numbers."""

    answers: np.ndarray
    labels: np.ndarray
    #: Whether a position counts, ``[n, positions]``: its label is none that is to be ignored.
    counted: np.ndarray
    #: Number of classes.
    classes: int

    def counts(self) -> np.ndarray:
        """Count for each item and class the right answers, the answers and the labels, ``[n, 3 classes]``.

        The first third of a row are right answers of each class, the second answers, the last labels.
        """
        import numpy as np

        items, positions = self.labels.shape
        counts = np.empty((items, 3, self.classes), dtype=np.min_scalar_type(positions))
        step = max(1, AT_ONCE // max(1, positions))
        for start in range(0, items, step):
            part = slice(start, start + step)
            answers, labels, counted = self.answers[part], self.labels[part], self.counted[part]
            kinds = (labels, counted & (answers == labels)), (answers, counted), (labels, counted)
            for kind, (classes, chosen) in enumerate(kinds):
                counts[part, kind] = _count(classes, chosen, self.classes)
        return counts.reshape(items, 3 * self.classes)


def class_answers(data: Predictions, *, axis: int, metric: str, ignored: int = -1) -> ClassAnswers | None:
    """Return the class of the highest score over ``axis`` of the first output, beside the labels.

    ``axis`` is 1 or -1. An output of the labels' shape has chosen the classes already. Labels below 0 and
    those that are ``ignored`` do not count. None without labels.

    Raises
    ------
    QxError
        Outputs and labels do not fit; the line has both shapes.
    """
    import numpy as np

    if LABELS not in data.targets:
        return None
    labels, outputs = np.asarray(data.targets[LABELS]), first_output(data.outputs)
    shapes = f"outputs have shape {list(outputs.shape)} and labels {list(labels.shape)}"
    if labels.dtype.kind not in "iub":
        raise QxError(f"{metric}: labels are {labels.dtype}; expected classes, which are whole numbers")
    if outputs.ndim == labels.ndim + 1 and _without(outputs.shape, axis) == labels.shape:
        classes, chosen = outputs.shape[axis], highest(outputs, axis)
    elif outputs.shape == labels.shape and outputs.dtype.kind in "iub":
        if not data.classes:
            raise QxError(f"{metric}: outputs are classes, of which the data do not say how many there are")
        classes, chosen = len(data.classes), outputs
    else:
        where = "the last dimension" if axis == -1 else "dimension 1"
        raise QxError(f"{metric}: {shapes}; expected the labels' shape and scores of classes along {where}")
    counted = (labels >= 0) & (labels != ignored)
    for what, values in (("labels", labels), ("outputs", chosen)):
        counting = values[counted]
        if counting.size and not 0 <= counting.min() <= counting.max() < classes:
            wrong = counting.min() if counting.min() < 0 else counting.max()
            raise QxError(f"{metric}: {shapes}: {what} have a class {wrong}, and there are {classes} classes")
    items = len(labels)
    chosen, labels, counted = (array.reshape(items, -1) for array in (chosen, labels, counted))
    return ClassAnswers(chosen, labels, counted, classes)


def f1(statistics: np.ndarray) -> np.ndarray:
    """Return the F1 of each class from means of ``ClassAnswers.counts``: ``[..., 3 k]`` gives ``[..., k]``.

    NaN for a class that neither is a label nor an answer.
    """
    hits, answers, labels = _thirds(statistics)
    return _quotient(2 * hits, answers + labels)


def intersection_over_union(statistics: np.ndarray) -> np.ndarray:
    """Return right answers over all that are answers or labels, for each class, as ``f1`` does."""
    hits, answers, labels = _thirds(statistics)
    return _quotient(hits, answers + labels - hits)


def mean_of_numbers(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of all that are numbers; NaN where none is."""
    import numpy as np

    are_numbers = ~np.isnan(values)
    return _quotient(np.where(are_numbers, values, 0.0).sum(axis=-1), are_numbers.sum(axis=-1))


def by_class(values: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """Return the values of classes ``[k]`` by name, without those that are no numbers."""
    import math

    names = classes if len(classes) == len(values) else [str(index) for index in range(len(values))]
    return {name: float(value) for name, value in zip(names, values, strict=True) if not math.isnan(value)}


def _thirds(statistics: np.ndarray) -> list[np.ndarray]:
    import numpy as np

    return np.split(np.asarray(statistics, dtype=float), 3, axis=-1)


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    rest = list(shape)
    del rest[axis]
    return tuple(rest)


def highest(scores: np.ndarray, axis: int) -> np.ndarray:
    """Return the class of the highest score, of equal ones the first."""
    import numpy as np

    answers = np.empty(_without(scores.shape, axis), dtype=np.int32)
    step = max(1, AT_ONCE * len(scores) // max(1, scores.size))
    for start in range(0, len(scores), step):
        answers[start : start + step] = scores[start : start + step].argmax(axis=axis)
    return answers


def _count(classes: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    """Count the chosen positions of each item by class, ``[items, count]``."""
    import numpy as np

    rows = np.arange(len(classes))[:, None] * count
    places = (classes + rows)[chosen]
    return np.bincount(places, minlength=len(classes) * count).reshape(len(classes), count)
