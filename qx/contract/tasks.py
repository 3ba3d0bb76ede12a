"""The task of a workload, inferred from its outputs and labels, which decides which metrics apply.

Other tasks (detection, embedding, language modelling) show in no shape, so a workload states them by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

#: Task of a model that returns a score for each class, where each item belongs to one class.
CLASSIFICATION = "classification"
#: Task of a model that returns amounts: as many for each item as its labels have.
REGRESSION = "regression"
#: Task of a model that returns a score for each class of each token: outputs ``[batch, tokens, classes]``.
TOKEN_CLASSIFICATION = "token_classification"  # noqa: S105 (no secret)
#: Task of a model that returns a score for each class of each pixel: outputs ``[batch, classes, height,
#: width]``.
SEGMENTATION = "segmentation"


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
    #: Reason in words why it is not ``CLASSIFICATION``; empty where it is. Where no task is known, that of
    #: outputs and labels.
    reason: str = ""


def task_of(
    outputs: Sequence[int], labels: Labels | None, classes: Sequence[str], stated: str | None = None
) -> Task:
    """Return the task that the workload states, or infer it from the outputs of an item and the data.

    ``outputs`` is the shape of the first output of an item.
    """
    name = stated or (None if labels is None else _task_of_labels(tuple(outputs), labels))
    if name not in (None, CLASSIFICATION):
        return Task(name=name, reason=f"the task is {name}")
    without = stated is not None and labels is None
    reason = _why_no_scores(outputs, classes) or (
        "" if without else _why_no_classes(outputs, labels, classes)
    )
    return Task(name=None if reason else CLASSIFICATION, reason=reason)


def _task_of_labels(outputs: tuple[int, ...], labels: Labels) -> str | None:
    """Return the task that the shapes of outputs and labels show; None where they show none of these."""
    shape = labels.shape
    if labels.lowest is None or labels.highest is None:
        return REGRESSION if shape == outputs or (shape, outputs) == ((), (1,)) else None
    tokens, pixels = len(outputs) == 2 and outputs[:1] == shape, len(outputs) == 3 and outputs[1:] == shape
    classes = outputs[-1] if tokens else outputs[0] if outputs else 0
    if not (tokens or pixels) or labels.highest >= classes:
        return None
    return TOKEN_CLASSIFICATION if tokens else SEGMENTATION


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
