"""What metrics give, checked and as JSON. Light: every launch imports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qx.errors import QxError
from qx.host import Host
from qx.jobs import DeriveJob, EvaluateJob
from qx.records import Context, Samples, Subject
from qx.worker.plugins import context_for, options_of

#: The largest value that can be computed with.
LARGEST = 1e150


def samples_or_failure(job: EvaluateJob | DeriveJob, host: Host, metric: str, data: Any) -> dict[str, Any]:
    """The samples of a metric that needs no launch; where it raises, ``outcome`` and ``cause``."""
    from qx.worker.failures import outcome_of

    context = context_for(job, options=options_of(host, metric, job.metric_options.get(metric, {})))
    try:
        return samples_of(host, metric, None, data, context)
    except (Exception, SystemExit) as error:
        outcome, cause = outcome_of(error)
        return {"outcome": outcome, "cause": cause}


def samples_of(
    host: Host, metric: str, subject: Subject | None, data: Any, context: Context
) -> dict[str, Any]:
    """What ``measure`` gave, checked, as JSON: finite values or None, and what goes with them."""
    if host.implements(metric, "statistic"):
        from qx.worker.whole_set import samples_of_set

        return samples_of_set(host, metric, data, context)
    given = host.call(metric, "measure", subject=subject, data=data, context=context)
    if given is None:
        return {"values": None}
    samples = given if isinstance(given, Samples) else Samples(given)
    values = finite_values(metric, samples.values)
    told: dict[str, Any] = {"values": values, "details": as_json(metric, samples.details)}
    for what in ("waves", "rounds", "groups"):
        each = getattr(samples, what)
        if each is not None:
            told[what] = [int(one) for one in each]
            if len(told[what]) != len(values):
                raise QxError(f"{metric}: measure gave {len(values)} values and {len(told[what])} {what}")
    return told | {"group_names": list(samples.group_names)} if "groups" in told else told


def as_json(metric: str, details: Mapping[str, Any]) -> Any:
    """Details with arrays and numbers of numpy's as plain ones."""
    import json

    def plain(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} {value!r}")

    try:
        return json.loads(json.dumps(dict(details), default=plain))
    except (TypeError, ValueError) as error:
        raise QxError(f"{metric}: measure gave details that are not JSON: {error}") from error


def finite_values(metric: str, values: Any) -> list[float]:
    """One or more values as plain numbers. Raises ``QxError`` where they are none, or not finite."""
    import math

    try:
        plain = values.tolist() if hasattr(values, "tolist") else values
        floats = [float(plain)] if isinstance(plain, (int, float)) else [float(value) for value in plain]
    except (TypeError, ValueError) as error:
        raise QxError(f"{metric}: measure gave {type(values).__name__}, not numbers") from error
    if not floats:
        raise QxError(f"{metric}: measure gave no values")
    # Squares of anything larger are no numbers any more.
    if not all(math.isfinite(value) and abs(value) < LARGEST for value in floats):
        raise QxError(f"{metric}: measure gave values that are not finite")
    return floats
