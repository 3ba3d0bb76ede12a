"""The answers of launches, and what all answers of workers share; see ``qx.processes.job_answers``.

There is a record for the answer to each job, and to each command of a running job. An answer travels as JSON:
``to_fields`` writes it, and ``qx.processes.structuring`` reads it. Every launch imports this module, so it
holds no more than launches need.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import Factory, frozen

from qx.contract.devices import DeviceReading
from qx.contract.records import Mark, Outcome
from qx.tracebacks import NO_TRACEBACK, Traceback
from qx.values import JsonMapping, JsonObject


@frozen(kw_only=True)
class Answer:
    """The answer to a job or a command: values that JSON can hold, and records of such values."""


def to_fields(record: object) -> JsonObject:
    """Return the fields of a record for JSON, as the ``default`` of an encoder does.

    Nested records stay records, for which the encoder calls it again. Raises ``TypeError``
    for anything that is neither a record nor has a ``to_json``.
    """
    if hasattr(record, "to_json"):
        fields: JsonObject = record.to_json()
        return fields
    attributes = getattr(type(record), "__attrs_attrs__", None)
    if attributes is None:
        raise TypeError(f"Object of type {type(record).__name__} is not JSON serializable")
    return {attribute.name: getattr(record, attribute.name) for attribute in attributes}


# Metrics -----------------------------------------------------------------------------------------


@frozen
class MetricFailure:
    """The reason why a metric of a cell could not be measured."""

    outcome: Outcome
    cause: str
    traceback: Traceback = NO_TRACEBACK


@frozen(kw_only=True)
class Resampling:
    """A statistic of a set of items, and how it moves with them, as ``qx.results.recording.Resampled``."""

    #: Value for all items of the set, in the metric's unit; 0 if there is a reason.
    value: float
    #: Number of items in the set.
    items: int
    #: For each group of items: the number of groups less one, times how much less the value is without it.
    influence: Sequence[float] = Factory(list)
    #: For each draw of ``items`` items with replacement: the value; None where they have none.
    draws: Sequence[float | None] = Factory(list)
    #: Largest change of the value by one item that changes its answer; None if that was not tried.
    step: float | None = None
    #: Reason why there can be no interval; empty where there can.
    reason: str = ""


@frozen(kw_only=True)
class PlainSamples:
    """Samples of a metric as plain numbers, checked and finite."""

    #: Values in the metric's unit.
    values: Sequence[float]
    #: Details for the results, as JSON.
    details: JsonMapping = Factory(dict)
    #: Wave of each value, counted from 0; None where the metric does not say.
    waves: Sequence[int] | None = None
    #: Round of each value within its wave, counted from 0; None where the metric does not say.
    rounds: Sequence[int] | None = None
    #: Group of each value, as a position in ``group_names``; None without groups.
    groups: Sequence[int] | None = None
    group_names: tuple[str, ...] = ()
    #: Number of units that values per item were summed over; None where each value is that of an item.
    units: int | None = None
    #: For a statistic of the whole set: that of all items, then that of each group of items.
    resampled: tuple[Resampling, ...] = ()


@frozen(kw_only=True)
class Measurement(Answer):
    """What a metric gave of one subject: samples, or a failure, or neither where it does not apply.

    The answer to the commands ``fresh`` and ``block`` of a launch, where a failure is a message of its own.
    """

    samples: PlainSamples | None = None
    failure: MetricFailure | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the metric raised an error."""
        return self.failure is not None


# Launches ----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class LaunchAnswer(Answer):
    """A launch has loaded its artifact and answered once."""

    #: Marks of the stages of its start, in their order.
    marks: tuple[Mark, ...]


@frozen(kw_only=True)
class WarmAnswer(Answer):
    """A launch has warmed up."""

    #: Median time of a call in the last windows, in seconds.
    seconds_per_call: float
    #: Time of the fastest call, in seconds.
    fastest: float
    #: Number of calls.
    calls: int
    #: Whether the times became steady.
    steady: bool
    #: Median time of the reset before a call, in seconds; 0 where there is none.
    reset: float = 0.0
    #: Time of the first call, in seconds; None where it was not looked at.
    first: float | None = None
    #: State of the device at the end of the warm-up; None on the CPU.
    reading: DeviceReading | None = None


@frozen(kw_only=True)
class HoldAnswer(Answer):
    """The threads of a launch are pinned to the CPUs that the command names."""
