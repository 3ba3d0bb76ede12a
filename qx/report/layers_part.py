"""What ``qx layers`` found, in words: a part of the report of a run, kept beside its results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from attrs import asdict, evolve, frozen

from qx.errors import UsageError
from qx.files import read_bounded
from qx.foreign import to_line
from qx.processes.structuring import structure
from qx.report import layers
from qx.results.records import Results
from qx.runner.layers import LayersReport
from qx.storage import strict_json

#: The file beside the results of a run that holds what was found about its configs.
FILE = "layers.json"
#: Largest size of that file in bytes.
MOST_BYTES = 1 << 26


@frozen(kw_only=True)
class Shown:
    """A table in words: its head, and its rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@frozen(kw_only=True)
class LayersPart:
    """What was found about the layers of one row of a run."""

    workload: str
    #: Name of the config with its options.
    row: str
    #: Quality of the fp32 model and of the config, a line each.
    qualities: Sequence[str]
    #: What each layer in float gives back; None where none was tried.
    gains: Shown | None
    gains_explained: str
    #: Errors and ranges of all layers, without rows where the config quantizes none.
    errors: Shown
    errors_explained: Sequence[str]
    #: Signal over noise of each row of errors alone in 8 bits, in dB; None where it is not known.
    alone: Sequence[float | None]
    conclusion: Sequence[str]
    #: The command that acts on it; empty where there is none.
    command: str


@frozen(kw_only=True)
class Parts:
    """The content of the file: what was found about configs of one run."""

    #: Name of the file of samples of the run, which no other run has.
    samples: str
    parts: Sequence[LayersPart]

    def with_part(self, part: LayersPart) -> Parts:
        """Return the same with a part, in place of a former one about the same row."""
        kept = [one for one in self.parts if (one.workload, one.row) != (part.workload, part.row)]
        return evolve(self, parts=[*kept, part])

    def to_text(self) -> str:
        """Return the text of the file."""
        return json.dumps(asdict(self), indent=2) + "\n"


def part_of(report: LayersReport, command: Sequence[str]) -> LayersPart:
    """Return a report in words; ``command`` is the command line of a run without the config."""
    head, rows = layers.error_table(report)
    ratios = {layer.name: layer.alone for layer in report.layers}
    return LayersPart(
        workload=report.workload,
        row=report.row,
        qualities=layers.qualities(report, report.metric) if report.metric is not None else [],
        gains=_gains(report),
        gains_explained=layers.gains_explained(report) if report.gains else "",
        errors=Shown(head=head, rows=rows),
        errors_explained=list(layers.errors_explained(report)),
        alone=[ratios[row[0]] for row in rows],
        conclusion=list(layers.conclusion(report)) if report.layers else [],
        command=layers.command_of(report, command) if report.recipe else "",
    )


def _gains(report: LayersReport) -> Shown | None:
    if report.metric is None or not report.gains:
        return None
    head, rows = layers.gain_table(report, report.metric)
    return Shown(head=head, rows=rows)


def read_parts(folder: Path, results: Results) -> Parts:
    """Return what was found about the configs of a run; nothing of another run in the same folder.

    Raises ``UsageError`` in one line for a file that ``qx layers`` has not written.
    """
    place, samples = folder / FILE, Path(results.run.samples).name
    none = Parts(samples=samples, parts=[])
    if not place.is_file():
        return none
    try:
        found = structure(Parts, strict_json.loads(read_bounded(place, MOST_BYTES)))
        _check_tables(found)
    except (OSError, ValueError) as error:
        raise UsageError(f"{place} cannot be read: {error}; remove it, or have qx layers write it") from error
    return found if found.samples == samples else none


def _check_tables(found: Parts) -> None:
    """Raise ``ValueError`` where a row of a table has not as many cells as its head."""
    for part in found.parts:
        for table in filter(None, [part.gains, part.errors]):
            if not table.head or any(len(row) != len(table.head) for row in table.rows):
                raise ValueError(f"a table of {to_line(part.row, 60)!r} has rows of different lengths")
