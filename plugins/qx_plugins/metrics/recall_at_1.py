"""The share of items of which the nearest other item has the same label, by the cosine of their vectors."""

from __future__ import annotations

from qx import Metric, Predictions, Samples, hookimpl
from qx_plugins.neighbours import recall


@hookimpl
def describe() -> Metric:
    return Metric(
        name="recall_at_1",
        summary="Share of items of which the nearest other item has the same label, by cosine.",
        unit="fraction",
        better="higher",
        samples="per_item",
        compare="difference",
        phase="predictions",
        margin=0.005,
        axis=True,
        quality=2,
        tasks=("embedding",),
        pick="the best recall",
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    return recall(data, 1, "recall_at_1")
