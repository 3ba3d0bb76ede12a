"""The share of inputs on which the prediction is the baseline's, right or wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Metric, Recorded, Samples, Unsupported, hookimpl
from qx.testing import Conformance
from qx_plugins.arrays import first_output
from qx_plugins.class_answers import highest

if TYPE_CHECKING:
    import numpy as np

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

    A prediction is the class with the highest score, or the class itself where the workload's ``postprocess``
    has chosen it. Raises ``Unsupported`` where the answers are neither.

    The details hold the signal-to-quantization-noise ratio of all logits together, in decibels. It is None
    where there is no noise, and where it is not finite.
    """
    import numpy as np

    from qx import signal_and_noise

    if data.outputs is None or data.baseline_outputs is None:
        return None
    ours, theirs = (
        _choices(first_output(answers))
        for answers in (data.answers or data.outputs, data.baseline_answers or data.baseline_outputs)
    )
    same = ours == theirs
    outputs, baseline = first_output(data.outputs), first_output(data.baseline_outputs)
    signal, noise = (float(squares.sum()) for squares in signal_and_noise(outputs, baseline))
    is_finite = signal > 0 and 0 < noise < np.inf
    decibels = 10 * float(np.log10(signal / noise)) if is_finite else None
    return Samples(same.astype(float), details={"sqnr_db": decibels})


def _choices(answers: np.ndarray) -> np.ndarray:
    """Return the class of each item ``[n]``."""
    if answers.ndim == 2:
        return highest(answers, 1)
    if answers.ndim == 1 and answers.dtype.kind in "iub":
        return answers
    raise Unsupported(
        f"the answers have shape {list(answers.shape)} and type {answers.dtype}; expected scores "
        f"[items, classes], or classes [items] as whole numbers"
    )
