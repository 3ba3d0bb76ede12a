"""What metrics give, checked and as JSON. Light: every launch imports it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

# Bound before any plugin is imported: one that puts something else in their place must not change what the
# others give.
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

#: The most groups of items.
MOST_GROUPS = 1 << 16
#: Waves, rounds and groups are kept as integers of 32 bits.
LARGEST_PLACE = (1 << 31) - 1
#: How the names of the stages begin in which metrics are measured.
MEASURING = "measure "


def stage_of(metric: str) -> str:
    """The stage in which a metric is imported and measured: a process that dies in it died of the metric."""
    return f"{MEASURING}{metric}"


def metric_in(stage: str) -> str | None:
    """The metric that a process was in at this stage; None where it was in none."""
    return stage.removeprefix(MEASURING) if stage.startswith(MEASURING) else None


def samples_or_failure(job: EvaluateJob | DeriveJob, metric: Reference, data: MetricData) -> JsonObject:
    """The samples of a metric that needs no launch; where it raises, ``outcome`` and ``cause``.

    Whatever it raises: a worker is in a session of its own, where nobody presses Ctrl-C.
    """
    try:
        host = host_for(job, (metric,))
        options = options_of(host, metric.name, job.metric_options.get(metric.name, {}))
        return samples_of(host, metric.name, None, data, context_for(job, options=options))
    except BaseException as error:
        return failure(error)


def failure(error: BaseException) -> JsonObject:
    """What is answered in place of the samples of a metric that raised."""
    from qx.processes.failures import outcome_of

    outcome, cause = outcome_of(error)
    return {"outcome": outcome, "cause": cause}


def samples_of(
    host: Host, metric: str, subject: Subject | None, data: MetricData, context: Context
) -> JsonObject:
    """What ``measure`` gave, checked, as JSON: finite values or None, and what goes with them."""
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
    for what, limit in (("waves", MOST_WAVES), ("rounds", LARGEST_PLACE + 1)):
        if (given := getattr(samples, what)) is not None:
            answer[what] = _positions(metric, what, given, len(values), -1, limit)
    if samples.groups is not None:
        names = _names(metric, samples.group_names)
        answer["groups"] = _positions(metric, "groups", samples.groups, len(values), 0, len(names))
        answer["group_names"] = names
    return answer


def _positions(
    metric: str, what: str, given: Iterable[SupportsInt], count: int, least: int, limit: int
) -> list[int]:
    """Waves, rounds or groups as plain integers, as many as there are values. Raises ``QxError``."""
    try:
        positions = [int(position) for position in islice(given, count + 1)]
    except (TypeError, ValueError, OverflowError) as error:
        raise QxError(f"{metric}: measure gave {what} that are not whole numbers") from error
    if len(positions) != count:
        number = "more" if len(positions) > count else len(positions)
        raise QxError(f"{metric}: measure gave {count} values and {number} {what}")
    if not all(least <= position < limit for position in positions):
        raise QxError(f"{metric}: measure gave {what} that are not from {least} to {limit - 1:,}")
    if what == "waves" and min(positions) < 0 <= max(positions):
        raise QxError(f"{metric}: measure gave a wave for some values and none for others")
    return positions


def _names(metric: str, group_names: Iterable[str]) -> list[str]:
    """The names of the groups. Raises ``QxError``."""
    names = list(islice(group_names, MOST_GROUPS + 1))
    if len(names) > MOST_GROUPS:
        raise QxError(f"{metric}: measure gave more than {MOST_GROUPS:,} group names")
    if not all(isinstance(name, str) for name in names):
        raise QxError(f"{metric}: measure gave group names that are not text")
    return [str(name) for name in names]


def _flaw(record: Metric, values: Sequence[float]) -> str | None:
    """What no ratio can be computed of; ``qx.analysis.recompute`` holds samples that are read to the same."""
    if record.compare == "difference" or record.samples == "per_item":
        return None
    low = min(values)
    if record.compare == "speedup" and (low < 0 or (low == 0 and record.samples != "exact")):
        return f"the value {low:g}, and is compared by speedup, which takes values above 0"
    if any(0 < abs(value) < SMALLEST for value in values):
        return f"values too small to compute with, nearer to 0 than {SMALLEST:g}"
    return None
