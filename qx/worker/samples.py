"""The samples of metrics, checked and converted to JSON. Every launch imports this module: keep it light."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

# Imported before any plugin: one that replaces functions of other modules must not change the samples of
# other metrics.
from typing import SupportsInt

from qx.contract.records import (
    MOST_WAVES,
    SMALLEST,
    Context,
    Metric,
    MetricData,
    Predictions,
    Recorded,
    Samples,
    Subject,
)
from qx.errors import QxError
from qx.host.host import Host, Reference
from qx.processes.jobs import DeriveJob, EvaluateJob
from qx.values import JsonObject
from qx.worker.plugins import context_for, host_for, options_of
from qx.worker.values import as_json, finite_values

#: The largest number of groups of items.
MOST_GROUPS = 1 << 16
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


def samples_or_failure(job: EvaluateJob | DeriveJob, metric: Reference, data: MetricData) -> JsonObject:
    """Return the samples of a metric that needs no launch, or ``outcome`` and ``cause`` if it raises.

    KeyboardInterrupt is no exception: only plugins raise it, since Ctrl-C does not reach a worker's session.
    """
    try:
        host = host_for(job, (metric,))
        options = options_of(host, metric.name, job.metric_options.get(metric.name, {}))
        return samples_of(host, metric.name, None, data, context_for(job, options=options))
    except BaseException as error:
        return failure(error)


def failure(error: BaseException) -> JsonObject:
    """Return the outcome and the cause that replace the samples of a metric that raised."""
    from qx.processes.failures import outcome_of

    outcome, cause = outcome_of(error)
    return {"outcome": outcome, "cause": cause}


def samples_of(
    host: Host, metric: str, subject: Subject | None, data: MetricData, context: Context
) -> JsonObject:
    """Measure a metric and return its checked samples as JSON; ``values`` is None if it does not apply."""
    if host.implements(metric, "statistic"):
        from qx.worker.whole_set import samples_of_set

        assert isinstance(data, (Predictions, Recorded))
        return samples_of_set(host, metric, data, context)
    result = host.call(metric, "measure", subject=subject, data=data, context=context)
    if result is None:
        return {"values": None}
    samples = result if isinstance(result, Samples) else Samples(result)
    record = host.get("metric", metric).record
    assert isinstance(record, Metric)
    values = finite_values(metric, samples.values)
    if flaw := _flaw(record, values):
        raise QxError(f"{metric}: measure gave {flaw}")
    answer: JsonObject = {"values": values, "details": as_json(metric, samples.details)}
    for field, limit in (("waves", MOST_WAVES), ("rounds", LARGEST_INDEX + 1)):
        if (indices := getattr(samples, field)) is not None:
            answer[field] = _plain_indices(metric, field, indices, len(values), -1, limit)
    if samples.groups is not None:
        names = _names(metric, samples.group_names)
        answer["groups"] = _plain_indices(metric, "groups", samples.groups, len(values), 0, len(names))
        answer["group_names"] = names
    return answer


def _plain_indices(
    metric: str, field: str, indices: Iterable[SupportsInt], count: int, lowest: int, limit: int
) -> list[int]:
    """Return waves, rounds or groups as integers, one for each of ``count`` values. Raises ``QxError``."""
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


def _names(metric: str, group_names: Iterable[str]) -> list[str]:
    """Return the names of the groups as a list of text. Raises ``QxError``."""
    names = list(islice(group_names, MOST_GROUPS + 1))
    if len(names) > MOST_GROUPS:
        raise QxError(f"{metric}: measure gave more than {MOST_GROUPS:,} group names")
    if not all(isinstance(name, str) for name in names):
        raise QxError(f"{metric}: measure gave group names that are not text")
    return [str(name) for name in names]


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
