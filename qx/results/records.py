"""The records that ``full_results.json`` is made of."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, frozen

from qx.contract.records import Metric, Outcome
from qx.values import JsonMapping, OptionValues

SCHEMA_VERSION = 1
#: The cause of a measurement where a metric gave None.
NOT_APPLICABLE = "not applicable here"


@frozen(kw_only=True)
class CellResult:
    """One cell, and how it ended."""

    workload: str
    config: str
    options: OptionValues
    threads: int
    #: It is the baseline, measured a second time.
    control: bool = False
    outcome: Outcome
    #: Where it ended, and of what, when not well.
    stage: str | None = None
    cause: str | None = None
    build_seconds: float | None = None
    #: The build was found, not made; ``build_seconds`` is what it took when it was made.
    build_cached: bool = False
    #: The key of the build in the cache.
    build: str | None = None
    #: Shipped files -> bytes.
    artifact: Mapping[str, int] = Factory(dict)
    loader: str | None = None
    launches: int = 0
    #: What its config wants told of the artifact.
    notes: tuple[str, ...] = ()


@frozen(kw_only=True)
class ConfigResult:
    """One config over all its cells."""

    summary: str
    outcome: Outcome
    stage: str | None = None
    cause: str | None = None
    runtime_baseline: str | None = None
    reference: bool = False
    #: The config with the same recipe in another runtime.
    counterpart: str | None = None


@frozen(kw_only=True)
class Comparison:
    """How a cell compares with another.

    ``value`` goes by ``kind``: a ratio is ours / theirs, a speedup theirs / ours, a difference ours - theirs.
    """

    kind: str
    value: float
    ci: tuple[float, float] | None
    p: float | None
    #: The id of the other cell; None in ``vs_baseline``, which is with the baseline.
    against: str | None = None
    #: It is told apart from none, and is larger than what the control shows, where there is one; None where
    #: there is neither control nor interval.
    clear: bool | None = None
    method: str = ""


@frozen(kw_only=True)
class Measurement:
    """One metric of one cell."""

    workload: str
    cell: str
    config: str
    metric: str
    params: JsonMapping
    value: float | None
    unit: str
    better: str
    ci: tuple[float, float] | None
    #: How many independent samples the interval comes from.
    n: int
    #: Why there is no interval, where that is not for want of samples.
    without_interval: str | None = None
    outcome: Outcome
    cause: str | None = None
    #: Where the raw samples lie: ``file#key``.
    samples_ref: str | None = None
    vs_baseline: Comparison | None = None
    comparisons: tuple[Comparison, ...] = ()
    details: JsonMapping = Factory(dict)


@frozen(kw_only=True)
class FrontResult:
    """What the front says of one cell."""

    on_front: bool
    dominated_by: tuple[str, ...] = ()
    tied_with: tuple[str, ...] = ()
    #: The share of bootstrap draws in which it is on the front.
    probability: float | None = None


@frozen(kw_only=True)
class PickResult:
    """What to take if one cares about one thing."""

    #: ``"the smallest artifact"``.
    aim: str
    metric: str
    params: JsonMapping
    #: No cell is better by more than the metric's margin: that is excluded.
    cell: str
    #: Cells of which the same is excluded, so that any of them could be picked by this metric.
    tied_with: tuple[str, ...] = ()
    #: The metric that decided between the cells that are tied.
    decided_by: str | None = None
    #: Cells that may be as good: that is neither shown nor excluded.
    not_told_apart: tuple[str, ...] = ()


@frozen(kw_only=True)
class UndecidedResult:
    """One thing to care about of which the noise of this run allows no pick."""

    #: ``"the lowest latency"``.
    aim: str
    metric: str
    params: JsonMapping
    #: The cells that the metric does not tell apart: one of them is the best.
    contenders: tuple[str, ...]
    #: Half of the widest 95 % interval of a comparison between contenders: a share where the metric is
    #: compared by ratio, else in its unit. None where there are too few samples for an interval.
    half_width: float | None
    #: Seconds of measuring that are expected to be enough for a pick, of a metric that is measured in
    #: launches; None where that is not known.
    seconds: float | None = None
    #: Evaluation items that are expected to be enough, of a metric that has a value for each item.
    items: int | None = None


@frozen(kw_only=True)
class OutputsResult:
    """How far the outputs of a cell are from the baseline's, over all items of the evaluation."""

    cell: str
    #: Signal-to-quantization-noise ratio in dB: the squares of the baseline's outputs, summed, over those of
    #: the differences. None where there is no difference, and where the ratio does not exist.
    sqnr_db: float | None
    #: The differences are larger than the outputs themselves (below 0 dB), or not finite, or the shapes
    #: differ: the cell computes something else than the baseline.
    is_below_0_db: bool


@frozen(kw_only=True)
class NoiseFloor:
    """What the control shows: the apparent speedup of a model that is the baseline itself."""

    metric: str
    params: JsonMapping
    kind: str
    value: float
    ci: tuple[float, float] | None
    #: 1.0 lies outside the control's 99.9 % interval: the timings of this run are not to be trusted.
    alarm: bool
    #: Whose control it is, where there are several workloads.
    workload: str | None = None


@frozen(kw_only=True)
class PairResult:
    """One recipe in two runtimes, which should behave the same; every comparison is in pairs of items."""

    cell: str
    #: The cell with the same recipe in another runtime.
    counterpart: str
    #: The share of items of which both cells put the same output highest, its interval, and how many items.
    agreement: float | None
    ci: tuple[float, float] | None
    n: int


@frozen(kw_only=True)
class SummaryFigure:
    """How a config compares with the baseline in one metric, over several workloads."""

    metric: str
    params: JsonMapping
    #: ``ratio``, ``speedup`` or ``difference``, as in a comparison.
    kind: str
    #: The geometric mean of ratios and speedups, the arithmetic of differences; and the range.
    value: float
    least: float
    most: float
    #: Those that it was measured on.
    workloads: tuple[str, ...]


@frozen(kw_only=True)
class SummaryResult:
    """One config, with its options, over several workloads."""

    #: The cells' ids, without the workload.
    row: str
    config: str
    #: Workloads on which it ended well, and on whose front it is.
    well: tuple[str, ...]
    on_front: tuple[str, ...]
    #: Of the metrics that are axes.
    figures: tuple[SummaryFigure, ...]


@frozen(kw_only=True)
class Results:
    """A whole run."""

    run: JsonMapping
    environment: JsonMapping
    #: The records of the metrics, so that a report needs no plugin.
    metrics: Mapping[str, Metric]
    configs: Mapping[str, ConfigResult]
    cells: Mapping[str, CellResult]
    measurements: tuple[Measurement, ...]
    #: Names the axes, and what each cell is on them; cells that did not end well take no part.
    axes: tuple[JsonMapping, ...]
    front: Mapping[str, FrontResult]
    picks: tuple[PickResult, ...]
    noise_floor: tuple[NoiseFloor, ...]
    #: Cells with one recipe in two runtimes.
    pairs: tuple[PairResult, ...] = ()
    #: Configs over all workloads; empty where there is one.
    summary: tuple[SummaryResult, ...] = ()
    #: What cannot be picked for noise.
    undecided: tuple[UndecidedResult, ...] = ()
    #: Of each cell whose outputs and the baseline's are kept; neither the baseline nor the control.
    outputs: tuple[OutputsResult, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def ended_well(self) -> bool:
        """Every cell and every metric that was due has its figures."""
        return not self.run["due_failures"]
