"""Combine statistics of several sets of items at once: each must have the value that it has alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qx.contract.records import MetricData, Samples
from qx.errors import QxError
from qx.processes.jobs import EvaluateJob
from qx.testing.answers import CombineAnswer
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.combined import ROUNDING, Combination
from qx.worker.derive import read_recorded, recorded_of
from qx.worker.evaluate import predictions_of
from qx.worker.plugins import bind

if TYPE_CHECKING:
    from qx.testing.jobs import CombineJob
    from qx.worker.channel import Channel

#: Leading axes of the statistics that are combined at once.
SHAPES = ((1,), (5,), (2, 3), (3, 1, 2))
#: Largest number of items that are drawn for a set.
MOST_ITEMS = 200


def run(job: CombineJob, channel: Channel) -> None:
    """Answer with the shapes that were combined. Raises ``QxError`` where a set has another value alone."""
    channel.stage("measure")
    plugin = bind(job, job.metric, job.options)
    result = plugin.call("measure", subject=None, data=_data(job, channel))
    values = result.values if isinstance(result, Samples) else result
    if not plugin.implements("combine") or np.ndim(values) != 2:
        channel.answer(CombineAnswer(shapes=()))
        return
    channel.stage("combine")
    combination = Combination.of(plugin, values)
    generator = np.random.default_rng(job.seed)
    for shape in SHAPES:
        hold_to_single_sets(combination, shape, generator)
    channel.answer(CombineAnswer(shapes=SHAPES))


def hold_to_single_sets(
    combination: Combination, shape: tuple[int, ...], generator: np.random.Generator
) -> None:
    """Combine sets of drawn items at once. Raises ``QxError`` where one has another value than alone."""
    drawn = generator.integers(0, combination.count, (*shape, min(combination.count, MOST_ITEMS)))
    means: Array = combination.rows[drawn].mean(axis=-2, dtype=float)
    together = combination.of_means(means)
    for place in np.ndindex(shape):
        alone = float(combination.of_means(means[place]))
        if not np.isclose(together[place], alone, rtol=ROUNDING, atol=ROUNDING**2, equal_nan=True):
            raise QxError(
                f"combine gave {together[place]:.6g} for a set among others, in statistics "
                f"{list(means.shape)}, and {alone:.6g} for it alone: it must work over the last axis alone"
            )


def _data(job: CombineJob, channel: Channel) -> MetricData:
    """Return what the metric was measured of."""
    inner = job.job
    if isinstance(inner, EvaluateJob):
        return predictions_of(inner, channel)
    own, baseline = read_recorded(Path(inner.samples)), read_recorded(Path(inner.baseline))
    items = Split.read(Path(inner.inputs)) if inner.inputs else None
    return recorded_of(own, baseline, items, None, set())
