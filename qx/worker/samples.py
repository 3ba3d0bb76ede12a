"""The samples of metrics, checked and converted to JSON. Every launch imports this module: keep it light."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

# Imported before any plugin: one that replaces functions of other modules must not change the samples of
# other metrics.
from typing import Any, SupportsInt

from attrs import evolve

from qx.contract.records import (
    MOST_WAVES,
    SMALLEST,
    UNITS,
    Metric,
    MetricData,
    Predictions,
    Recorded,
    Samples,
    Subject,
)
from qx.errors import QxError
from qx.host.host import Reference
from qx.processes.answers import Measurement, MetricFailure, PlainSamples
from qx.processes.jobs import DeriveJob, EvaluateJob
from qx.worker.plugins import BoundPlugin, bind
from qx.worker.values import as_json, finite_values, plain_names

#: The largest index of a wave, round or group, which are kept as integers of 32 bits.
LARGEST_INDEX = (1 << 31) - 1
#: The beginning of the names of the stages in which metrics are measured.
MEASURING = "measure "


def stage_of(metric: str) -> str:
    """Return the stage in which a metric is imported and measured: a process that dies in it died of it."""
    return f"{MEASURING}{metric}"


def metric_in(stage: str) -> str | None:
    """Return the metric that is imported or measured in a stage; None if there is none."""
    return stage.removeprefix(MEASURING) if stage.startswith(MEASURING) else None


def measure_or_fail(job: EvaluateJob | DeriveJob, metric: Reference, data: MetricData) -> Measurement:
    """Measure a metric that needs no launch; if it raises, the measurement has the failure.

    KeyboardInterrupt is no exception: only plugins raise it, since Ctrl-C does not reach a worker's session.
    """
    try:
        plugin = bind(job, metric, job.metric_options.get(metric.name))
        return Measurement(samples=samples_of(plugin, None, data))
    except BaseException as error:
        return Measurement(failure=failure(error))


def failure(error: BaseException) -> MetricFailure:
    """Return the outcome, the cause and the traceback of a metric that raised."""
    from qx.processes.failures import outcome_of
    from qx.tracebacks import traceback_of

    return MetricFailure(*outcome_of(error), traceback_of(error))


def samples_of(plugin: BoundPlugin, subject: Subject | None, data: MetricData) -> PlainSamples | None:
    """Measure a metric and return its checked samples; None if it does not apply."""
    if plugin.implements("statistic") or plugin.implements("combine"):
        from qx.worker.whole_set import samples_of_set

        assert isinstance(data, (Predictions, Recorded))
        return samples_of_set(plugin, data)
    metric, record = plugin.name, plugin.record
    assert isinstance(record, Metric)
    if record.by_parts and isinstance(data, (Predictions, Recorded)):
        from qx.worker import parts

        result: Any = parts.measure(plugin, data)
    else:
        result = plugin.call("measure", subject=subject, data=data)
    if result is None:
        return None
    samples = result if isinstance(result, Samples) else Samples(result)
    values = finite_values(metric, samples.values)
    if flaw := _flaw(record, values):
        raise QxError(f"{metric}: measure gave {flaw}")
    details, count = as_json(metric, samples.details), len(values)
    waves = _plain_indices(metric, "waves", samples.waves, count, -1, MOST_WAVES)
    rounds = _plain_indices(metric, "rounds", samples.rounds, count, -1, LARGEST_INDEX + 1)
    names = [] if samples.groups is None else plain_names(metric, samples.group_names)
    groups = _plain_indices(metric, "groups", samples.groups, count, 0, len(names))
    plain = PlainSamples(
        values=values, details=details, waves=waves, rounds=rounds, groups=groups, group_names=tuple(names)
    )
    return _by_unit(plain, data) if record.samples == "per_item" and groups is None else plain


def _by_unit(samples: PlainSamples, data: MetricData) -> PlainSamples:
    """Return samples per item as those of the units that items belong to, where the data name some."""
    if not isinstance(data, (Predictions, Recorded)) or UNITS not in data.targets:
        return samples
    import numpy as np

    from qx.worker.units import by_unit, unit_of_items

    units = unit_of_items(data)
    if units is None or len(units) != len(samples.values):
        return samples
    values = by_unit(np.asarray(samples.values), units).tolist()
    return evolve(samples, values=values, units=len(values))


def _plain_indices(
    metric: str, field: str, indices: Iterable[SupportsInt] | None, count: int, lowest: int, limit: int
) -> list[int] | None:
    """Return waves, rounds or groups as integers, one for each of ``count`` values; None if there are none.

    Raises ``QxError``.
    """
    if indices is None:
        return None
    try:
        integers = [int(index) for index in islice(indices, count + 1)]
    except (TypeError, ValueError, OverflowError) as error:
        raise QxError(f"{metric}: measure gave {field} that are not whole numbers") from error
    if len(integers) != count:
        number = "more" if len(integers) > count else len(integers)
        raise QxError(f"{metric}: measure gave {count} values and {number} {field}")
    if not all(lowest <= index < limit for index in integers):
        raise QxError(f"{metric}: measure gave {field} that are not from {lowest} to {limit - 1:,}")
    if field == "waves" and min(integers) < 0 <= max(integers):
        raise QxError(f"{metric}: measure gave a wave for some values and none for others")
    return integers


def _flaw(record: Metric, values: Sequence[float]) -> str | None:
    """Describe values of which no ratio can be computed; ``qx.analysis.recompute`` checks the same.

    None if a ratio can be computed, or none is needed.
    """
    if record.compare == "difference" or record.samples == "per_item":
        return None
    low = min(values)
    if record.compare == "speedup" and (low < 0 or (low == 0 and record.samples != "exact")):
        return f"the value {low:g}, but is compared by speedup, which needs values above 0"
    if any(0 < abs(value) < SMALLEST for value in values):
        return f"values too small to compute with, nearer to 0 than {SMALLEST:g}"
    return None
