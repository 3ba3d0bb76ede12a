"""Mean average precision of a detector, as COCO defines it, by pycocotools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Metric, Predictions, Samples, hookimpl
from qx_plugins import detections

if TYPE_CHECKING:
    import numpy as np

    from qx import Arrays


@hookimpl
def describe() -> Metric:
    return Metric(
        name="mean_average_precision",
        summary="COCO's mean average precision: over classes and intersections over union of 0.5 to 0.95.",
        unit="fraction",
        better="higher",
        samples="per_set",
        compare="difference",
        phase="predictions",
        margin=0.005,
        axis=True,
        quality=2,
        tasks=("detection",),
        requires=("pycocotools>=2.0.8",),
        extra="detection",
        pick="the best mean average precision",
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    """Return the value of all images; the details have it by class, and at intersections of 0.5 and 0.75."""
    import numpy as np

    if not detections.applies(data.outputs, data.targets):
        return None
    evaluated = _evaluated(data.outputs, data.targets)
    precisions = evaluated.over(np.arange(len(data.targets["labels"])))
    value = precisions.mean()
    if value is None:
        return None
    names = data.classes
    per_class = {
        names[label] if label < len(names) else str(label): precisions.mean(column=column)
        for column, label in enumerate(precisions.classes)
    }
    details = {"at_0.5": precisions.mean(0), "at_0.75": precisions.mean(5), "per_class": per_class}
    return Samples(value, details=details)


@hookimpl
def statistic(outputs: Arrays, targets: Arrays, indices: np.ndarray) -> float | None:
    if not detections.applies(outputs, targets):
        return None
    return _evaluated(outputs, targets).over(indices).mean()


#: The boxes that were evaluated last: the statistic is asked of the same arrays thousands of times.
_last: list[detections.Detections] = []


def _evaluated(outputs: Arrays, targets: Arrays) -> detections.Detections:
    if not _last or not _last[0].is_of(outputs, targets):
        _last[:] = [detections.Detections(outputs, targets)]
    return _last[0]
