"""Records of a comparison of runs, as its JSON holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypeAlias

from attrs import frozen

from qx.contract.figures import Figure, Point
from qx.contract.records import Metric
from qx.results.results_file import converter
from qx.results.run_record import WorkloadRecord
from qx.results.schema import load_schema
from qx.values import JsonObject, OptionValues

SCHEMA_VERSION = 2
#: Largest probability that any verdict of a comparison is a false alarm.
FALSE_ALARMS = 0.05

#: Name of the row that compares the outputs of the evaluation, which is no plugin's metric.
OUTPUTS = "outputs"
#: Cause of changes in how far outputs are from each run's own baseline, where the two have other weights.
OWN_OUTPUTS = "outputs against own baseline"

#: Verdict on a change. ``changed`` is for metrics without a better direction.
Verdict: TypeAlias = Literal["same", "better", "worse", "changed", "not comparable", "gone", "new"]
#: What two runs are compared by: the value, the same items in pairs, the ratio of each to its own baseline,
#: the values of launches of one machine, the outputs of the evaluation.
Basis: TypeAlias = Literal["exact", "items", "own baseline", "direct", "outputs"]
#: Why a difference is no change: its interval includes "no change"; it is not significant once it is
#: corrected for the number of tests; it is no larger than what other builds may differ by; it is no larger
#: than what the controls show; it is within the margin.
WhySame: TypeAlias = Literal["interval", "correction", "builds", "noise floor", "margin"]


@frozen(kw_only=True)
class Side:
    """The figure of one run: its value in the metric's unit, or its ratio to its own baseline."""

    value: float
    ci: tuple[float, float] | None


@frozen(kw_only=True)
class Change:
    """How one metric of one cell changed from the base to another run.

    ``kind`` says what ``value`` is: ``ratio`` ours / base, ``speedup`` base / ours, ``difference``
    ours - base, ``agreeing`` the share of answers that are the same.
    """

    #: Label of the run that is compared with the base.
    run: str
    workload: str
    #: Id of the cell in the base, or in the other run where the cell is new.
    cell: str
    config: str
    options: OptionValues
    threads: int
    #: None for a change of the cell as a whole.
    metric: str | None
    point: Point | None = None
    unit: str = ""
    better: str = "neither"
    basis: Basis | None = None
    verdict: Verdict
    #: Name under which changes of one cell are counted once: the metric that all of them derive from, or the
    #: outputs. None for a change of the cell as a whole.
    cause: str | None = None
    #: Reason of the verdict ``same``. None where the two sides are equal.
    why_same: WhySame | None = None
    #: Reason why there is nothing to compare, or what is remarkable about the change.
    reason: str | None = None
    base: Side | None = None
    ours: Side | None = None
    kind: str | None = None
    value: float | None = None
    #: Interval of 95 % for this change by itself.
    ci: tuple[float, float] | None = None
    #: The same interval, widened by what other builds of both runs would change. None where the spread
    #: between builds is not known, or does not matter.
    ci_over_builds: tuple[float, float] | None = None
    p: float | None = None
    #: ``p`` corrected by Holm's method for all tests of the comparison.
    p_adjusted: float | None = None
    method: str = ""
    #: Whether the change is larger than the metric's margin, the smallest difference that matters.
    beyond_margin: bool | None = None
    #: Whether the whole interval is within the margin, so that a change that matters is excluded.
    within_margin: bool | None = None

    @property
    def figure(self) -> Figure | None:
        """The metric with its point; None for a change of the cell as a whole."""
        return None if self.metric is None else Figure(self.metric, self.point)


@frozen(kw_only=True)
class ComparedRun:
    """One run of a comparison: its label, software and machine."""

    label: str
    run: str
    started: str | None
    python: str
    versions: Mapping[str, str]
    machine: str
    #: Fingerprint of the machine. None where the run recorded none: then no other machine counts as the same.
    fingerprint: str | None
    #: Commits of the repositories that the run was made in, in words. None where it recorded none.
    commit: str | None = None
    #: Whether the run's raw samples are available.
    samples: bool
    #: Reservations that a reader should know of before trusting the run's figures.
    notes: tuple[str, ...] = ()
    #: Names of the workloads that had other weights in the base.
    other_weights: tuple[str, ...] = ()


@frozen(kw_only=True)
class RunComparison:
    """All changes between several runs and the first of them, the base."""

    runs: tuple[ComparedRun, ...]
    workloads: Mapping[str, WorkloadRecord]
    metrics: Mapping[str, Metric]
    changes: tuple[Change, ...]
    #: Number of changes that were tested, and of false alarms to expect among them without a correction.
    tests: int
    expected_false_alarms: float
    false_alarms: float = FALSE_ALARMS
    schema_version: int = SCHEMA_VERSION

    @property
    def base(self) -> ComparedRun:
        """The run that the others are compared with."""
        return self.runs[0]

    def to_json(self) -> str:
        """Return the JSON that ``qx compare --out FILE.json`` writes."""
        return json.dumps(converter().unstructure(self), indent=1, allow_nan=False) + "\n"


def schema() -> JsonObject:
    """Return the JSON Schema of what ``qx compare --out FILE.json`` writes."""
    return load_schema("compare")
