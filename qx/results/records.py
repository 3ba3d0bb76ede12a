"""The records in ``full_results.json``."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, frozen

from qx.contract.figures import Figure, Point
from qx.contract.records import OUTPUT, LayerRow, Metric, Outcome
from qx.results.cells import CellId
from qx.results.constraints import Constraint, Verdict
from qx.results.run_record import Environment, RunRecord
from qx.values import JsonMapping

SCHEMA_VERSION = 2
#: Cause of a measurement for which the metric returned None.
NOT_APPLICABLE = "not applicable here"
#: Cause of a measurement without a value that only lacks its analysis: there are samples.
NOT_ANALYSED = "not analysed"


@frozen(kw_only=True)
class FurtherBuild:
    """A build of a cell with another seed, and so with another draw of calibration images.

    Its metrics of artifacts and of predictions are measured. It is not timed.
    """

    seed: int
    outcome: Outcome
    #: Stage and cause of the failure; None where it ended well.
    stage: str | None = None
    cause: str | None = None
    build_seconds: float | None = None
    #: Whether the build came from the cache.
    build_cached: bool = False
    #: Key of the build in the cache.
    build: str | None = None
    #: Seed of an earlier build whose artifact is equal, so that this one was not evaluated again.
    same_as: int | None = None
    #: Metrics that could not be measured, each with the cause.
    metric_failures: Mapping[str, str] = Factory(dict)


@frozen(kw_only=True)
class CellResult(CellId):
    """One cell, and how it ended."""

    outcome: Outcome
    #: Stage and cause of the failure; None where it ended well.
    stage: str | None = None
    cause: str | None = None
    build_seconds: float | None = None
    #: Whether the build came from the cache; ``build_seconds`` is then how long it took originally.
    build_cached: bool = False
    #: Key of the build in the cache.
    build: str | None = None
    #: Size of each shipped file in bytes.
    artifact: Mapping[str, int] = Factory(dict)
    loader: str | None = None
    launches: int = 0
    #: Sentences of its config about the artifact, for readers.
    notes: tuple[str, ...] = ()
    #: Table by layer of its config, in the model's order; empty where the config gives none.
    layers: tuple[LayerRow, ...] = ()
    #: Builds with other seeds (``--build-seeds``); empty where there is one build.
    further_builds: tuple[FurtherBuild, ...] = ()

    @property
    def depends_on_seed(self) -> bool | None:
        """Whether builds with other seeds gave other artifacts; None where no other was built."""
        built = [build for build in self.further_builds if build.outcome == "ok"]
        return any(build.same_as is None for build in built) if built else None

    #: File with what plugins printed for it and the tracebacks of their errors, relative to the folder of the
    #: results; None if there is none.
    log: str | None = None


@frozen(kw_only=True)
class ConfigResult:
    """One config over all its cells."""

    summary: str
    outcome: Outcome
    stage: str | None = None
    cause: str | None = None
    runtime_baseline: str | None = None
    reference: bool = False
    #: Name of the config with the same recipe in another runtime.
    counterpart: str | None = None
    #: Whether it calibrates or trains, so that other seeds draw other data; None where that was not recorded.
    draws_data: bool | None = None


@frozen(kw_only=True)
class Comparison:
    """How a cell compares with another.

    ``kind`` says what ``value`` is: a ratio is ours / theirs, a speedup theirs / ours, a difference
    ours - theirs.
    """

    kind: str
    value: float
    ci: tuple[float, float] | None
    p: float | None
    #: Id of the other cell; None in ``vs_baseline``, which compares with the baseline.
    against: str | None = None
    #: Whether the interval excludes 'no difference', and the difference is larger than the control's, where
    #: there is a control; None where there is neither control nor interval.
    clear: bool | None = None
    method: str = ""


@frozen(kw_only=True)
class BuildSpread:
    """How one figure of a cell differs between builds, which were all evaluated on the same items."""

    #: Value of each build in the metric's unit, by its seed as text. That of the run's own seed is the value
    #: of the measurement.
    values: Mapping[str, float]
    #: Standard deviation of the values.
    deviation: float
    smallest: float
    largest: float
    #: Mean of the values, and its 95 % interval over both the items and the builds that might be drawn; None
    #: where the figure has no interval in one build.
    mean: float
    ci: tuple[float, float] | None
    #: The same of the comparison with the baseline's own build: the mean of differences, the geometric mean
    #: of ratios. None for the baseline, and where a build cannot be compared.
    vs_baseline: Comparison | None = None
    method: str = ""


@frozen(kw_only=True)
class OfFigure:
    """The fields of all records of one figure."""

    metric: str
    #: Point that the metric was measured at; None for a metric that is not measured at each point.
    point: Point | None

    @property
    def figure(self) -> Figure:
        """The metric with its point."""
        return Figure(self.metric, self.point)


@frozen(kw_only=True)
class Measurement(OfFigure):
    """One metric of one cell."""

    workload: str
    cell: str
    config: str
    value: float | None
    unit: str
    better: str
    ci: tuple[float, float] | None
    #: Number of independent samples behind the interval.
    n: int
    #: Reason for the lack of an interval, where that is not too few samples.
    without_interval: str | None = None
    outcome: Outcome
    cause: str | None = None
    #: Place of the raw samples, ``file#key``.
    samples_ref: str | None = None
    vs_baseline: Comparison | None = None
    comparisons: tuple[Comparison, ...] = ()
    #: How it differs between builds, where several were evaluated.
    builds: BuildSpread | None = None
    details: JsonMapping = Factory(dict)


@frozen(kw_only=True)
class AxisResult(OfFigure):
    """An axis of the front."""

    #: Workload of the axis, where the run has several.
    workload: str | None = None


@frozen(kw_only=True)
class FrontResult:
    """The front's verdict on one cell."""

    on_front: bool
    dominated_by: tuple[str, ...] = ()
    tied_with: tuple[str, ...] = ()
    #: Share of bootstrap draws in which the cell is on the front.
    probability: float | None = None


