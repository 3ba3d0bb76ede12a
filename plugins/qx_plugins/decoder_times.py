"""Times of the two kinds of call of a decoder, from the samples of ``latency``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Figure, Samples

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from qx import Recorded


def from_latency(data: Recorded, convert: Callable[[np.ndarray], np.ndarray]) -> Samples | None:
    """Return what ``convert`` makes of the milliseconds of each call, with its wave and round.

    So the result is compared like latency. None where latency was not measured at the point.
    """
    latency = Figure("latency", data.point)
    if data.point is None or latency not in data.samples:
        return None
    return Samples(convert(data.samples[latency]), waves=data.waves[latency], rounds=data.rounds[latency])
