"""F1 of a classifier: the harmonic mean of precision and recall, averaged over classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Metric, Predictions, Samples, hookimpl
from qx.testing import Conformance
from qx_plugins import class_answers

if TYPE_CHECKING:
    import numpy as np

conformance = Conformance(worse="qx.testing.worse:NOISY")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="f1",
        summary="Macro F1: the mean over classes of the harmonic mean of precision and recall.",
        unit="fraction",
        better="higher",
        samples="per_set",
        compare="difference",
        phase="predictions",
        margin=0.005,
        on_request=True,
        tasks=("classification",),
        pick="the best F1",
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    """Return for each item and class whether it is a right answer, an answer, and a label, ``[n, 3 k]``."""
    answers = class_answers.class_answers(data, axis=-1, metric="f1")
    if answers is None:
        return None
    counts = answers.counts()
    per_class = class_answers.by_class(class_answers.f1(counts.mean(axis=0)), data.classes)
    return Samples(counts, details={"per_class": per_class})


@hookimpl
def combine(statistics: np.ndarray) -> np.ndarray:
    return class_answers.mean_of_numbers(class_answers.f1(statistics))
