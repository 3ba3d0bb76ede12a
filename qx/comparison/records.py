"""What a comparison of runs says, as it stands in its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypeAlias

from attrs import Factory, frozen

from qx.contract.records import Metric
from qx.results.schema import load_schema
from qx.values import JsonMapping, JsonObject, OptionValues

SCHEMA_VERSION = 1
#: With this probability at most any of all verdicts of a comparison is a false alarm.
FALSE_ALARMS = 0.05

#: What the row of the outputs is called; no plugin gives it.
OUTPUTS = "outputs"

#: ``changed`` is for what has no better direction.
Verdict: TypeAlias = Literal["same", "better", "worse", "changed", "not comparable", "gone", "new"]
#: What two runs are compared by: the value, the same items in pairs, the ratio of each to its own baseline,
#: the values of launches of one machine, the outputs of the evaluation.
Basis: TypeAlias = Literal["exact", "items", "own baseline", "direct", "outputs"]
#: Why a difference is no change: its interval includes "no change"; it is not significant once it is
#: corrected for the number of tests; it is no larger than what the controls show; it is within the margin.
WhySame: TypeAlias = Literal["interval", "correction", "noise floor", "margin"]


@frozen(kw_only=True)
class Side:
    """What one run has: the value in the metric's unit, or, by that basis, its ratio to its baseline."""

    value: float
    ci: tuple[float, float] | None


@frozen(kw_only=True)
class Change:
    """How one metric of one cell changed from the base to another run.

    ``value`` goes by ``kind``: a ratio is ours / base, a speedup base / ours, a difference ours - base,
    agreeing is the share of answers that are the same.
    """

    #: The label of the run that is compared with the base.
    run: str
    workload: str
    #: Its id in the base; in the other run where it is new.
    cell: str
    config: str
    options: OptionValues
    threads: int
    #: None where it is about the cell as a whole.
    metric: str | None
    params: JsonMapping = Factory(dict)
    unit: str = ""
    better: str = "neither"
    basis: Basis | None = None
    verdict: Verdict
    #: Changes of one cell with the same cause are counted once: the metric that all of them derive from, or
    #: the outputs. None where it is about the cell as a whole.
    cause: str | None = None
    #: Of the verdict ``same``; None where the two sides are equal.
    why_same: WhySame | None = None
    #: Why there is nothing to compare, or what is remarkable.
    reason: str | None = None
    base: Side | None = None
    ours: Side | None = None
    kind: str | None = None
    value: float | None = None
    #: 95 %, of this change by itself.
    ci: tuple[float, float] | None = None
    p: float | None = None
    #: Holm's, over all tests of the comparison.
    p_adjusted: float | None = None
    method: str = ""
    #: The change itself is larger than the metric's margin, the smallest difference that matters.
    beyond_margin: bool | None = None
    #: The whole interval is within the margin, so that a change that matters is excluded.
    within_margin: bool | None = None


@frozen(kw_only=True)
class About:
    """One run: what tells it from the others."""

    label: str
    run: str
    started: str | None
    python: str
    versions: Mapping[str, str]
    machine: str
    #: None where the run did not record one; no other machine is the same then.
    fingerprint: str | None
    samples: bool
    #: What is to be known before its figures are trusted.
    notes: tuple[str, ...] = ()


@frozen(kw_only=True)
class Compared:
    """A whole comparison. The first run is the base."""

    runs: tuple[About, ...]
    workloads: JsonMapping
    metrics: Mapping[str, Metric]
    changes: tuple[Change, ...]
    #: How many changes were tested, and how many of them would be false alarms without correction.
    tests: int
    expected_false_alarms: float
    false_alarms: float = FALSE_ALARMS
    schema_version: int = SCHEMA_VERSION

    @property
    def base(self) -> About:
        """The run that the others are compared with."""
        return self.runs[0]

    def to_json(self) -> str:
        """As ``qx compare --out FILE.json`` writes it."""
        from cattrs.preconf.json import make_converter

        return json.dumps(make_converter().unstructure(self), indent=1, allow_nan=False) + "\n"


def schema() -> JsonObject:
    """The JSON Schema of what ``qx compare --out FILE.json`` writes."""
    return load_schema("compare")
