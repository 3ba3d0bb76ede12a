"""The memory of a process that has answered within its longest context, weights and cache by themselves."""

from __future__ import annotations

from typing import Any

from qx import Fresh, Metric, Samples, Subject, Unsupported, hookimpl
from qx_plugins.language_outputs import DECODE, PREFILL, TASK

#: Calls of each kind before memory is read.
CALLS = 5
MIB = 2**20


@hookimpl
def describe() -> Metric:
    return Metric(
        name="context_memory",
        summary="MiB: the resident memory of a process that decodes within the run's longest context.",
        unit="MiB",
        better="lower",
        samples="per_launch",
        compare="ratio",
        phase="fresh",
        margin=0.02,
        tasks=(TASK,),
    )


@hookimpl
def measure(subject: Subject, data: Fresh) -> Samples:
    """Return the resident memory after prompts and single tokens at the point with the most tokens.

    The details say how many bytes the cache has there, in MiB, and how much memory grew while the artifact
    was loaded, which is that of its weights and what is made of them. Raises ``Unsupported`` for a subject
    without a cache.
    """
    decoder: Any = subject
    kinds = getattr(decoder, "kinds", {})
    if not {PREFILL, DECODE} <= set(kinds):
        raise Unsupported("it is served without a cache, so there is no context beside the prompt")
    point = max(data.natives, key=lambda point: (point.length or 0, point.batch_size))
    native = data.natives[point]
    for kind in (PREFILL, DECODE):
        for _ in range(CALLS):
            decoder.reset(native, kind)
            kinds[kind](native)
    cache = getattr(decoder, "cache_bytes", None)
    stages = {mark.stage: mark.rss for mark in data.marks}
    steady = data.mark("context").rss
    details = {
        "point": str(point),
        "cache": None if cache is None else cache / MIB,
        "weights": stages["load"] - stages["imports"],
    }
    return Samples(steady, details=details)
