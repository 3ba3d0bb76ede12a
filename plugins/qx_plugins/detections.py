"""Boxes in pairs with the right ones, by pycocotools: evaluated once, and averaged over any images."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qx import QxError

if TYPE_CHECKING:
    import numpy as np

    from qx import Arrays

#: Names of the right boxes, and of a model's answers.
TARGETS, ANSWERS = ("boxes", "labels"), ("boxes", "scores", "labels")
#: Number of boxes of an image that count, those with the highest scores: COCO's.
MOST_BOXES = 100
#: The range of areas that is all of them.
ALL_AREAS = (0.0, 1e30)


@frozen(eq=False)
class Precisions:
    """Precision of the boxes of some images."""

    #: Precision at each threshold of intersection over union, recall and class; -1 without boxes of a class.
    values: np.ndarray
    #: Class of each column of the last axis.
    classes: tuple[int, ...]

    def mean(self, threshold: int | slice = slice(None), column: int | slice = slice(None)) -> float | None:
        """Return the mean over thresholds, recalls and classes; None without any right box.

        ``threshold`` 0 is an intersection over union of 0.5, and 5 one of 0.75.
        """
        chosen = self.values[threshold, ..., column]
        chosen = chosen[chosen > -1]
        return float(chosen.mean()) if chosen.size else None


class Detections:
    """The boxes of a set of images, each held against the right ones."""

    def __init__(self, outputs: Arrays, targets: Arrays) -> None:
        """Hold boxes against the right ones. Raises ``QxError`` where the arrays do not fit."""
        _check(outputs, targets)
        # Kept, so that no other arrays can have their identity.
        self._arrays = _arrays(outputs, targets)
        self._count = len(targets["labels"])
        self._coco = _evaluate(outputs, targets, self._count)

    def is_of(self, outputs: Arrays, targets: Arrays) -> bool:
        """Return whether these are the arrays that were evaluated."""
        arrays = _arrays(outputs, targets)
        return all(ours is theirs for ours, theirs in zip(self._arrays, arrays, strict=True))

    def over(self, indices: np.ndarray) -> Precisions:
        """Return the precision over images at these indices, which may repeat."""
        import numpy as np
        from pycocotools.cocoeval import COCOeval

        # Of equal scores the first image's come first: the value must not depend on the order of the images.
        chosen = np.sort(indices).tolist()
        classes = self._coco.params.catIds
        part = COCOeval(iouType="bbox")
        part.params = copy.copy(self._coco.params)
        part.params.imgIds = list(range(len(chosen)))
        part._paramsEval = part.params
        step = self._count
        part.evalImgs = [
            self._coco.evalImgs[number * step + image] for number in range(len(classes)) for image in chosen
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            part.accumulate()
        return Precisions(part.eval["precision"][:, :, :, 0, 0], tuple(classes))


def applies(outputs: Arrays, targets: Arrays) -> bool:
    """Return whether there are right boxes. Raises ``QxError`` where the model's answers are no boxes."""
    if not set(TARGETS) <= targets.keys():
        return False
    if missing := [name for name in ANSWERS if name not in outputs]:
        raise QxError(
            f"mean_average_precision: outputs are {', '.join(outputs)}, without {', '.join(missing)}; "
            f"expected {', '.join(ANSWERS)}, which postprocess may make"
        )
    return True


def _arrays(outputs: Arrays, targets: Arrays) -> list[np.ndarray]:
    return [*(outputs[name] for name in ANSWERS), *(targets[name] for name in TARGETS)]


def _check(outputs: Arrays, targets: Arrays) -> None:
    """Raise ``QxError`` where boxes, scores and labels do not fit each other."""
    for what, arrays, names in (("answers", outputs, ANSWERS), ("targets", targets, TARGETS)):
        shape = arrays["labels"].shape
        expected = {name: (*shape, 4) if name == "boxes" else shape for name in names}
        if len(shape) != 2 or any(arrays[name].shape != expected[name] for name in names):
            shapes = ", ".join(f"{name} {list(arrays[name].shape)}" for name in names)
            raise QxError(
                f"mean_average_precision: {what} have shapes {shapes}; expected boxes [n, m, 4] and "
                f"{' and '.join(names[1:])} [n, m]"
            )
    if len(outputs["labels"]) != len(targets["labels"]):
        raise QxError(
            f"mean_average_precision: answers are of {len(outputs['labels'])} items and targets of "
            f"{len(targets['labels'])}"
        )


def _evaluate(outputs: Arrays, targets: Arrays, count: int) -> Any:
    """Return pycocotools' evaluation of every image and class."""
    import numpy as np
    from pycocotools.cocoeval import COCOeval

    classes = np.unique(targets["labels"])
    classes = classes[classes >= 0].astype(int).tolist()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCOeval(_coco(targets, count, classes), _coco(outputs, count, classes), iouType="bbox")
        coco.params.imgIds, coco.params.catIds = list(range(count)), classes
        coco.params.maxDets, coco.params.areaRng, coco.params.areaRngLbl = [MOST_BOXES], [ALL_AREAS], ["all"]
        coco.evaluate()
    return coco


def _coco(arrays: Arrays, count: int, classes: list[int]) -> Any:
    """Return boxes as pycocotools takes them."""
    from pycocotools.coco import COCO

    annotations: list[dict[str, Any]] = []
    scores = arrays.get("scores")
    for image, labels in enumerate(arrays["labels"].tolist()):
        for place, label in enumerate(labels):
            if label < 0:
                continue
            left, top, right, bottom = (float(edge) for edge in arrays["boxes"][image, place])
            # An identifier of 0 would count as no match.
            box: dict[str, Any] = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label)}
            box |= {"bbox": [left, top, right - left, bottom - top], "iscrowd": 0}
            box["area"] = (right - left) * (bottom - top)
            if scores is not None:
                box["score"] = float(scores[image, place])
            annotations.append(box)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(count)],
        "categories": [{"id": label} for label in classes],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
