"""Results as a comparison takes them: with their raw samples where these are there, and with a label."""

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

#: Workload, config, options as JSON, threads: what a cell is known by in every run.
Key: TypeAlias = tuple[str, str, str, int]

#: What must be the same in both runs, and how it is called.
SAME = {"weights_sha256": "weights", "evaluation_sha256": "evaluation data"}
CALIBRATION = "calibration data"


@frozen(kw_only=True, eq=False, slots=False)
class Source:
    """The results of one run."""

    #: As the user named it.
    place: str
    results: Results
    #: None where the samples do not lie beside the results.
    recording: Recording | None
    label: str = ""

    @cached_property
    def cells(self) -> dict[Key, str]:
        """The cells by what they are known by in every run; the control is not among them."""
        return {key(cell): name for name, cell in self.results.cells.items() if not cell.control}

    @cached_property
    def measurements(self) -> dict[tuple[str, Column], Measurement]:
        """What was measured of each cell."""
        return {(one.cell, Column.of(one.metric, one.params)): one for one in self.results.measurements}

    @property
    def name(self) -> str:
        """What messages call it: its label, else where it lies."""
        return self.label or self.place

    def partner(self, other: Source, cell: str) -> str | None:
        """The cell that is ``cell`` of another run.

        Options that one of the two runs does not know are passed over where that leaves one cell only, seen
        from either run: an option that a later version of a plugin adds makes no other cell of it, and the
        cells of a sweep have none in common.
        """
        if exact := self.cells.get(key(other.results.cells[cell])):
            return exact
        alike = self._alike(other, cell)
        return alike[0] if len(alike) == 1 and other._alike(self, alike[0]) == [cell] else None

    def _alike(self, other: Source, cell: str) -> list[str]:
        """Cells that may be a cell of another run: no option that both know differs, and neither is met."""
        of = other.results.cells[cell]
        return [
            name
            for known, name in self.cells.items()
            if known not in other.cells and _may_be(self.results.cells[name], of)
        ]

    def baseline(self, cell: str) -> str | None:
        """The cell that this one is compared with in its own run."""
        own = self.results.cells[cell]
        reference = self.results.cells.get(baseline_of(self.results.run, own.workload))
        if reference is None:
            return None
        place = own.workload, reference.config, own.threads
        for name, other in self.results.cells.items():
            if _place(other) == place and other.outcome == "ok" and not other.control:
                return name
        return None

    def treats(self, workload: str) -> bool:
        """Whether any cell of a workload ended well."""
        return any(cell.workload == workload and cell.outcome == "ok" for cell in self.results.cells.values())

    def control(self, cell: str) -> str | None:
        """The second self of its baseline."""
        own = self.results.cells[cell]
        for name, other in self.results.cells.items():
            if other.control and (other.workload, other.threads) == (own.workload, own.threads):
                return name
        return None

    def quantity(self, cell: str, column: Column) -> Quantity:
        """A metric over the cells that share the baseline, and the waves, of this one."""
        workload, baseline = self.results.cells[cell].workload, self.baseline(cell) or ""
        known = self._quantities.get((workload, baseline, column))
        if known is not None:
            return known
        cells = {name: one for name, one in self.results.cells.items() if one.workload == workload}
        made = self._quantities[workload, baseline, column] = Quantity(
            self.metric(column),
            dict(column.params).get("batch_size"),
            (self.recording or Recording()).select(cells),
            baseline,
            {name for name, one in cells.items() if one.outcome != "ok" or self._failed(name, column)},
        )
        return made

    @cached_property
    def _quantities(self) -> dict[tuple[str, str, Column], Quantity]:
        """Those that somebody asked for: what they compute is computed once."""
        return {}

    def _failed(self, cell: str, column: Column) -> bool:
        measured = self.measurements.get((cell, column))
        return measured is not None and measured.outcome != "ok"

    def metric(self, column: Column) -> Metric:
        """The record of a metric."""
        return self.results.metrics[column.metric]

    def is_exact(self, cell: str, column: Column) -> bool:
        """The value of a cell has no sampling error."""
        metric = self.metric(column)
        if metric.samples != "exact" or metric.phase == "artifact":
            return metric.samples == "exact"
        if self.recording is not None:
            quantity = self.quantity(cell, column)
            return cell in quantity.measured and quantity.is_exact(cell)
        # Without samples a value that is derived goes by whether it was told with an interval.
        measured = self.measurements.get((cell, column))
        return metric.phase == "derived" and measured is not None and measured.ci is not None

    def outputs(self, cell: str) -> Array | None:
        """What a cell gave in the evaluation, where it is known."""
        return None if self.recording is None else self.recording.outputs.get(cell)

    def options(self, column: Column) -> dict[str, OptionValue]:
        """The options of a metric, with the values that it was measured with."""
        given = self.results.run.get("metric_options", {}).get(column.metric, {})
        return {**self.default_options(column), **given}

    def default_options(self, column: Column) -> dict[str, OptionValue]:
        """The same, with the values that they have when nobody sets them."""
        return {option.name: option.default for option in self.metric(column).options}

    @property
    def fingerprint(self) -> str | None:
        """That of the machine, where the run recorded one."""
        found = self.results.environment.get("fingerprint")
        return str(found) if found else None

    @property
    def software(self) -> tuple[object, ...]:
        """Everything of the software that the run recorded."""
        found = self.results.environment
        return found.get("python"), found.get("system"), tuple(sorted(versions(self).items()))


