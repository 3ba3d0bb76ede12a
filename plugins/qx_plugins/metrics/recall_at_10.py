"""The share of items of which one of the ten nearest others has the same label, by the cosine of vectors."""

from __future__ import annotations

from qx import Metric, Predictions, Samples, hookimpl
from qx_plugins.neighbours import recall


@hookimpl
def describe() -> Metric:
    return Metric(
        name="recall_at_10",
        summary="Share of items of which one of the ten nearest other items has the same label, by cosine.",
        unit="fraction",
        better="higher",
        samples="per_item",
        compare="difference",
        phase="predictions",
        margin=0.005,
        on_request=True,
        tasks=("embedding",),
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    return recall(data, 10, "recall_at_10")
