"""Mean intersection over union of a segmenter, over all pixels of all items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Context, Metric, Option, Predictions, Samples, hookimpl
from qx_plugins import class_answers

if TYPE_CHECKING:
    import numpy as np


@hookimpl
def describe() -> Metric:
    return Metric(
        name="mean_iou",
        summary="Mean over classes of intersection over union, of all pixels of all items together.",
        unit="fraction",
        better="higher",
        samples="per_set",
        compare="difference",
        phase="predictions",
        margin=0.005,
        axis=True,
        quality=2,
        tasks=("segmentation",),
        pick="the best mean IoU",
        options=(
            Option(
                name="ignored",
                default=-1,
                help="A label whose pixels do not count, such as 255; those below 0 never do.",
            ),
        ),
    )


@hookimpl
def measure(data: Predictions, context: Context) -> Samples | None:
    """Return for each item and class the pixels that are right, answers, and labels, ``[n, 3 k]``."""
    ignored = int(context.options["ignored"])
    answers = class_answers.class_answers(data, axis=1, metric="mean_iou", ignored=ignored)
    if answers is None:
        return None
    counts = answers.counts()
    means = counts.mean(axis=0)
    per_class = class_answers.by_class(class_answers.intersection_over_union(means), data.classes)
    right = means[: answers.classes].sum() / max(means[2 * answers.classes :].sum(), 1e-300)
    return Samples(counts, details={"per_class": per_class, "pixel_accuracy": float(right)})


@hookimpl
def combine(statistics: np.ndarray) -> np.ndarray:
    return class_answers.mean_of_numbers(class_answers.intersection_over_union(statistics))
