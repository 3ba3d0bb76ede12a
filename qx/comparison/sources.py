"""Read the results of runs for a comparison, with their raw samples where available, and label them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from attrs import evolve, frozen

from qx.analysis.quantity import Quantity
from qx.analysis.recompute import check_whole, read_samples
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.results import results_file as results
from qx.results.columns import Column
from qx.results.recording import Recording
from qx.results.records import CellResult, Measurement, Results
from qx.results.summary import baseline_of
from qx.values import Array, OptionValue

#: Key that identifies a cell in every run: workload, config, options as JSON, threads.
Key: TypeAlias = tuple[str, str, str, int]

#: Fields of a workload that must be the same in both runs, and their names in messages.
SAME_FIELDS = {"weights_sha256": "weights", "evaluation_sha256": "evaluation data"}
CALIBRATION = "calibration data"


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
    def cells(self) -> dict[Key, str]:
        """The ids of cells by their keys, without the control."""
        return {key(cell): name for name, cell in self.results.cells.items() if not cell.control}

    @cached_property
    def measurements(self) -> dict[tuple[str, Column], Measurement]:
        """The measurements by cell and column."""
        return {
            (measured.cell, Column.of(measured.metric, measured.params)): measured
            for measured in self.results.measurements
        }

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
        if exact := self.cells.get(key(other.results.cells[cell])):
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
            for own_key, name in self.cells.items()
            if own_key not in other.cells and _may_be_same(self.results.cells[name], target)
        ]

    def baseline(self, cell: str) -> str | None:
        """Return the cell that this one is compared with in its own run."""
        own = self.results.cells[cell]
        reference = self.results.cells.get(baseline_of(self.results.run, own.workload))
        if reference is None:
            return None
        place = own.workload, reference.config, own.threads
        for name, other in self.results.cells.items():
            if _place(other) == place and other.outcome == "ok" and not other.control:
                return name
        return None

    def has_results_of(self, workload: str) -> bool:
        """Whether any cell of a workload ended well."""
        return any(cell.workload == workload and cell.outcome == "ok" for cell in self.results.cells.values())

    def control(self, cell: str) -> str | None:
        """Return the control, which is the baseline measured a second time, of the cell's workload."""
        own = self.results.cells[cell]
        for name, other in self.results.cells.items():
            if other.control and (other.workload, other.threads) == (own.workload, own.threads):
                return name
        return None

    def quantity(self, cell: str, column: Column) -> Quantity:
        """Return a metric over the cells that share this cell's workload, with its baseline."""
        workload, baseline = self.results.cells[cell].workload, self.baseline(cell) or ""
        cached = self._quantities.get((workload, baseline, column))
        if cached is not None:
            return cached
        cells = {name: own for name, own in self.results.cells.items() if own.workload == workload}
        quantity = self._quantities[workload, baseline, column] = Quantity(
            self.metric(column),
            dict(column.params).get("batch_size"),
            (self.recording or Recording()).select(cells),
            baseline,
            {name for name, own in cells.items() if own.outcome != "ok" or self._has_failed(name, column)},
        )
        return quantity

    @cached_property
    def _quantities(self) -> dict[tuple[str, str, Column], Quantity]:
        """Quantities that were asked for, kept so that what they compute is computed once."""
        return {}

    def _has_failed(self, cell: str, column: Column) -> bool:
        measured = self.measurements.get((cell, column))
        return measured is not None and measured.outcome != "ok"

    def metric(self, column: Column) -> Metric:
        """Return the record of a metric."""
        return self.results.metrics[column.metric]

    def is_exact(self, cell: str, column: Column) -> bool:
        """Whether the value of a cell has no sampling error."""
        metric = self.metric(column)
        if metric.samples != "exact" or metric.phase == "artifact":
            return metric.samples == "exact"
        if self.recording is not None:
            quantity = self.quantity(cell, column)
            return cell in quantity.measured and quantity.is_exact(cell)
        # Without samples, a derived value is exact if the results give an interval with it.
        measured = self.measurements.get((cell, column))
        return metric.phase == "derived" and measured is not None and measured.ci is not None

    def outputs(self, cell: str) -> Array | None:
        """Return the outputs of a cell in the evaluation. None where they are not recorded."""
        return None if self.recording is None else self.recording.single(cell)

    def options(self, column: Column) -> dict[str, OptionValue]:
        """Return the options of a metric with the values that it was measured with."""
        values = self.results.run.get("metric_options", {}).get(column.metric, {})
        return {**self.default_options(column), **values}

    def default_options(self, column: Column) -> dict[str, OptionValue]:
        """Return the options of a metric with their default values."""
        return {option.name: option.default for option in self.metric(column).options}

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the machine. None where the run recorded none."""
        fingerprint = self.results.environment.get("fingerprint")
        return str(fingerprint) if fingerprint else None

    @property
    def software(self) -> tuple[object, ...]:
        """The software that the run recorded: Python, the system, the versions of distributions."""
        environment = self.results.environment
        return environment.get("python"), environment.get("system"), tuple(sorted(versions(self).items()))


def key(cell: CellResult) -> Key:
    """Return the key that identifies a cell in every run."""
    return cell.workload, cell.config, json.dumps(dict(cell.options), sort_keys=True), cell.threads


def _place(cell: CellResult) -> tuple[str, str, int]:
    return cell.workload, cell.config, cell.threads


def _may_be_same(cell: CellResult, other: CellResult) -> bool:
    """Whether two cells differ only in options that one of them does not know."""
    shared = {*cell.options} & {*other.options}
    return (
        _place(cell) == _place(other)
        and {*cell.options} != {*other.options}
        and all(cell.options[name] == other.options[name] for name in shared)
    )


def read(argument: str) -> Source:
    """Read the results in ``PATH`` or ``LABEL=PATH``, a file or a folder. Raises ``UsageError``."""
    label, sign, rest = argument.partition("=")
    if not sign or Path(argument).exists():
        label, rest = "", argument
    elif not label.strip():
        raise UsageError(f"{argument} has no label before its =")
    path = Path(rest)
    content = results.read(path)
    folder = path if path.is_dir() else path.parent
    # The samples lie beside the results even where both were moved: only the file's name counts.
    samples = folder / Path(str(content.run["samples"])).name
    recording = read_samples(samples) if samples.is_file() else None
    if recording is not None:
        check_whole(content, recording, samples)
    return Source(place=rest, results=content, recording=recording, label=label.strip())


def refusal(base: Source, ours: Source, *, other_calibration: bool = False) -> str | None:
    """Return why two runs cannot be compared at all. None where they can."""
    theirs, own = base.results.run["workloads"], ours.results.run["workloads"]
    pair = f"{ours.place} and {base.place}"
    shared = [name for name in theirs if name in own]
    if not shared:
        return (
            f"{pair} are of different workloads, {', '.join(own) or 'none'} and {', '.join(theirs) or 'none'}"
        )
    # A workload that could not be prepared has nothing to compare, and no hash.
    for workload in (name for name in shared if base.has_results_of(name) and ours.has_results_of(name)):
        pairs = [
            (subject, theirs[workload].get(field), own[workload].get(field))
            for field, subject in SAME_FIELDS.items()
        ]
        if not other_calibration:
            first, second = (run[workload].get("calibrations", {}) for run in (theirs, own))
            pairs += [(CALIBRATION, first[count], second[count]) for count in first if count in second]
        for subject, before, after in pairs:
            if before is None or before != after:
                hint = "; --other-calibration compares them all the same" if subject == CALIBRATION else ""
                hashes = f"SHA-256 {_short(after)} against {_short(before)}"
                return f"{pair} have different {subject} of {workload} ({hashes}){hint}"
    return None


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
        lambda source: f"Python {_short_version(source.results.environment.get('python'))}",
        lambda source: f"torch {versions(source).get('torch', 'unknown')}",
    ]
    unnamed = [source for source in sources if not source.label]
    for fact in (
        machine,
        lambda source: f"machine {source.fingerprint or 'unknown'}",
        lambda source: f"qx {versions(source).get('quant-explorer', 'unknown')}",
        lambda source: f"engine {source.results.run.get('engine')}",
        lambda source: str(source.results.run.get("started", "")).replace("T", " ")[:16],
        lambda source: str(source.results.run.get("id", "")),
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
    distributions = source.results.environment.get("distributions") or {}
    return {str(name): str(version) for name, version in distributions.items()}


def machine(source: Source) -> str:
    """Describe the machine: CPU, number of CPUs, memory."""
    environment = source.results.environment
    memory = environment.get("memory_bytes")
    parts = [
        str(environment.get("cpu", "unknown CPU")),
        f"{environment.get('cpus', '?')} CPUs",
        f"{memory / 2**30:.0f} GiB" if memory else "",
    ]
    return ", ".join(part for part in parts if part)
