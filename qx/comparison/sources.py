"""Read the results of runs for a comparison, with their raw samples where available, and label them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from attrs import evolve, frozen

from qx.analysis.quantity import Quantity
from qx.analysis.recompute import check_whole, read_samples
from qx.comparison.records import OUTPUTS
from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.report.wording import evaluated_items
from qx.results import results_file as results
from qx.results.cells import Identity
from qx.results.recording import Recording
from qx.results.records import CellResult, Measurement, Results
from qx.results.run_record import WorkloadRecord
from qx.values import OptionValue

#: What runs that are compared have in common, as messages name it.
WEIGHTS, EVALUATION, CALIBRATION = "weights", "evaluation data", "calibration data"
#: Fields of a workload that must be the same in both runs, and what they are.
SAME_FIELDS = {"weights_sha256": WEIGHTS, "evaluation_sha256": EVALUATION}
#: Options of ``qx compare`` and ``qx gate`` that allow a difference, by what differs.
ALLOWING = {WEIGHTS: "--other-weights", CALIBRATION: "--other-calibration"}


@frozen(kw_only=True, eq=False, slots=False)
class Source:
    """The results of one run."""

    #: Path of the results, as the user named it.
    place: str
    results: Results
    #: Raw samples. None where they do not lie beside the results.
    recording: Recording | None
    label: str = ""

    @cached_property
    def cells(self) -> dict[Identity, str]:
        """The ids of cells by what identifies them in every run, without the control."""
        return {cell.identity: name for name, cell in self.results.cells.items() if not cell.control}

    @cached_property
    def measurements(self) -> dict[tuple[str, Figure], Measurement]:
        """The measurements by cell and figure."""
        return {(measured.cell, measured.figure): measured for measured in self.results.measurements}

    @property
    def name(self) -> str:
        """The name of the run in messages: its label, else its path."""
        return self.label or self.place

    def partner(self, other: Source, cell: str) -> str | None:
        """Return the cell of this run that corresponds to ``cell`` of another run, if there is one.

        Options that only one of the two runs knows are ignored if that leaves exactly one candidate in both
        directions. So a cell keeps its partner when a later version of a plugin adds an option, while the
        cells of a sweep over a new option have none.
        """
        if exact := self.cells.get(other.results.cells[cell].identity):
            return exact
        candidates = self._candidates(other, cell)
        if len(candidates) != 1 or other._candidates(self, candidates[0]) != [cell]:
            return None
        return candidates[0]

    def _candidates(self, other: Source, cell: str) -> list[str]:
        """Return the cells without an exact partner that differ from ``cell`` in no option that both know."""
        target = other.results.cells[cell]
        return [
            name
            for identity, name in self.cells.items()
            if identity not in other.cells and _may_be_same(self.results.cells[name], target)
        ]

    def baseline(self, cell: str) -> str | None:
        """Return the cell that this one is compared with in its own run."""
        own = self.results.cells[cell]
        reference = self.results.cells.get(self.results.run.baseline_of(own.workload))
        if reference is None:
            return None
        for name, other in self.results.cells.items():
            is_same = (other.place, other.config) == (own.place, reference.config)
            if is_same and other.outcome == "ok" and not other.control:
                return name
        return None

    def has_results_of(self, workload: str) -> bool:
        """Whether any cell of a workload ended well."""
        return any(cell.workload == workload and cell.outcome == "ok" for cell in self.results.cells.values())

    def control(self, cell: str) -> str | None:
        """Return the control, which is the baseline measured a second time, of the cell's workload."""
        own = self.results.cells[cell]
        for name, other in self.results.cells.items():
            if other.control and other.place == own.place:
                return name
        return None

    def quantity(self, cell: str, figure: Figure) -> Quantity:
        """Return a metric over the cells that share this cell's workload, with its baseline."""
        workload, baseline = self.results.cells[cell].workload, self.baseline(cell) or ""
        cached = self._quantities.get((workload, baseline, figure))
        if cached is not None:
            return cached
        cells = {name: own for name, own in self.results.cells.items() if own.workload == workload}
        quantity = self._quantities[workload, baseline, figure] = Quantity(
            self.metric(figure),
            figure.point,
            (self.recording or Recording()).select(cells),
            baseline,
            {name for name, own in cells.items() if own.outcome != "ok" or self._has_failed(name, figure)},
            self.results.run.sittings_of(workload),
        )
        return quantity

    @cached_property
    def _quantities(self) -> dict[tuple[str, str, Figure], Quantity]:
        """Quantities that were asked for, kept so that what they compute is computed once."""
        return {}

    def _has_failed(self, cell: str, figure: Figure) -> bool:
        measured = self.measurements.get((cell, figure))
        return measured is not None and measured.outcome != "ok"

    def metric(self, figure: Figure) -> Metric:
        """Return the record of a metric."""
        return self.results.metrics[figure.metric]

    def is_exact(self, cell: str, figure: Figure) -> bool:
        """Whether the value of a cell has no sampling error."""
        metric = self.metric(figure)
        if metric.samples != "exact" or metric.phase == "artifact":
            return metric.samples == "exact"
        if self.recording is not None:
            quantity = self.quantity(cell, figure)
            return cell in quantity.measured and quantity.is_exact(cell)
        # Without samples, a derived value is exact if the results give an interval with it.
        measured = self.measurements.get((cell, figure))
        return metric.phase == "derived" and measured is not None and measured.ci is not None

    def options(self, figure: Figure) -> dict[str, OptionValue]:
        """Return the options of a metric with the values that it was measured with."""
        values = self.results.run.metric_options.get(figure.metric, {})
        return {**self.default_options(figure), **values}

    def default_options(self, figure: Figure) -> dict[str, OptionValue]:
        """Return the options of a metric with their default values."""
        return {option.name: option.default for option in self.metric(figure).options}

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the machine. None where the run recorded none."""
        return self.results.environment.fingerprint or None

    @property
    def cpus(self) -> tuple[int, ...] | None:
        """The CPUs of ``--cpus``. None where nothing was measured."""
        measuring = self.results.run.measuring
        return None if measuring is None else measuring.cpus

    @property
    def software(self) -> tuple[object, ...]:
        """The software that the run recorded: Python, the system, the versions of distributions."""
        environment = self.results.environment
        return environment.python, environment.system, tuple(sorted(environment.distributions.items()))


def _may_be_same(cell: CellResult, other: CellResult) -> bool:
    """Whether two cells differ only in options that one of them does not know."""
    shared = {*cell.options} & {*other.options}
    return (
        (cell.place, cell.config) == (other.place, other.config)
        and {*cell.options} != {*other.options}
        and all(cell.options[name] == other.options[name] for name in shared)
    )


def read(argument: str) -> Source:
    """Read the results in ``PATH`` or ``LABEL=PATH``, a file or a folder, and the raw samples beside them.

    Samples that are missing are left out. Raises ``UsageError`` for files that are missing or damaged.
    """
    label, sign, rest = argument.partition("=")
    if not sign or Path(argument).exists():
        label, rest = "", argument
    elif not label.strip():
        raise UsageError(f"{argument} has no label before the =")
    path = Path(rest)
    content = results.read(path)
    folder = path if path.is_dir() else path.parent
    # The samples lie beside the results even where both were moved: only the file's name counts.
    samples = folder / Path(content.run.samples).name
    recording = read_samples(samples) if samples.is_file() else None
    if recording is not None:
        check_whole(content, recording, samples)
    return Source(place=rest, results=content, recording=recording, label=label.strip())


def how_made(source: Source) -> list[str]:
    """Return what is to be known of how results were made: of a part, or in several sittings."""
    run, notes = source.results.run, []
    if run.is_partial:
        notes.append("it was interrupted, so these are results of a part")
    if len(run.sittings) > 1:
        notes.append(f"it was made in {len(run.sittings)} sittings")
    return notes


def refusal(
    base: Source, ours: Source, *, other_calibration: bool = False, other_weights: bool = False
) -> str | None:
    """Return why two runs cannot be compared at all. None where they can."""
    theirs, own = base.results.run.workloads, ours.results.run.workloads
    pair = f"{ours.place} and {base.place}"
    shared = [name for name in theirs if name in own]
    if not shared:
        return (
            f"{pair} are of different workloads, {', '.join(own) or 'none'} and {', '.join(theirs) or 'none'}"
        )
    for workload in _with_results(base, ours):
        pairs = [
            (subject, getattr(theirs[workload], field), getattr(own[workload], field))
            for field, subject in SAME_FIELDS.items()
            if not (other_weights and subject == WEIGHTS)
        ]
        if not other_calibration:
            first, second = (run[workload].calibrations for run in (theirs, own))
            pairs += [(CALIBRATION, first[count], second[count]) for count in first if count in second]
        for subject, before, after in pairs:
            if before is None or before != after:
                hint = f"; give {ALLOWING[subject]} to compare them anyway" if subject in ALLOWING else ""
                facts = f"SHA-256 {_short(after)} against {_short(before)}"
                if subject == EVALUATION:
                    facts = f"{_counts(own[workload], theirs[workload])}{facts}"
                return f"{pair} have different {subject} of {workload} ({facts}){hint}"
    return None


def _counts(ours: WorkloadRecord, base: WorkloadRecord) -> str:
    """Return the numbers of items that were evaluated, where both are known and differ; else nothing."""
    if ours.items is None or base.items is None or ours.items == base.items:
        return ""
    can_draw = ours.total_items == base.total_items is not None and ours.looks is None and base.looks is None
    advice = ", --eval-n draws as many" if can_draw else ""
    numbers = evaluated_items(ours), evaluated_items(base).removesuffix(" items")
    return f"{' against '.join(numbers)}{advice}; "


def _with_results(base: Source, ours: Source) -> list[str]:
    """Return the workloads that both runs have results of.

    A workload that could not be prepared has nothing to compare, and no hash.
    """
    return [
        name
        for name in base.results.run.workloads
        if name in ours.results.run.workloads and base.has_results_of(name) and ours.has_results_of(name)
    ]


def notes_on_items(source: Source) -> tuple[str, ...]:
    """Say of each workload of which not all items were evaluated how many of how many were."""
    return tuple(
        f"{name} was evaluated on {evaluated_items(workload)}"
        for name, workload in source.results.run.workloads.items()
        if workload.items is not None and (workload.total_items or 0) > workload.items
    )


def differing_weights(base: Source, ours: Source) -> tuple[str, ...]:
    """Return the workloads that had other weights in the base, or weights of which a run knows no hash."""
    theirs, own = base.results.run.workloads, ours.results.run.workloads
    return tuple(
        name
        for name in _with_results(base, ours)
        if own[name].weights_sha256 is None or own[name].weights_sha256 != theirs[name].weights_sha256
    )


def note_on_weights(base: Source, ours: Source) -> str | None:
    """Say which workloads had other weights in the base, and what that means for the figures; else None."""
    theirs, own = base.results.run.workloads, ours.results.run.workloads
    hashes = [
        f"{name} (SHA-256 {_short(own[name].weights_sha256)} against {_short(theirs[name].weights_sha256)})"
        for name in differing_weights(base, ours)
    ]
    if not hashes:
        return None
    metrics = ours.results.metrics.items()
    judging = [
        name
        for name, metric in metrics
        if metric.phase == "predictions" and metric.samples in ("per_item", "per_set")
    ]
    relative = [
        name for name, metric in metrics if metric.phase == "derived" and OUTPUTS in metric.derived_from
    ]
    parts = [
        f"other weights than {base.name} of {', '.join(hashes)}",
        *([f"{', '.join(judging)} on the same items in pairs"] if judging else []),
        *([f"{', '.join(relative)} of each run against its own baseline"] if relative else []),
        "all else as usual",
    ]
    return "; ".join(parts)


def _short(sha: object) -> str:
    return str(sha)[:8] if sha else "unknown"


# Labels -------------------------------------------------------------------------------------------


def with_labels(sources: Sequence[Source]) -> list[Source]:
    """Return the sources, each with a label of its own.

    A label that the user did not choose names Python and torch, and such further facts as tell the runs
    apart.
    """
    chosen = [source.label for source in sources if source.label]
    if duplicate := next((label for label in chosen if chosen.count(label) > 1), None):
        raise UsageError(f"the label {duplicate!r} is given twice")
    facts: list[Callable[[Source], str]] = [
        lambda source: f"Python {_short_version(source.results.environment.python)}",
        lambda source: f"torch {versions(source).get('torch', 'unknown')}",
    ]
    unnamed = [source for source in sources if not source.label]
    for fact in (
        machine,
        lambda source: f"machine {source.fingerprint or 'unknown'}",
        lambda source: f"qx {versions(source).get('quant-explorer', 'unknown')}",
        lambda source: f"engine {source.results.run.engine}",
        lambda source: source.results.run.started.replace("T", " ")[:16],
        lambda source: source.results.run.id,
        lambda source: source.place,
    ):
        if len({_joined(source, facts) for source in unnamed}) == len(unnamed):
            break
        if len({fact(source) for source in unnamed}) > 1:
            facts.append(fact)
    labelled: list[Source] = []
    for source in sources:
        label = source.label or _joined(source, facts)
        used = {earlier.label for earlier in labelled} | ({*chosen} if not source.label else set())
        number = 2
        while label in used:
            label, number = f"{source.label or _joined(source, facts)} ({number})", number + 1
        labelled.append(evolve(source, label=label))
    return labelled


def _joined(source: Source, facts: Sequence[Callable[[Source], str]]) -> str:
    return ", ".join(fact(source) for fact in facts)


def _short_version(version: object) -> str:
    return ".".join(str(version).split(".")[:2])


def versions(source: Source) -> Mapping[str, str]:
    """Return the versions of the distributions that decide figures."""
    return source.results.environment.distributions


def machine(source: Source) -> str:
    """Describe the machine: CPU, number of CPUs, memory."""
    environment = source.results.environment
    memory = f"{environment.memory_bytes / 2**30:.0f} GiB" if environment.memory_bytes else ""
    cpus = "?" if environment.cpus is None else environment.cpus
    devices = [facts.product for facts in environment.devices.values()]
    return ", ".join(filter(None, [environment.cpu, f"{cpus} CPUs", memory, *devices]))