def key(cell: CellResult) -> Key:
    """What a cell is known by in every run."""
    return cell.workload, cell.config, json.dumps(dict(cell.options), sort_keys=True), cell.threads


def _place(cell: CellResult) -> tuple[str, str, int]:
    return cell.workload, cell.config, cell.threads


def _may_be(cell: CellResult, other: CellResult) -> bool:
    """They differ in nothing but options that only one of the two knows."""
    shared = {*cell.options} & {*other.options}
    return (
        _place(cell) == _place(other)
        and {*cell.options} != {*other.options}
        and all(cell.options[name] == other.options[name] for name in shared)
    )


def read(argument: str) -> Source:
    """The results in ``PATH`` or ``LABEL=PATH``, a file or a folder. Raises ``UsageError``."""
    label, sign, rest = argument.partition("=")
    if not sign or Path(argument).exists():
        label, rest = "", argument
    elif not label.strip():
        raise UsageError(f"{argument} has no label before its =")
    path = Path(rest)
    found = results.read(path)
    folder = path if path.is_dir() else path.parent
    # Only the name counts: the samples lie beside the results, wherever both were moved to.
    samples = folder / Path(str(found.run["samples"])).name
    recording = read_samples(samples) if samples.is_file() else None
    if recording is not None:
        check_whole(found, recording, samples)
    return Source(place=rest, results=found, recording=recording, label=label.strip())


def refusal(base: Source, ours: Source, *, other_calibration: bool = False) -> str | None:
    """Why these two runs cannot be compared at all; None where they can."""
    theirs, own = base.results.run["workloads"], ours.results.run["workloads"]
    pair = f"{ours.place} and {base.place}"
    shared = [name for name in theirs if name in own]
    if not shared:
        return (
            f"{pair} are of different workloads, {', '.join(own) or 'none'} and {', '.join(theirs) or 'none'}"
        )
    # Of a workload that could not even be prepared there is nothing to compare, and no hash.
    for workload in (name for name in shared if base.treats(name) and ours.treats(name)):
        pairs = [
            (what, theirs[workload].get(field), own[workload].get(field)) for field, what in SAME.items()
        ]
        if not other_calibration:
            first, second = (run[workload].get("calibrations", {}) for run in (theirs, own))
            pairs += [(CALIBRATION, first[count], second[count]) for count in first if count in second]
        for what, before, after in pairs:
            if before is None or before != after:
                hint = "; --other-calibration compares them all the same" if what == CALIBRATION else ""
                told = f"SHA-256 {_short(after)} against {_short(before)}"
                return f"{pair} have different {what} of {workload} ({told}){hint}"
    return None


def _short(sha: object) -> str:
    return str(sha)[:8] if sha else "unknown"


# Labels -------------------------------------------------------------------------------------------


def named(sources: Sequence[Source]) -> list[Source]:
    """The same, each with a label of its own: Python and torch, and as much more as tells them apart."""
    given = [source.label for source in sources if source.label]
    if twice := next((label for label in given if given.count(label) > 1), None):
        raise UsageError(f"the label {twice!r} is given twice")
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
    told: list[Source] = []
    for source in sources:
        label = source.label or _joined(source, facts)
        taken = {one.label for one in told} | ({*given} if not source.label else set())
        number = 2
        while label in taken:
            label, number = f"{source.label or _joined(source, facts)} ({number})", number + 1
        told.append(evolve(source, label=label))
    return told


def _joined(source: Source, facts: Sequence[Callable[[Source], str]]) -> str:
    return ", ".join(fact(source) for fact in facts)


def _short_version(version: object) -> str:
    return ".".join(str(version).split(".")[:2])


def versions(source: Source) -> Mapping[str, str]:
    """Versions of the distributions that decide figures."""
    found = source.results.environment.get("distributions") or {}
    return {str(name): str(version) for name, version in found.items()}


def machine(source: Source) -> str:
    """The machine in words."""
    found = source.results.environment
    memory = found.get("memory_bytes")
    parts = [
        str(found.get("cpu", "unknown CPU")),
        f"{found.get('cpus', '?')} CPUs",
        f"{memory / 2**30:.0f} GiB" if memory else "",
    ]
    return ", ".join(part for part in parts if part)
