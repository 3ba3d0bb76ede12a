"""Milliseconds until a decoder has read a prompt and gives the first token after it, by prompt length."""

from __future__ import annotations

from qx import Metric, Recorded, Samples, hookimpl
from qx_plugins.decoder_times import from_latency
from qx_plugins.language_outputs import PREFILL, TASK


@hookimpl
def describe() -> Metric:
    return Metric(
        name="time_to_first_token",
        summary="Milliseconds until a prompt is read and the first token after it is there (prefill).",
        unit="ms",
        better="lower",
        samples="per_block",
        compare="speedup",
        phase="derived",
        derived_from=("latency",),
        margin=0.02,
        per_point=True,
        calls=(PREFILL,),
        axis=True,
        pick="the shortest time to the first token",
        tasks=(TASK,),
    )


@hookimpl
def measure(data: Recorded) -> Samples | None:
    return from_latency(data, lambda milliseconds: milliseconds)
