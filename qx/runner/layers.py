"""Find the layers that cost a config quality: compare them all, then leave the worst in float, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

from qx.analysis import on_items
from qx.contract.figures import Figure
from qx.contract.float_layers import SEPARATOR, chosen_names
from qx.contract.options import label
from qx.contract.records import FLOAT_LAYERS, Loader, Metric
from qx.contract.rounding import Rounding
from qx.errors import UsageError
from qx.host.host import Entry, Host
from qx.processes.job_answers import LayerFigures, LayerOutputsAnswer, LayersAnswer
from qx.processes.jobs import InspectJob, LayerOutputsJob, LayersJob
from qx.processes.logs import Subject
from qx.processes.workers import Failure, Processes, processes_of_a_run
from qx.results.cells import CellId
from qx.results.recording import Recording
from qx.runner.building import build_cells
from qx.runner.builds import build_job
from qx.runner.derivation import derive_metrics
from qx.runner.evaluation import check_room, evaluate_cells
from qx.runner.one import logs_of_command
from qx.runner.preparation import Prepared, prepare
from qx.runner.request import Chosen, Reporter, Request, cell_of, choose, config, metric, references
from qx.runner.run import outputs_folder
from qx.runner.settings import Variant
from qx.runner.workload_run import Run, WorkloadRun
from qx.statistics.intervals import Difference

#: Confidence of the intervals of all differences together.
LEVEL = 0.95


@frozen(kw_only=True)
class Value:
    """The value of the quality metric of a cell; its interval is None where none is known."""

    value: float
    ci: tuple[float, float] | None


@frozen(kw_only=True)
class Gain:
    """What leaving one layer in float gives back."""

    #: The quality with the layer in float; None where there is none.
    value: Value | None = None
    #: Difference from the config as it is, on the same items, in the unit of the metric: its interval and p
    #: hold for all layers that were tried together.
    difference: float | None = None
    ci: tuple[float, float] | None = None
    p: float | None = None
    #: Why there is no difference; empty where there is.
    cause: str = ""


@frozen(kw_only=True)
class LayersReport:
    """The layers of a config on a workload, and what those that were tried in float give back."""

    workload: str
    config: str
    #: Name of the config with the options that the user set.
    row: str
    #: Value of the config's own ``float_layers``.
    float_layers: str
    #: Number of items on which layers were compared.
    items: int
    #: Number of those on which the effect of each layer alone was computed.
    items_alone: int
    is_simulated: bool
    #: How layers are simulated, where they are.
    rounding: Rounding = Rounding()
    #: Why the errors that have arrived are not known of an artifact that is no module; empty where they are.
    refusal: str = ""
    #: Name of the config in float of the same runtime that they are beside; None where they are of a module.
    reference: str | None = None
    #: Layers that the config quantizes, in the model's order.
    layers: Sequence[LayerFigures]
    #: The metric of quality; None where none was computed.
    metric: Metric | None = None
    #: Number of items on which the quality was computed.
    evaluated: int = 0
    baseline: Value | None = None
    quantized: Value | None = None
    #: What was tried, by the name of the layer.
    gains: Mapping[str, Gain]

    def worst(self, count: int | None = None) -> list[LayerFigures]:
        """Return the layers with an error, those first that alone cost the outputs most."""
        return worst_layers(self.layers, count)

    @property
    def has_arrived(self) -> bool:
        """Whether the errors that have arrived are known: of a module, or of some layers of an artifact."""
        return not self.is_simulated or any(layer.arrived is not None for layer in self.layers)

    @property
    def tried(self) -> list[str]:
        """The layers that were tried in float, those first that give back most; without a result last."""
        sign = -1 if self.metric is not None and self.metric.better == "higher" else 1

        def rank(name: str) -> tuple[bool, float]:
            difference = self.gains[name].difference
            return difference is None, 0.0 if difference is None else sign * difference

        return sorted(self.gains, key=rank)

    @property
    def recipe(self) -> str:
        """The value of ``float_layers`` that acts on what was found; empty where nothing was.

        It names the layers that surely give something back. Where none does and quality is lost, it names the
        two with the largest errors, which may have to be in float together; where none was tried, the worst.
        """
        names = self.helpful
        if not names and (self.has_lost or not self.gains):
            names = [layer.name for layer in self.worst(2 if self.gains else 1)]
        return SEPARATOR.join([*filter(None, [self.float_layers]), chosen_names(names)]) if names else ""

    @property
    def has_lost(self) -> bool:
        """Whether the config's quality is worse than that of the fp32 model, as far as both are known."""
        if self.metric is None or self.baseline is None or self.quantized is None:
            return False
        lost = self.baseline.value - self.quantized.value
        return lost > 0 if self.metric.better == "higher" else lost < 0

    @property
    def helpful(self) -> list[str]:
        """The layers in float that surely give something back: the interval excludes 0."""
        return [name for name in self.tried if self._is_better(self.gains[name])]

    def _is_better(self, gain: Gain) -> bool:
        if gain.ci is None or self.metric is None:
            return False
        return gain.ci[0] > 0 if self.metric.better == "higher" else gain.ci[1] < 0


