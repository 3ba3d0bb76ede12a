"""How far quantization moves the outputs, in decibels below what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Context, Metric, Option, Recorded, Samples, Unsupported, hookimpl
from qx.testing import Conformance
from qx_plugins.paired_outputs import OutputPair, output_pairs

if TYPE_CHECKING:
    import numpy as np

conformance = Conformance(worse="qx.testing.worse:NOISY")

#: Decibels of one bit: the ratio of two amplitudes, of which one is twice the other.
DB_PER_BIT = 6.020599913279624


@hookimpl
def describe() -> Metric:
    return Metric(
        name="sqnr",
        summary="Signal-to-quantization-noise ratio of the outputs against the baseline's, of the output "
        "with the least.",
        unit="dB",
        better="higher",
        samples="per_item",
        compare="difference",
        phase="derived",
        derived_from=("outputs",),
        margin=0.5,
        axis=True,
        quality=1,
        options=(
            Option(
                name="output",
                default="",
                help="The output to judge by; empty: of all that are not whole numbers that with the least.",
            ),
        ),
    )


@hookimpl
def measure(data: Recorded, context: Context) -> Samples | None:
    """Return for each item what it contributes to the ratio of all items, whose mean is that ratio.

    The details hold the ratio of each output, which output has the least, and the largest ratio that there
    can be.
    """
    pairs = output_pairs(data, context.options["output"])
    if not pairs:
        return None
    by_output = {name: _contributions(name, pair) for name, pair in pairs.items()}
    ratios = {name: float(values.mean()) for name, values in by_output.items()}
    lowest = min(ratios, key=lambda name: ratios[name])
    details = {"output": lowest, "at_most": most_db(pairs[lowest].baseline.dtype), "outputs": ratios}
    return Samples(by_output[lowest], details=details)


def most_db(dtype: np.dtype) -> float:
    """Return the ratio that outputs of a type can show, in dB: one bit of it in the root mean square."""
    import numpy as np

    bits = np.finfo(dtype).nmant + 1 if dtype.kind == "f" else 8 * dtype.itemsize
    return DB_PER_BIT * bits


def contributions(signal: np.ndarray, noise: np.ndarray, most: float) -> np.ndarray:
    """Return what each item contributes to the ratio of all, in dB, ``[n]``; its mean is that ratio.

    The ratio is 10 log10(sum of signal / sum of noise). A contribution is the ratio and n - 1 times what the
    ratio loses where the item is left out (pseudo-values of the jackknife: Tukey, 1958), less their mean. So
    Student's t over the contributions, or over their differences in two cells, is the jackknife's interval of
    the ratio, or of the difference.

    ``signal`` and ``noise`` are the sums of squares of the items, ``[n]``. Noise from which more than
    ``most`` dB would follow counts as the same in every item, and infinite noise as that of minus ``most``
    dB.
    """
    import numpy as np

    mean = signal.mean()
    noise = np.minimum(noise, mean * 10 ** (most / 10))
    if noise.mean() < (least := mean * 10 ** (-most / 10)):
        noise = np.full_like(noise, least)
    ratio = 10 * np.log10(mean / noise.mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        # Sums without an item may be 0, or just below by rounding.
        others = np.maximum(signal.sum() - signal, 0) / np.maximum(noise.sum() - noise, 0)
        without = np.nan_to_num(10 * np.log10(others), nan=ratio, posinf=most, neginf=-most)
    moved: np.ndarray = (len(signal) - 1) * (ratio - without)
    return np.asarray(ratio + moved - moved.mean())


def _contributions(name: str, pair: OutputPair) -> np.ndarray:
    import numpy as np

    from qx import signal_and_noise

    signal, noise = signal_and_noise(pair.baseline if pair.ours is None else pair.ours, pair.baseline)
    if pair.ours is None:
        # An output that is missing, or of another shape, is as wrong as one that is not a number.
        noise = np.full_like(noise, np.inf)
    if not 0 < signal.sum() < np.inf:
        what = (
            "no finite number but zeros"
            if signal.sum() == 0
            else "numbers whose squares are too large to add"
        )
        raise Unsupported(f"the baseline's output {name!r} has {what}, so there is no ratio to it")
    return contributions(signal, noise, most_db(pair.baseline.dtype))
