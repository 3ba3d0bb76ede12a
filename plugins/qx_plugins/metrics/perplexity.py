"""Perplexity of a text: how many tokens the next one is chosen from, as it appears to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Metric, Predictions, QxError, Samples, hookimpl
from qx_plugins.language_outputs import BYTES, COUNTED, LOG_LIKELIHOODS, TASK

if TYPE_CHECKING:
    import numpy as np

#: Negative log-likelihood of a token that the model gives no finite one: the probability of 0 in fp32.
LARGEST_LOSS = 104.0


@hookimpl
def describe() -> Metric:
    return Metric(
        name="perplexity",
        summary="Perplexity of the text for each token: exp of its mean negative log-likelihood.",
        unit="tokens",
        better="lower",
        samples="per_set",
        compare="ratio",
        phase="predictions",
        margin=0.005,
        axis=True,
        quality=2,
        tasks=(TASK,),
        pick="the lowest perplexity",
    )


@hookimpl
def measure(data: Predictions) -> Samples | None:
    """Return the negative log-likelihood of each item's tokens and their number, ``[n, 2]``.

    The details have the number of tokens, and, where the data say how many bytes these have, the bits for
    each byte, which models with different tokenizers can be compared by. None where the data do not say which
    tokens count.
    """
    import numpy as np

    if COUNTED not in data.targets:
        return None
    if LOG_LIKELIHOODS not in data.outputs:
        raise QxError(
            f"the outputs are {', '.join(data.outputs)}; expected {LOG_LIKELIHOODS!r}, the natural logarithm "
            f"of the probability of the token after each, [items, length]"
        )
    counted, likelihoods = np.asarray(data.targets[COUNTED], dtype=bool), data.outputs[LOG_LIKELIHOODS]
    if likelihoods.shape != counted.shape:
        raise QxError(
            f"{LOG_LIKELIHOODS} have shape {list(likelihoods.shape)}, and the tokens that count have "
            f"{list(counted.shape)}"
        )
    losses = np.nan_to_num(-likelihoods.astype(float), nan=LARGEST_LOSS, posinf=LARGEST_LOSS)
    sums = np.where(counted, losses.clip(0, LARGEST_LOSS), 0.0).sum(axis=1)
    numbers = counted.sum(axis=1)
    details: dict[str, float] = {"tokens": int(numbers.sum())}
    if BYTES in data.targets:
        details["bits_per_byte"] = float(sums.sum() / np.log(2) / max(1, data.targets[BYTES].sum()))
    return Samples(np.stack([sums, numbers], axis=1), details=details)


@hookimpl
def combine(statistics: np.ndarray) -> np.ndarray:
    import numpy as np

    losses, numbers = np.moveaxis(np.asarray(statistics, dtype=float), -1, 0)
    means = np.divide(losses, numbers, out=np.full(np.shape(losses), np.nan), where=numbers > 0)
    return np.asarray(np.exp(means))