def _error_of(layer: LayerFigures) -> float | None:
    return layer.made if layer.alone is None else layer.alone


def list_layers(host: Host, request: Request, name: str, reporter: Reporter) -> Mapping[str, int]:
    """Return the layers that a config quantizes and can leave in float, with their numbers of weights.

    Raises ``UsageError``.
    """
    chosen, variant, _ = _choose(host, request, name)
    with processes_of_a_run(logs=logs_of_command(request, reporter)) as processes:
        prepared = _prepared(host, request, chosen, processes, reporter, [variant])
        if name in prepared.refusals:
            raise UsageError(f"{name}: {prepared.refusals[name]}")
        return _listed(prepared, request, variant.entry, processes)


def find_costly_layers(
    host: Host, request: Request, name: str, reporter: Reporter, *, items: int, top: int
) -> LayersReport:
    """Compare the layers of a config, and build it anew with each of the ``top`` worst in float.

    With a ``top`` of 0 layers are only compared, on ``items`` items. Raises ``UsageError``, or ``Failure``
    where the config itself cannot be built.
    """
    chosen, variant, reference = _choose(host, request, name)
    logs = logs_of_command(request, reporter)
    with processes_of_a_run(request.session, logs) as processes, outputs_folder(request) as outputs:
        needed = (*chosen.variants, *([reference] if reference else []))
        prepared = _prepared(host, request, chosen, processes, reporter, needed)
        if name in prepared.refusals:
            raise prepared.refusals[name]
        run = Run(host, request, chosen, processes, reporter, Recording(), None, outputs)
        workload = prepared.workload.name
        own = cell_of(workload, variant, request)
        wanted = chosen.variants if top else (variant,)
        cells = {str(cell): cell for cell in (cell_of(workload, one, request) for one in wanted)}
        workload_run = WorkloadRun(workload, prepared, cells, request.seed, logs=logs)
        build_cells(run, workload_run)
        if str(own) in workload_run.failures:
            raise workload_run.failures[str(own)]
        answer = compare_layers(run, workload_run, own, items)
        report = LayersReport(
            workload=workload,
            config=name,
            row=own.row,
            float_layers=str(variant.options[FLOAT_LAYERS.name]),
            items=answer.items,
            items_alone=answer.items_alone,
            is_simulated=answer.is_simulated,
            rounding=answer.rounding,
            layers=answer.layers,
            gains={},
        )
        if answer.is_simulated and reference is not None:
            report = _with_arrived(report, run, workload_run, own, reference, items)
        if not top:
            return report
        variants = {layer.name: with_layers_in_float(variant, [layer.name]) for layer in report.worst(top)}
        cells |= {str(cell): cell for cell in (cell_of(workload, one, request) for one in variants.values())}
        check_room(run, [workload_run])
        for step in (build_cells, evaluate_cells, derive_metrics):
            step(run, workload_run)
        if str(own) in workload_run.failures:
            raise workload_run.failures[str(own)]
    return _with_gains(
        report,
        run,
        workload_run,
        str(own),
        {layer: str(cell_of(workload, one, request)) for layer, one in variants.items()},
    )