@frozen(kw_only=True)
class PickResult(OfFigure):
    """The best cell for one aim."""

    #: Aim in words, such as ``"the smallest artifact"``.
    aim: str
    #: Id of the picked cell: no other is better by more than the metric's margin.
    cell: str
    #: Other cells than which none is better by more than the margin, so that each could be picked as well.
    tied_with: tuple[str, ...] = ()
    #: Name of the metric that decided between the tied cells.
    decided_by: str | None = None
    #: Cells that may be as good, which is neither shown nor excluded.
    not_told_apart: tuple[str, ...] = ()


@frozen(kw_only=True)
class UndecidedResult(OfFigure):
    """An aim for which the noise of this run allows no pick."""

    #: Aim in words, such as ``"the lowest latency"``.
    aim: str
    #: Cells of which one is the best, but between which the metric does not decide.
    contenders: tuple[str, ...]
    #: Half of the widest 95 % interval of a comparison between contenders: a share where the metric is
    #: compared by ratio, else in its unit. None where there are too few samples for an interval.
    half_width: float | None
    #: Estimate of the seconds of measuring that are enough for a pick, for a metric that is measured in
    #: launches; None where there is no estimate.
    seconds: float | None = None
    #: Estimate of the evaluation items that are enough for a pick, for a metric over items.
    items: int | None = None


@frozen(kw_only=True)
class OutputsResult:
    """How far an output of a cell is from the baseline's, over all items of the evaluation."""

    cell: str
    #: Name of the output.
    output: str = OUTPUT
    #: Signal-to-quantization-noise ratio in dB: the sum of squares of the baseline's outputs over that of
    #: the differences. None where there is no difference, and where the ratio does not exist.
    sqnr_db: float | None
    #: Whether the cell computes something else than the baseline: the differences are larger than the outputs
    #: (below 0 dB) or not finite, or the shapes differ.
    is_below_0_db: bool


@frozen(kw_only=True)
class NoiseFloor(OfFigure):
    """What the control shows: the apparent speedup of a model that is the baseline itself."""

    kind: str
    value: float
    ci: tuple[float, float] | None
    #: Whether 1.0 lies outside the control's 99.9 % interval, so that the timings cannot be trusted.
    alarm: bool
    #: Workload of the control, where there are several.
    workload: str | None = None


