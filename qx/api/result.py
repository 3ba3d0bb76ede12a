"""``Result``: the figures of a run as an object; ``load`` reads them from files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from qx.analysis.recompute import read_samples
from qx.api import frames, tables
from qx.api.plots import Plots
from qx.api.tables import HTML, Pick, Table
from qx.cli.places import check_writable
from qx.errors import UsageError
from qx.files import FULL
from qx.processes.logs import copy_logs
from qx.report import markdown, screen, wording
from qx.report.written import pictures
from qx.results import results_file
from qx.results.columns import View, with_units
from qx.results.constraints import Verdict
from qx.results.recording import Recording
from qx.results.records import Results
from qx.values import JsonObject

if TYPE_CHECKING:
    from pandas import DataFrame


@frozen(eq=False, repr=False, slots=False)
class Result:
    """The result of a run: the figures of every cell with intervals, the front, the picks, the samples.

    ``qx.run`` returns one, and ``qx.load`` reads one from files. Printed it is the screen that ``qx run``
    shows on a terminal, and in a notebook a table with the picks.
    """

    #: The records behind it, as ``full_results.json`` has them.
    results: Results
    _recording: Recording | None = None
    #: Folder of the files that it was read from, or written into; None: it is in memory only.
    folder: Path | None = None
    _logs_folder: Path | None = None

    @property
    def ended_well(self) -> bool:
        """Whether every cell and every metric that was expected has its figures."""
        return self.results.ended_well

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each cell and each metric that should have figures and has none."""
        return self.results.run.failures

    @property
    def logs(self) -> dict[str, Path]:
        """The log of each cell that has one: what plugins printed for it, and tracebacks of their errors.

        Those of a result that was not saved lie in the cache, which keeps those of the last 50 runs.
        """
        home = self._logs_folder or self.folder
        logs = {name: cell.log for name, cell in self.results.cells.items() if cell.log is not None}
        files = {} if home is None else {name: home / log for name, log in logs.items()}
        return {name: file for name, file in files.items() if file.is_file()}

    @cached_property
    def table(self) -> Table:
        """All cells, a dict for each: those on the front first, the fastest first among them."""
        return tables.table_of(self.results)

    @cached_property
    def front(self) -> Table:
        """The cells that are on the front, or perhaps on it."""
        return tables.table_of(self.results, only_front=True)

    @cached_property
    def picks(self) -> tuple[Pick, ...]:
        """The best config for each aim; those between which the noise does not decide come last."""
        return tables.picks_of(self.results)

    @property
    def within(self) -> dict[str, Verdict | None]:
        """Whether each cell meets the constraints of the run: ``"surely"``, ``"perhaps"`` or ``"no"``.

        By the name of the cell; None where that cannot be judged, and where there are no constraints.
        """
        view = View(self.results)
        return {view.name(cell): part.meets(cell) for part in view.parts for cell in part.rows}

    @cached_property
    def samples(self) -> Recording:
        """All raw samples: ``series`` of a cell by its figure, and ``outputs``. Raises ``UsageError``.

        Of a result that was loaded they are read when they are first asked for, and checked.
        """
        if self._recording is not None:
            return self._recording
        if self.folder is None:
            raise UsageError("this result has no samples, and no folder to read them from")
        return read_samples(self.folder / self.results.run.samples)

    @property
    def plot(self) -> Plots:
        """Plots with matplotlib: ``plot.pareto()`` and ``plot.waves()``."""
        return Plots(self.results, lambda: self.samples)

    def to_records(self) -> list[JsonObject]:
        """Return a dict for each figure of each cell: its value, and how it compares with the baseline.

        The keys are ``workload``, ``config``, ``cell``, ``metric``, ``batch_size``; ``value``, ``unit``,
        ``better``, ``low`` and ``high`` (95 % interval), ``n``, ``outcome``, ``cause``; ``comparison``
        (``"ratio"``, ``"speedup"`` or ``"difference"``), ``comparison_value``, ``comparison_low``,
        ``comparison_high``, ``comparison_p``, ``comparison_clear``; and with ``build_seeds`` the number of
        ``builds``, and ``builds_deviation``, ``builds_smallest`` and ``builds_largest`` of the values
        between them. What does not apply is None.
        """
        return frames.measurement_records(self.results)

    def to_pandas(self) -> DataFrame:
        """Return ``to_records`` as a tidy frame of pandas, a row for each figure of each cell.

        Raises ``UsageError`` without pandas, which the extra ``notebook`` installs.
        """
        return frames.measurement_frame(self.results)

    def comparisons_to_pandas(self) -> DataFrame:
        """Return a frame with a row for each comparison of two cells.

        Each cell is compared with the baseline, with the fp32 config of its runtime, with the same recipe in
        another runtime, and with the cells on the front: ``against`` names the other cell, ``kind`` says what
        ``value`` is.
        """
        return frames.comparison_frame(self.results)

    def samples_to_pandas(self, metrics: str | Sequence[str] = ()) -> DataFrame:
        """Return a frame with a row for each raw sample of these metrics, or of all.

        ``wave``, ``round`` and ``position`` say where a timed sample comes from, ``group`` which class an
        item has.
        """
        names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        if unknown := [name for name in names if name not in self.results.metrics]:
            choices = ", ".join(self.results.metrics)
            raise UsageError(f"metric {unknown[0]!r} is not in this result, which has {choices}")
        return frames.sample_frame(self.results, self.samples, names)

    def save(self, folder: str | Path) -> Result:
        """Write the files of a run into a folder, as ``qx run --out``; return the result with its folder.

        They are ``full_results.json``, ``pareto.md``, ``report.html``, the raw samples and the logs. Raises
        ``UsageError`` where they cannot be written.
        """
        place = check_writable(Path(folder))
        try:
            copy_logs(self.logs.values(), place)
            results_file.write(
                place,
                self.results,
                markdown.render(self.results),
                self.samples,
                pictures(self.results, self.samples),
            )
        except OSError as error:
            advice = "; free space there, or name another folder" if error.errno in FULL else ""
            raise UsageError(f"cannot write into {place}: {error.strerror or error}{advice}") from error
        return evolve(self, folder=place, logs_folder=place)

    def __repr__(self) -> str:
        names = ", ".join(self.results.run.workloads)
        return f"<qx.Result of {names}: {len(self.table)} cells, {len(self.front)} on the front>"

    def __str__(self) -> str:
        return screen.render(self.results)

    def _repr_html_(self) -> str:
        """Return a compact table with the picks; all text of the results is escaped, and nothing is run."""
        view = View(evolve(self.results, metrics=with_units(self.results.metrics, HTML.text)))
        head = f"<p>{wording.title(view, HTML)}</p>"
        alarm = wording.alarm(view, HTML)
        items = "".join(f"<li>{sentence}</li>" for sentence in tables.pick_sentences(self.results, HTML))
        return (
            f'<div class="qx-result">{head}{f"<p>{alarm}</p>" if alarm else ""}{self.table.to_html()}'
            f"{f'<ul>{items}</ul>' if items else ''}</div>"
        )


def load(path: str | Path) -> Result:
    """Read the result of a run from its folder, or from its ``full_results.json``.

    Files that earlier versions of qx have written are read, too. Raw samples are read when they are asked
    for. Raises ``UsageError`` where there are no results, or where they are not whole.
    """
    place = Path(path)
    return Result(results_file.read(place), folder=place if place.is_dir() else place.parent)