def compare_layers(run: Run, workload_run: WorkloadRun, cell: CellId, items: int) -> LayersAnswer:
    """Compare the layers of a cell that is built with those of the fp32 model. Raises ``Failure``."""
    prepared, request = workload_run.ready, run.request
    run.reporter.phase("layers", f"{cell.row}, {min(items, prepared.items)} items")
    loader = run.host.get("loader", workload_run.builds[str(cell)].manifest.loader).record
    assert isinstance(loader, Loader)
    job = LayersJob(
        seed=request.seed,
        engine=prepared.engine,
        build=build_job(run.host, request, prepared, cell, run.host.get("config", cell.config)),
        is_module=loader.rebuilds,
        inputs=str(prepared.evaluation),
        items=items,
    )
    subject = workload_run.subject(str(cell))
    return run.processes.run(job, "layers", subject, timeout=request.timeout, progress=run.reporter.step)


def _with_arrived(
    report: LayersReport, run: Run, workload_run: WorkloadRun, own: CellId, reference: Variant, items: int
) -> LayersReport:
    """Return the report with the errors that have arrived at layers inside of the artifact, if known.

    They are beside the same values in the artifact of ``reference``, the same runtime in float, which is
    built for that.
    """
    served = workload_run.builds[str(own)].stored
    if not run.host.implements(served.loader.name, "layer_outputs"):
        return evolve(report, refusal=f"loader {served.loader.name} gives no values inside of its artifacts")
    other = cell_of(workload_run.name, reference, run.request)
    try:
        answer = _arrived(run, workload_run, own, other, items)
    except Failure as failure:
        return evolve(report, refusal=str(failure))
    layers = [evolve(layer, arrived=answer.arrived.get(layer.name)) for layer in report.layers]
    return evolve(report, layers=layers, refusal=answer.refusal, reference=reference.entry.name)


def _arrived(
    run: Run, workload_run: WorkloadRun, own: CellId, other: CellId, items: int
) -> LayerOutputsAnswer:
    """Build the artifact in float, and compare both inside. Raises ``Failure``."""
    prepared, request = workload_run.ready, run.request
    if other.config in prepared.refusals:
        raise prepared.refusals[other.config]
    workload_run.cells[str(other)] = other
    build_cells(run, workload_run)
    if str(other) in workload_run.failures:
        raise workload_run.failures[str(other)]
    job = LayerOutputsJob(
        seed=request.seed,
        engine=prepared.engine,
        wrappers=references(run.host.wrappers),
        artifact=workload_run.builds[str(own)].stored,
        reference=workload_run.builds[str(other)].stored,
        inputs=str(prepared.evaluation),
        items=items,
    )
    subject = workload_run.subject(str(own))
    return run.processes.run(job, "layer_outputs", subject, timeout=request.timeout)


def worst_layers(layers: Sequence[LayerFigures], count: int | None = None) -> list[LayerFigures]:
    """Return the layers with an error, those first that alone cost the outputs most."""
    known = [layer for layer in layers if _error_of(layer) is not None]
    return sorted(known, key=lambda layer: _error_of(layer) or 0.0)[:count]


def with_layers_in_float(variant: Variant, layers: Sequence[str]) -> Variant:
    """Return a config with these layers in float too, beside those that are already."""
    own = str(variant.options[FLOAT_LAYERS.name])
    text = SEPARATOR.join(filter(None, [own, chosen_names(layers)]))
    options = {**variant.options, FLOAT_LAYERS.name: text}
    return evolve(variant, options=options, label=label({FLOAT_LAYERS.name: text}))


def _choose(host: Host, request: Request, name: str) -> tuple[Chosen, Variant, Variant | None]:
    """Return the plugins that are needed, and the config with its options.

    The last is its runtime's config in float, if that is not the baseline. Raises ``UsageError``.
    """
    request.check()
    entry = host.get_ready("config", name)
    if not config(entry).float_layers:
        raise UsageError(f"config {name} leaves no layers in float: it has no option {FLOAT_LAYERS.name!r}")
    chosen = choose(host, evolve(request, configs=(name,)))
    (baseline,) = (one for one in chosen.variants if one.entry.name == chosen.baseline.name)
    own = [one for one in chosen.variants if one.entry.name == name]
    if len(own) != 1:
        raise UsageError(f"one set of options is expected here, not {len(own)}: give each option one value")
    others = [one for one in chosen.variants if one.entry.name == config(entry).runtime_baseline]
    reference = next((one for one in others if one is not baseline), None)
    kept = evolve(chosen, variants=(baseline, own[0]), metrics=_quality_metrics(chosen))
    return kept, own[0], reference


