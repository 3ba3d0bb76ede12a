"""How often the most probable next token is that of the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Metric, Recorded, Samples, hookimpl
from qx_plugins.class_answers import highest
from qx_plugins.language_outputs import LOGITS, TASK

if TYPE_CHECKING:
    import numpy as np


@hookimpl
def describe() -> Metric:
    return Metric(
        name="top_token_agreement",
        summary="Share of positions at which the most probable next token is the baseline's.",
        unit="fraction",
        better="higher",
        samples="per_set",
        compare="difference",
        phase="derived",
        derived_from=("outputs",),
        margin=0.005,
        by_parts=True,
        tasks=(TASK,),
    )


@hookimpl
def measure(data: Recorded) -> Samples | None:
    """Return for each item how many positions agree, and how many count, ``[n, 2]``.

    None where a model gives no scores of tokens. A position counts where its label is not below 0; without
    labels all do.
    """
    import numpy as np

    if not data.outputs or not data.baseline_outputs or LOGITS not in data.baseline_outputs:
        return None
    theirs = highest(data.baseline_outputs[LOGITS], -1)
    counted = data.targets.get(LABELS, np.zeros(theirs.shape)) >= 0
    ours = data.outputs.get(LOGITS)
    same = np.zeros(theirs.shape, dtype=bool)
    if ours is not None and ours.shape == data.baseline_outputs[LOGITS].shape:
        same = (highest(ours, -1) == theirs) & np.isfinite(ours).all(axis=-1)
    return Samples(np.stack([(same & counted).sum(axis=1), counted.sum(axis=1)], axis=1).astype(float))


@hookimpl
def combine(statistics: np.ndarray) -> np.ndarray:
    import numpy as np

    same, counted = np.moveaxis(np.asarray(statistics, dtype=float), -1, 0)
    return np.asarray(np.divide(same, counted, out=np.full(np.shape(same), np.nan), where=counted > 0))
