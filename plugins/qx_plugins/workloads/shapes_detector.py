"""Discs, squares and triangles in noise, found by a detector with one head for all places: generated.

The detector gives raw numbers for each place of a grid: a score for each class, and distances to the edges of
a box. ``postprocess`` makes boxes of them, and leaves out those that overlap better ones of their class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Unsupported, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch

#: Side of a picture, and between two places of the grid, in pixels.
SIDE, STRIDE = 48, 4
#: Number of pictures, and the seed that they are drawn with, by split.
PICTURES = {"train": (6_000, 8), "test": (1_000, 9)}
#: Names of the outputs and of the arrays that ``postprocess`` makes of them.
SCORES, DISTANCES, BOXES = "scores", "distances", "boxes"
#: Least score of an answer, best-scored places that are looked at, and answers at most for a picture.
LEAST_SCORE, CANDIDATES, ANSWERS = 0.05, 64, 12
#: Largest overlap of two answers of one class, as intersection over union.
MOST_OVERLAP = 0.5
#: What stands where there are fewer answers than ``ANSWERS``.
NONE = -1


@hookimpl
def describe() -> Workload:
    return Workload(
        name="shapes_detector",
        summary="A detector of 53,159 parameters on 1,000 generated pictures of shapes, 48x48 pixels.",
        weights="qx_weights:shapes_detector.pt",
        options=(
            Option(name="epochs", default=6, help="Passes over the training pictures, for `qx train`."),
        ),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.datasets.drawn_shapes import KINDS
    from qx_plugins.networks.place_detector import PlaceDetector

    if context.quantizable:
        raise Unsupported(
            "PlaceDetector has no form with quantize and dequantize stubs: eager mode has no 8-bit SiLU "
            "(stem.2, SiLU)"
        )
    return PlaceDetector(channels=3, num_classes=len(KINDS))


@hookimpl
def load_data(split: str, context: Context) -> Data:
    from qx_plugins.datasets.drawn_shapes import KINDS, load_pictures

    count, seed = PICTURES[split]
    return load_pictures(
        count,
        SIDE,
        seed,
        lambda pictures: {BOXES: pictures.boxes, LABELS: pictures.kinds},
        classes=KINDS,
        task="detection",
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    from qx_plugins.datasets.drawn_shapes import random_pictures

    return (random_pictures(batch_size, SIDE, context.seed),)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from qx_plugins.networks.place_detector import detection_loss
    from qx_plugins.networks.training import train_by_adamw

    return train_by_adamw(
        model,
        load_data("train", context),
        lambda outputs, targets: detection_loss(
            outputs[SCORES], outputs[DISTANCES], targets[BOXES], targets[LABELS], STRIDE
        ),
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
        learning_rate=5e-3,
        batch_size=32,
    )


@hookimpl
def postprocess(outputs: Mapping[str, np.ndarray], context: Context) -> dict[str, np.ndarray]:
    """Return boxes ``[n, ANSWERS, 4]``, scores and labels ``[n, ANSWERS]``, best first, filled up with -1.

    ``outputs`` are ``scores`` ``[n, classes, rows, columns]``, before a sigmoid, and ``distances``
    ``[n, 4, rows, columns]`` from a place to the left, upper, right and lower edge, in strides.
    """
    import numpy as np

    scores, labels, boxes = _best_candidates(outputs[SCORES], decode_boxes(outputs[DISTANCES]))
    is_kept = (scores >= LEAST_SCORE) & ~suppressed(boxes, labels)
    # The order is that of the scores: a stable sort moves what is kept to the front.
    order = np.argsort(~is_kept, axis=1, kind="stable")[:, :ANSWERS]
    is_kept = np.take_along_axis(is_kept, order, axis=1)
    return {
        BOXES: np.where(
            is_kept[:, :, np.newaxis], np.take_along_axis(boxes, order[:, :, np.newaxis], axis=1), NONE
        ),
        SCORES: np.where(is_kept, np.take_along_axis(scores, order, axis=1), NONE),
        LABELS: np.where(is_kept, np.take_along_axis(labels, order, axis=1), NONE),
    }


def decode_boxes(distances: np.ndarray) -> np.ndarray:
    """Return a box ``[n, places, 4]`` (left, top, right, bottom; pixels) for each place of the grid."""
    import numpy as np

    down, across = (STRIDE * (np.indices(distances.shape[2:], dtype=np.float32) + 0.5)).reshape(2, -1)
    left, up, right, below = STRIDE * distances.reshape(len(distances), 4, -1).transpose(1, 0, 2)
    boxes = np.stack([across - left, down - up, across + right, down + below], axis=-1)
    return boxes.clip(0, SIDE).astype(np.float32)


def _best_candidates(logits: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores ``[n, CANDIDATES]``, labels and boxes ``[n, CANDIDATES, 4]`` of the best places."""
    import numpy as np

    flat = logits.reshape(len(logits), -1).astype(np.float32)
    # Outputs that are no numbers score lowest.
    flat = np.nan_to_num(flat, nan=-np.inf)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :CANDIDATES]
    labels, places = np.divmod(order, boxes.shape[1])
    best = np.take_along_axis(flat, order, axis=1).clip(-80, 80)
    chosen = np.take_along_axis(np.nan_to_num(boxes), places[:, :, np.newaxis], axis=1)
    return 1 / (1 + np.exp(-best)), labels.astype(np.int64), chosen


def suppressed(boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which boxes overlap a better one of their class that is not suppressed itself, ``[n, k]``.

    ``boxes`` ``[n, k, 4]`` and ``labels`` ``[n, k]`` come in the order of their scores, best first.
    """
    import numpy as np

    corners = np.stack(
        [
            np.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2]),
            np.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:]),
        ]
    )
    shared = (corners[1] - corners[0]).clip(0).prod(axis=-1)
    areas = (boxes[:, :, 2:] - boxes[:, :, :2]).clip(0).prod(axis=-1)
    union = areas[:, :, None] + areas[:, None, :] - shared
    overlaps = (shared > MOST_OVERLAP * union) & (labels[:, :, None] == labels[:, None, :])
    is_suppressed = np.zeros(labels.shape, dtype=bool)
    for place in range(labels.shape[1] - 1):
        others = overlaps[:, place, place + 1 :] & ~is_suppressed[:, place, None]
        is_suppressed[:, place + 1 :] |= others
    return is_suppressed