def _quality_metrics(chosen: Chosen) -> tuple[Entry, ...]:
    """Return the metrics that judge answers, with those that they are derived from."""
    judging = [entry for entry in chosen.metrics if metric(entry).quality]
    sources = {name for entry in judging for name in metric(entry).derived_from}
    return tuple(entry for entry in chosen.metrics if entry in judging or entry.name in sources)


def _prepared(
    host: Host,
    request: Request,
    chosen: Chosen,
    processes: Processes,
    reporter: Reporter,
    variants: Sequence[Variant],
) -> Prepared:
    if len(chosen.workloads) != 1:
        names = ", ".join(entry.name for entry in chosen.workloads)
        raise UsageError(f"one MODEL is expected here, not {len(chosen.workloads)}: {names}")
    (workload,) = chosen.workloads
    options = chosen.workload_options[workload.name]
    return prepare(host, request, workload, processes, reporter, options, variants)


def _listed(prepared: Prepared, request: Request, entry: Entry, processes: Processes) -> Mapping[str, int]:
    assert prepared.workload.reference is not None
    job = InspectJob(
        seed=request.seed,
        workload=prepared.workload.reference,
        workload_options=prepared.options,
        weights=str(prepared.weights) if prepared.weights else None,
        engine=prepared.engine,
        configs=references([entry]),
        float_layers={entry.name: ()},
    )
    try:
        answer = processes.run(job, "layers", Subject(entry.name, entry.name), timeout=request.timeout)
    except Failure as failure:
        raise UsageError(f"{entry.name}: {failure}") from failure
    return answer.layers.get(entry.name, {})


# Gains --------------------------------------------------------------------------------------------


def _with_gains(
    report: LayersReport, run: Run, workload_run: WorkloadRun, own: str, cells: Mapping[str, str]
) -> LayersReport:
    """Return the report with the quality of the cells of layers in float, compared with the config's own."""
    record = _metric_of(run, own)
    if record is None:
        cause = "no metric of quality has a value for this config"
        return evolve(report, gains={layer: Gain(cause=cause) for layer in cells})
    series = {
        cell: run.recording.get(cell, Figure(record.name))
        for cell in (*cells.values(), own, run.chosen.baseline_cell(workload_run.name, run.request))
    }

    def value_of(cell: str) -> Value | None:
        samples = series[cell]
        if samples is None:
            return None
        estimate = on_items.estimate(record, samples)
        return Value(value=estimate.value, ci=estimate.ci)

    gains = {}
    for layer, cell in cells.items():
        ours, theirs = series[cell], series[own]
        if ours is None or theirs is None:
            failure = workload_run.failures.get(cell)
            gains[layer] = Gain(cause="it has no value" if failure is None else str(failure))
            continue
        # Bonferroni: all intervals together hold with the level.
        difference = on_items.compare(record, ours, theirs, 1 - (1 - LEVEL) / len(cells))
        gains[layer] = _gain(value_of(cell), difference, len(cells))
    return evolve(
        report,
        metric=record,
        evaluated=workload_run.ready.items,
        baseline=value_of(run.chosen.baseline_cell(workload_run.name, run.request)),
        quantized=value_of(own),
        gains=gains,
    )


def _gain(value: Value | None, difference: Difference | None, count: int) -> Gain:
    if difference is None:
        return Gain(value=value, cause="the difference is not known")
    return Gain(
        value=value,
        difference=difference.value,
        ci=difference.ci,
        p=None if difference.p is None else min(1.0, count * difference.p),
    )


def _metric_of(run: Run, cell: str) -> Metric | None:
    """Return the metric of the highest rank that compares by difference and has samples of a cell."""
    records = sorted(map(metric, run.chosen.metrics), key=lambda record: -record.quality)
    for record in records:
        has_samples = run.recording.get(cell, Figure(record.name)) is not None
        if record.quality and record.compare == "difference" and has_samples:
            return record
    return None
