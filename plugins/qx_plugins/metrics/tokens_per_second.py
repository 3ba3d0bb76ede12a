"""Tokens that a decoder gives in a second, of all items of a batch together, by the length of the context."""

from __future__ import annotations

from qx import Metric, Recorded, Samples, hookimpl
from qx_plugins.decoder_times import from_latency
from qx_plugins.language_outputs import DECODE, TASK


@hookimpl
def describe() -> Metric:
    return Metric(
        name="tokens_per_second",
        summary="Tokens a second after the first, of all items of a batch, from the samples of latency.",
        unit="tokens/s",
        better="higher",
        samples="per_block",
        compare="ratio",
        phase="derived",
        derived_from=("latency",),
        margin=0.02,
        per_point=True,
        calls=(DECODE,),
        tasks=(TASK,),
    )


@hookimpl
def measure(data: Recorded) -> Samples | None:
    assert data.point is not None
    batch_size = data.point.batch_size
    return from_latency(data, lambda milliseconds: 1000.0 * batch_size / milliseconds)
