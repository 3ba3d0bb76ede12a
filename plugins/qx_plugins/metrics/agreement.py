"""The share of inputs on which the prediction is the baseline's, right or wrong."""

from __future__ import annotations

from qx import Metric, Recorded, Samples, hookimpl
from qx.testing import Conformance
from qx_plugins.arrays import first_output

conformance = Conformance(worse="qx.testing.worse:NOISY")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="agreement",
        summary="Share of inputs with the baseline's prediction; noise in the logits in its details.",
        unit="fraction",
        better="higher",
        samples="per_item",
        compare="difference",
        phase="derived",
        derived_from=("outputs",),
        margin=0.005,
        tasks=("classification",),
    )


@hookimpl
def measure(data: Recorded) -> Samples | None:
    """Return for each input whether the prediction is the baseline's.

    The details hold the signal-to-quantization-noise ratio of all logits together, in decibels. It is None
    where there is no noise, and where it is not finite.
    """
    import numpy as np

    from qx import signal_and_noise

    if data.outputs is None or data.baseline_outputs is None:
        return None
    outputs, baseline = first_output(data.outputs), first_output(data.baseline_outputs)
    same = outputs.argmax(axis=1) == baseline.argmax(axis=1)
    signal, noise = (float(squares.sum()) for squares in signal_and_noise(outputs, baseline))
    is_finite = signal > 0 and 0 < noise < np.inf
    decibels = 10 * float(np.log10(signal / noise)) if is_finite else None
    return Samples(same.astype(float), details={"sqnr_db": decibels})
