"""``qx report``: show the results of an earlier run again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli.arguments import DEFAULT_FORMAT, add_limit_options, add_verbose_option, constraints_of

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.report.html.sections import Part
    from qx.results.recording import Recording
    from qx.results.records import Results


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="show the results of an earlier run again, computed anew from its raw samples",
        description="Read full_results.json, compute every figure again from the raw samples beside it, "
        "write pareto.md, pareto.svg and report.html again and print the table.",
    )
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        default=Path("artifacts/results"),
        metavar="PATH",
        help="a results file, or the folder that it lies in (default: artifacts/results)",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="print the whole report in any of tabulate's formats (default: on a terminal one screen, else "
        "the whole as simple)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write the reports (default: beside the results)"
    )
    parser.add_argument(
        "--history",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="show in report.html how the figures of its configs moved over these runs too: a folder of "
        "results, or one with folders of results in it (repeatable; see qx history)",
    )
    add_limit_options(parser)
    add_verbose_option(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the results, compute the figures again, write the report, print it."""
    from qx.analysis.constraints import check_judged, with_constraints
    from qx.cli import OK, warn_of_broken
    from qx.cli.places import check_writable
    from qx.cli.results_screen import print_results
    from qx.files import write_together
    from qx.host.host import Host
    from qx.report import markdown, terminal
    from qx.report.layers_part import read_parts
    from qx.report.written import pictures
    from qx.results import results_file as results

    terminal.check_format(arguments.format or DEFAULT_FORMAT)
    warn_of_broken(Host.discover(arguments.plugins), debug=arguments.debug)
    constraints = constraints_of(arguments)
    stored = results.read(arguments.path)
    folder = arguments.path if arguments.path.is_dir() else arguments.path.parent
    out = check_writable(arguments.out or folder)
    parts = read_parts(folder, stored).parts
    shown, recording = _recompute(stored, folder)
    if constraints:
        shown = with_constraints(shown, constraints)
        check_judged(shown)
    over_time = _history(arguments, shown) if arguments.history else ()
    table, further = markdown.render(shown), pictures(shown, recording, parts, over_time)
    if recording is not None and not stored.run.analysed and out == folder:
        # Its run has left samples and no figures.
        results.write(out, shown, table, recording, further)
    else:
        written = {results.TABLE: table, **further}
        write_together({out / name: text.encode() for name, text in written.items()})
    print_results(shown, arguments, [out / results.TABLE, out / results.PAGE])
    return OK


def _history(arguments: argparse.Namespace, shown: Results) -> tuple[Part, ...]:
    """Return the part about this run and those of ``--history``, over the cells of this run."""
    from qx.history import collect, of_cells, read_runs
    from qx.history.page import part_of_page

    history = collect(read_runs([arguments.path, *arguments.history]))
    return (part_of_page(of_cells(history, shown)),)


def _recompute(stored: Results, folder: Path) -> tuple[Results, Recording | None]:
    """Return results with figures computed again from the samples, and these; unchanged without samples."""
    from qx.amounts import size_in_words
    from qx.analysis.recompute import differences, read_samples, recompute
    from qx.cli.streams import say

    # The samples lie beside the results even where both were moved: only the file's name counts.
    samples = folder / Path(stored.run.samples).name
    if not samples.is_file():
        say(
            f"qx: {samples} does not exist, so the figures are taken from the results file and not "
            "computed again"
        )
        return stored, None
    for name, workload in stored.run.workloads.items():
        if workload.outputs_not_kept is not None:
            say(
                f"qx: {name}: the outputs ({size_in_words(workload.outputs_not_kept)}) were too large to be "
                f"kept with the samples, so their errors against the baseline's (SQNR, below 0 dB) are "
                f"those of the results file; all other figures are computed again"
            )
    recording = read_samples(samples)
    computed = recompute(stored, recording, samples)
    if stored.run.analysed and (differing := differences(stored, computed)):
        say(
            f"qx: {len(differing)} figures computed from {samples} differ from those in the file, which "
            f"another version of qx may have computed (first: {differing[0]}); the computed ones are shown"
        )
    return computed, recording
