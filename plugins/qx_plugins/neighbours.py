"""Whether vectors of items that belong together lie near each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, QxError, Samples
from qx_plugins.arrays import first_output

if TYPE_CHECKING:
    import numpy as np

    from qx import Predictions

#: Number of similarities that are computed at a time, so that memory stays at some tens of MiB.
AT_ONCE = 1 << 22
#: How much less similar an item counts as equally near: products of the same vectors are rounded differently.
TOLERANCE = 1e-12


def recall(data: Predictions, count: int, metric: str) -> Samples | None:
    """Return for each item whether another one with its label is among the ``count`` nearest, ``[n]``.

    None without labels. The details say how many items have a label that no other has; they count as missed.
    """
    import numpy as np

    if LABELS not in data.targets:
        return None
    labels, vectors = np.asarray(data.targets[LABELS]), first_output(data.outputs)
    if vectors.ndim != 2 or labels.shape != vectors.shape[:1]:
        raise QxError(
            f"{metric}: outputs have shape {list(vectors.shape)} and labels {list(labels.shape)}; expected a "
            f"vector for each item, [n, k], and [n]"
        )
    ranks = ranks_of_own(vectors, labels)
    alone = int((np.unique(labels, return_counts=True)[1] == 1).sum())
    return Samples((ranks < count).astype(float), details={"items_without_another": alone})


def ranks_of_own(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the items of other labels that are at least as near to an item as the nearest of its own label.

    Nearness is the cosine. Of vectors that are equally near those of other labels come first, so that vectors
    which are all the same find nothing. A vector that is not finite is near to none.

    Parameters
    ----------
    vectors : array, shape [n, k]
        A vector for each item.
    labels : array, shape [n]
        Items of one label belong together.

    Returns
    -------
    array of float, shape [n]
        Infinite where no other item has the label.
    """
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        units = vectors.astype(float)
        lengths = np.linalg.norm(units, axis=1, keepdims=True)
        units = np.divide(
            units, lengths, out=np.zeros_like(units), where=np.isfinite(lengths) & (lengths > 0)
        )
    ranks = np.empty(len(units))
    step = max(1, AT_ONCE // len(units))
    for start in range(0, len(units), step):
        part = slice(start, start + step)
        nearness = units[part] @ units.T
        is_own = labels[part, None] == labels
        is_itself = np.zeros_like(is_own)
        is_itself[np.arange(len(nearness)), np.arange(start, start + len(nearness))] = True
        nearest = np.where(is_own & ~is_itself, nearness, -np.inf).max(axis=1)
        nearer = (nearness >= nearest[:, None] - TOLERANCE) & ~is_own
        ranks[part] = np.where(np.isinf(nearest), np.inf, nearer.sum(axis=1))
    return ranks