@frozen(kw_only=True)
class PairResult:
    """One recipe in two runtimes, which should behave the same; every comparison pairs the items."""

    cell: str
    #: Id of the cell with the same recipe in another runtime.
    counterpart: str
    #: Share of items for which both cells put the same class highest, its interval, and the number of items.
    agreement: float | None
    ci: tuple[float, float] | None
    n: int


@frozen(kw_only=True)
class LimitResult:
    """A constraint that the user set, and which cells of a workload meet it."""

    constraint: Constraint
    #: Metric that the constraint limits, and the point that it was measured at; None where there is none.
    metric: str | None = None
    point: Point | None = None
    #: Verdict by the id of each cell that has a figure.
    verdicts: Mapping[str, Verdict] = Factory(dict)
    #: Why no cell can be judged; empty where cells can.
    reason: str = ""
    #: Workload of the cells, where there are several.
    workload: str | None = None


@frozen(kw_only=True)
class SummaryFigure(OfFigure):
    """How a config compares with the baseline in one metric, over several workloads."""

    #: Kind of the comparison: ``ratio``, ``speedup`` or ``difference``.
    kind: str
    #: Geometric mean of ratios and speedups, arithmetic mean of differences; and the range.
    value: float
    smallest: float
    largest: float
    #: Workloads that it was measured on.
    workloads: tuple[str, ...]


@frozen(kw_only=True)
class SummaryResult:
    """One config, with its options, over several workloads."""

    #: Id of its cells, without the workload.
    row: str
    config: str
    #: Workloads on which it ended well, and those on whose front it is.
    succeeded: tuple[str, ...]
    on_front: tuple[str, ...]
    #: Figures of the metrics that are axes.
    figures: tuple[SummaryFigure, ...]


@frozen(kw_only=True)
class ThreadSpeedup(OfFigure):
    """How much faster a config is with more threads than with the smallest number of them."""

    cell: str
    threads: int
    #: Comparison with the same config at the smallest number of threads, whose cell ``against`` names.
    comparison: Comparison


@frozen(kw_only=True)
class Results:
    """The results of a whole run."""

    run: RunRecord
    environment: Environment
    #: Records of the metrics by name, so that a report needs no plugin.
    metrics: Mapping[str, Metric]
    configs: Mapping[str, ConfigResult]
    cells: Mapping[str, CellResult]
    measurements: tuple[Measurement, ...]
    axes: tuple[AxisResult, ...]
    front: Mapping[str, FrontResult]
    picks: tuple[PickResult, ...]
    noise_floor: tuple[NoiseFloor, ...]
    #: Pairs of cells with one recipe in two runtimes.
    pairs: tuple[PairResult, ...] = ()
    #: Configs over all workloads; empty where there is only one workload.
    summary: tuple[SummaryResult, ...] = ()
    #: Speedups of configs from threads; empty where there is only one number of threads.
    thread_speedups: tuple[ThreadSpeedup, ...] = ()
    #: Aims for which the noise allows no pick.
    undecided: tuple[UndecidedResult, ...] = ()
    #: Errors of the outputs of each cell that was evaluated, without the baseline and the control.
    outputs: tuple[OutputsResult, ...] = ()
    #: Constraints that the user set, with the cells that meet them.
    limits: tuple[LimitResult, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def ended_well(self) -> bool:
        """Whether every cell and every metric that was expected has its figures."""
        return not self.run.failures

    @property
    def cells_without_outputs(self) -> frozenset[str]:
        """The ids of the cells whose outputs are too large to be kept with the samples."""
        return frozenset(
            name
            for name, cell in self.cells.items()
            if self.run.workloads[cell.workload].outputs_not_kept is not None
        )

    @property
    def logs(self) -> str | None:
        """Name of the folder of logs within that of the results; None if no cell has a log."""
        logs = (cell.log for cell in self.cells.values() if cell.log is not None)
        return next((log.partition("/")[0] for log in logs), None)
