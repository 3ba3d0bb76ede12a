"""F1 of entities, or of single tokens, for models that choose a class for each token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Metric, Predictions, Samples, hookimpl
from qx_plugins import class_answers, entities

if TYPE_CHECKING:
    import numpy as np


@hookimpl
def describe() -> Metric:
    return Metric(
        name="token_f1",
        summary="F1 of entities where classes are named O, B-X and I-X; else the mean over classes of the "
        "F1 of tokens.",
        unit="fraction",
        better="higher",
        samples="per_set",
        compare="difference",
        phase="predictions",
        margin=0.005,
        axis=True,
        quality=2,
        tasks=("token_classification",),
        pick="the best F1",
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    """Return for each item how many entities are right, answered and labelled, ``[n, 3]``.

    Without names of entities these are numbers of tokens, for each class, ``[n, 3 k]``.
    """
    answers = class_answers.class_answers(data, axis=-1, metric="token_f1")
    if answers is None:
        return None
    tags = entities.Tags.of(data.classes) if len(data.classes) == answers.classes else None
    if tags is None:
        counts = answers.counts()
        per_class = class_answers.by_class(class_answers.f1(counts.mean(axis=0)), data.classes)
        return Samples(counts, details={"counted": "tokens", "per_class": per_class})
    counts = entities.counts_of_entities(answers, tags)
    right, answered, labelled = (float(number) for number in counts.sum(axis=0))
    details = {
        "counted": "entities",
        "precision": right / answered if answered else None,
        "recall": right / labelled if labelled else None,
    }
    return Samples(counts, details=details)


@hookimpl
def combine(statistics: np.ndarray) -> np.ndarray:
    return class_answers.mean_of_numbers(class_answers.f1(statistics))
