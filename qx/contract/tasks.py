"""The task of a workload, inferred from its outputs and labels, which decides which metrics apply."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

#: Task of a model that returns a score for each class, where each item belongs to one class.
CLASSIFICATION = "classification"


@frozen(kw_only=True)
class Labels:
    """Shape, type and range of the labels of a split."""

    #: Shape without the first dimension, which is the items.
    shape: tuple[int, ...]
    #: Name of the numpy type, such as ``int64``.
    dtype: str
    #: Smallest and largest label where labels are integers; else None.
    lowest: int | None
    highest: int | None


@frozen(kw_only=True)
class Task:
    """The task of a workload."""

    #: Name of the task; None where it is not known.
    name: str | None
    #: Reason in words why it is not ``CLASSIFICATION``; empty where it is.
    reason: str = ""


def task_of(
    outputs: Sequence[int], labels: Labels | None, classes: Sequence[str], stated: str | None = None
) -> Task:
    """Return the task that the workload states, or infer it from the outputs of an item and the data."""
    if stated not in (None, CLASSIFICATION):
        return Task(name=stated, reason=f"the task is {stated}, and it is for {CLASSIFICATION}")
    without = stated is not None and labels is None
    reason = _why_no_scores(outputs, classes) or (
        "" if without else _why_no_classes(outputs, labels, classes)
    )
    return Task(name=None if reason else CLASSIFICATION, reason=reason)


def _why_no_scores(outputs: Sequence[int], classes: Sequence[str]) -> str:
    if len(outputs) != 1:
        shape = ", ".join(["batch", *map(str, outputs)])
        return f"the model's outputs have shape [{shape}], but scores of classes have shape [batch, classes]"
    if outputs[0] < 2:
        return "the model gives one number for each item, but scores of classes are two or more"
    if classes and len(classes) != outputs[0]:
        return f"the model gives {outputs[0]} outputs and the data have {len(classes)} classes"
    return ""


def _why_no_classes(outputs: Sequence[int], labels: Labels | None, classes: Sequence[str]) -> str:
    if labels is None:
        return (
            ""
            if classes
            else "the data have neither labels nor classes, so outputs may not be scores of classes"
        )
    if labels.shape:
        shape = ", ".join(["items", *map(str, labels.shape)])
        return f"the labels have shape [{shape}], but classes of items have shape [items]"
    if labels.lowest is None or labels.highest is None:
        return f"the labels are {labels.dtype}, but classes are whole numbers"
    if labels.lowest < 0 or labels.highest >= outputs[0]:
        reach = f"from {labels.lowest} to {labels.highest}"
        return f"the labels go {reach}, and the model gives {outputs[0]} outputs"
    return ""
