"""Milliseconds for each further token of a decoder with a cache, by the length of the context."""

from __future__ import annotations

from qx import Metric, Recorded, Samples, hookimpl
from qx_plugins.decoder_times import from_latency
from qx_plugins.language_outputs import DECODE, TASK


@hookimpl
def describe() -> Metric:
    return Metric(
        name="decode_latency",
        summary="Milliseconds for a further token, with all tokens before it in the cache.",
        unit="ms",
        better="lower",
        samples="per_block",
        compare="speedup",
        phase="derived",
        derived_from=("latency",),
        margin=0.02,
        per_point=True,
        calls=(DECODE,),
        axis=True,
        pick="the least time for a token",
        tasks=(TASK,),
    )


@hookimpl
def measure(data: Recorded) -> Samples | None:
    return from_latency(data, lambda milliseconds: milliseconds)
