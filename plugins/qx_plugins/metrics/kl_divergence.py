"""How far the distribution over classes is from the baseline's, in nats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Metric, Option, Recorded, Samples, Unsupported, hookimpl
from qx.testing import Conformance
from qx_plugins.distributions import are_probabilities, log_probabilities, smallest
from qx_plugins.paired_outputs import OUTPUT_OPTION, OutputPair, output_pairs, worst_output

if TYPE_CHECKING:
    import numpy as np

conformance = Conformance(worse="qx.testing.worse:NOISY")

#: Number of dimensions of images, of which dimension 1 are the classes; else they are the last.
OF_IMAGES = 4


@hookimpl
def describe() -> Metric:
    return Metric(
        name="kl_divergence",
        summary="Kullback-Leibler divergence of the classes' probabilities from the baseline's, mean over "
        "items, of the output with the most.",
        unit="nats",
        better="lower",
        samples="per_item",
        compare="difference",
        phase="derived",
        derived_from=("outputs",),
        margin=0.01,
        on_request=True,
        tasks=("classification", "token_classification", "segmentation", "language_modelling"),
        options=(Option(**OUTPUT_OPTION),),
    )


@hookimpl
def measure(data: Recorded, context: Context) -> Samples | None:
    """Return the divergence of each item, ``[n]``, the mean over its tokens or pixels.

    Distributions are the first output and all of its shape, unless the option ``output`` names another.
    """
    chosen = str(context.options["output"])
    pairs = output_pairs(data, chosen)
    if not pairs:
        return None
    first = next(iter(pairs.values())).baseline.shape
    distributions = {name: pair for name, pair in pairs.items() if pair.baseline.shape == first}
    if len(first) < 2 or first[_axis(first)] < 2:
        raise Unsupported(
            f"the output {next(iter(pairs))!r} of shape {list(first)} has no classes to choose from"
        )
    counted = _counted(data.targets.get(LABELS), first)
    return worst_output({name: _divergences(pair, counted) for name, pair in distributions.items()}, max)


def _axis(shape: tuple[int, ...]) -> int:
    return 1 if len(shape) == OF_IMAGES else len(shape) - 1


def _counted(labels: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return which tokens or pixels count, those whose label is not below 0; None where all do."""
    axis = _axis(shape)
    positions = (*shape[:axis], *shape[axis + 1 :])
    if labels is None or len(positions) < 2 or labels.shape != positions or labels.dtype.kind not in "iub":
        return None
    return labels >= 0


def _divergences(pair: OutputPair, counted: np.ndarray | None) -> np.ndarray:
    """Return the divergence of each item, ``[n]``: 0 where no position counts.

    Outputs that are lacking or not finite count as if they left the smallest probability of their type to
    what the baseline expects. Positions where the baseline is not finite are left out.
    """
    import numpy as np

    shape = pair.baseline.shape
    axis, largest = _axis(shape), -float(np.log(smallest(pair.baseline.dtype)))
    are_ready = are_probabilities(np.moveaxis(pair.baseline, axis, -1))
    divergences = np.zeros(len(pair.baseline))
    for part, theirs, ours in pair.chunks():
        # Items, classes, and positions within the item.
        theirs, ours = (array.reshape(-1, *shape[1:]) for array in (theirs, ours))
        theirs, ours = (np.moveaxis(array, axis, -1) for array in (theirs, ours))
        is_counted = np.isfinite(theirs).all(axis=-1)
        if counted is not None:
            is_counted &= counted[part]
        logs = log_probabilities(np.where(is_counted[..., None], theirs, 0.0), are_ready, pair.baseline.dtype)
        with np.errstate(invalid="ignore"):
            distances = (np.exp(logs) * (logs - log_probabilities(ours, are_ready, pair.baseline.dtype))).sum(
                axis=-1
            )
        distances = np.clip(np.nan_to_num(distances, nan=largest, posinf=largest), 0.0, largest)
        items, counts = len(distances), is_counted.reshape(len(distances), -1).sum(axis=1)
        sums = np.where(is_counted, distances, 0.0).reshape(items, -1).sum(axis=1)
        divergences[part] = sums / np.maximum(counts, 1)
    if pair.ours is None:
        return np.full(len(divergences), largest)
    return divergences
