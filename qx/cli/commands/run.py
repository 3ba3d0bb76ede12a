"""``qx run``: compare configs on workloads."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qx.cli.arguments import (
    DEFAULT_FORMAT,
    add_build_options,
    add_device_option,
    add_limit_options,
    add_recipe_option,
    add_score_options,
    add_verbose_option,
    add_workload_options,
    build_request,
    constraints_of,
    take_recipe,
)
from qx.cli.executors import add_executor_options, check_executor, executor_of, on_one

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.host.host import Host
    from qx.results.recording import Recording
    from qx.results.records import Results
    from qx.runner.journal import Journal
    from qx.runner.request import Request

#: Folder for the results of the default workload. Those of another go into a folder of its name within.
OUT = Path("artifacts/results")
#: What the first Ctrl-C does.
ENDING = "ending in order, with results of what there is; Ctrl-C again ends at once"


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="compare configs on a model: the whole matrix, the table, the front",
        description="Build every config, measure every metric, and write full_results.json and pareto.md.",
    )
    add_workload_options(parser, several=True)
    add_build_options(parser)
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="NAME",
        dest="configs",
        help="a config to compare (repeatable; default: all but those that train), beside the baseline",
    )
    add_recipe_option(parser)
    parser.add_argument("--all", action="store_true", help="all configs, those that train for minutes too")
    parser.add_argument(
        "-m",
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        dest="metrics",
        help="a metric to measure (repeatable; default: all but those for special questions; +NAME: beside "
        "the default ones)",
    )
    add_score_options(parser)
    parser.add_argument(
        "--batch-size",
        action="append",
        type=int,
        metavar="N",
        dest="batch_sizes",
        help="a batch size to time (repeatable; default: as the workload says, else 1 and 32; the first is "
        "the front's)",
    )
    parser.add_argument(
        "--length",
        action="append",
        default=[],
        type=int,
        metavar="N",
        dest="lengths",
        help="a length of inputs to time at each batch size, where a dimension is free (repeatable; default: "
        "those that the workload says, else inputs as the data have them)",
    )
    parser.add_argument(
        "--build-seeds",
        type=int,
        default=1,
        metavar="N",
        help="build each config that draws data N times, with other calibration items and seeds, and show "
        "how much that changes; latency and memory stay those of the first (default: 1)",
    )
    parser.add_argument("--yes", action="store_true", help="run, even if it is more than 1,000 cells")
    parser.add_argument(
        "--threads",
        type=int,
        action="append",
        metavar="N",
        help="threads that serve (repeatable: each number has waves and a baseline of its own, and the "
        "speedup from threads is shown; default: 1)",
    )
    add_device_option(parser)
    parser.add_argument(
        "--precision",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="half-width that the 95%% interval of every speedup is to reach (default: 0.01)",
    )
    parser.add_argument(
        "--quality-precision",
        metavar="AMOUNT",
        help="end the evaluation once the quality of every config is known so well against fp32 (half-width "
        "of the 95%% interval): 0.2pt for shares, a number such as 0.01 for others (default: all items)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="for all launches, shared by the workloads (default: for each of them 60 for up to five "
        "configs, 12 more for each further one)",
    )
    parser.add_argument(
        "--max-time",
        metavar="TIME",
        help="limit of the whole run, such as 600, 10m or 1h: what it is too short for is left out, and the "
        "results are written (default: as long as it takes)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a first look: three waves and 15 s, with intervals that are too narrow, and of some "
        "workloads a part of the items",
    )
    parser.add_argument(
        "--cpus", type=_cpus, default=(), metavar="LIST", help="hold launches to these CPUs (0,2 or 0-3)"
    )
    parser.add_argument(
        "--front",
        action="append",
        default=[],
        metavar="METRIC",
        help="an axis of the front (repeatable; default: the metrics that say they are)",
    )
    add_limit_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (default: artifacts/results; within it a folder for a model other than the "
        "default workload, or NAME+NAME for several)",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="DIR",
        help="go on with the unfinished run whose results belong into DIR (default: as --out), with its own "
        "command line: give the same one, or none",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="print the whole report in any of tabulate's formats (default: on a terminal one screen, else "
        "the whole as simple)",
    )
    add_executor_options(parser)
    add_verbose_option(parser)
    parser.set_defaults(func=run)


def _cpus(text: str) -> tuple[int, ...]:
    """Parse a list of CPUs: ``0,2``, ``0-3`` or both."""
    cpus: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not (last.isdigit() and int(first) <= int(last))):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a list of CPUs; expected numbers and ranges, such as 0,2 or 0-3"
            )
        cpus += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(cpus))


def run(arguments: argparse.Namespace) -> int:
    """Run the comparison, write the results, print the report."""
    from qx.cli import warn_of_broken
    from qx.cli.places import check_writable, results_folder
    from qx.cli.resuming import with_own_words
    from qx.host.host import Host
    from qx.report import terminal
    from qx.runner.journal import FILE
    from qx.runner.request import choose_workloads
    from qx.storage.holding import hold_folder

    began = time.monotonic()
    terminal.check_format(arguments.format or DEFAULT_FORMAT)
    check_executor(arguments)
    if arguments.resume is not None:
        arguments = with_own_words(arguments, OUT)
    host = Host.discover(arguments.plugins, trust_cache=arguments.trust_cache)
    warn_of_broken(host, debug=arguments.debug)
    take_recipe(arguments)
    request = _request(arguments)
    request.check()
    names = [entry.name for entry in choose_workloads(host, request)]
    out = check_writable(arguments.out or results_folder(host, names, OUT))
    if len(arguments.on) > 1:
        return _run_on_each(host, request, arguments, out, began)
    # The folder of a journal may be named itself; the results lie above it.
    place = out.parent if arguments.resume is not None and (out / FILE).is_file() else out
    with hold_folder(place):
        return _carry_out(host, request, arguments, out, place, began)


def _run_on_each(host: Host, request: Request, arguments: argparse.Namespace, out: Path, began: float) -> int:
    """Carry out a request on each kind of machine, one after another, and write the table across."""
    from qx.cli.streams import say
    from qx.files import write_whole
    from qx.report import machines
    from qx.results import results_file as results
    from qx.storage.holding import hold_folder

    codes: list[int] = []
    for name in arguments.on:
        own = on_one(arguments, name, out / name)
        is_done = (
            arguments.resume is not None and own.resume is None and (own.out / results.RESULTS).is_file()
        )
        if is_done:
            say(f"qx: {own.out} has the results on {name} already")
            continue
        own.out.mkdir(parents=True, exist_ok=True)
        with hold_folder(own.out):
            codes.append(_carry_out(host, request, own, own.out, own.out, began))
        if codes[-1] > 1:
            return codes[-1]
    table = out / machines.FILE
    write_whole(table, machines.render({name: results.read(out / name) for name in arguments.on}).encode())
    say(f"qx: the table across machines is in {table}")
    return max(codes, default=0)


def _request(arguments: argparse.Namespace) -> Request:
    from qx.amounts import to_seconds
    from qx.results.quality_precision import read_quality_precision
    from qx.runner.request import DEFAULT_BATCH_SIZES

    max_time = None if arguments.max_time is None else to_seconds(arguments.max_time, "--max-time")
    return build_request(
        arguments,
        configs=arguments.configs,
        every=arguments.all,
        metrics=arguments.metrics,
        batch_sizes=tuple(dict.fromkeys(arguments.batch_sizes or DEFAULT_BATCH_SIZES)),
        is_default_batch_sizes=not arguments.batch_sizes,
        lengths=tuple(dict.fromkeys(arguments.lengths)),
        threads=arguments.threads or 1,
        device=arguments.device,
        precision=arguments.precision,
        quality_precision=read_quality_precision(arguments.quality_precision),
        budget=arguments.budget,
        max_time=max_time,
        quick=arguments.quick,
        cpus=arguments.cpus,
        front=arguments.front,
        constraints=constraints_of(arguments),
        build_seeds=arguments.build_seeds,
        score=arguments.score,
        score_better=arguments.score_better,
        yes=arguments.yes,
    )


def _carry_out(
    host: Host, request: Request, arguments: argparse.Namespace, named: Path, out: Path, began: float
) -> int:
    """Carry out a request, write the results into ``out`` and print them; ``named`` may be a journal."""
    from attrs import evolve

    from qx.analysis.constraints import check_judged
    from qx.cli import INTERRUPTED, NOT_WELL, OK, TERMINATED
    from qx.cli.display import display
    from qx.cli.places import results_folder
    from qx.cli.results_screen import print_results
    from qx.cli.resuming import check_same_run, with_advice
    from qx.cli.streams import say
    from qx.processes.interruption import Interruption
    from qx.results import results_file as results
    from qx.runner import run as run_matrix
    from qx.runner.assembly import AnalysisError
    from qx.runner.journal import Journal, head_of, words_of_resumed

    def folder(names: Sequence[str]) -> Path:
        return out if arguments.out is not None else results_folder(host, names, OUT)

    results.settle(out)
    if arguments.resume is None:
        journal = Journal.begin(out, head_of(arguments.words))
        if journal.set_aside is not None:
            say(
                f"qx: the journal of a run that did not end is set aside until this one has ended: "
                f"qx run --resume {journal.set_aside} goes on with that"
            )
    else:
        journal = Journal.resume(named)
        request = evolve(request, command=("qx", *journal.head.words))
    with with_advice(journal):
        if arguments.resume is not None:
            check_same_run(journal.head, arguments)
            say(f"qx: {words_of_resumed(journal)}")
        interruption = Interruption()
        try:
            with (
                executor_of(arguments) as executor,
                display() as reporter,
                interruption.listening(lambda: reporter.say(ENDING)),
            ):
                outcome, recording = run_matrix(
                    *(host, request, reporter, folder, began, journal, interruption), executor
                )
        except AnalysisError as error:
            _write_samples(out, error.results, error.recording)
            raise error.__cause__ or error from None
        if arguments.out is None:
            # The fallback may have replaced the default workload.
            out = results_folder(host, list(outcome.run.workloads), OUT)
        _write(out, outcome, recording, journal)
        is_whole = not outcome.run.is_partial and not outcome.run.has_left_out
        if is_whole:
            journal.remove()
        files = [out / results.RESULTS, out / results.TABLE, out / results.PAGE]
        print_results(outcome, arguments, files, out / outcome.logs if outcome.logs else None)
        if not is_whole:
            say(f"qx: these are results of a part; {journal.command}")
    if outcome.run.interruption is not None:
        return INTERRUPTED if outcome.run.interruption.signal == "SIGINT" else TERMINATED
    check_judged(outcome)
    return OK if outcome.ended_well else NOT_WELL


def _write_samples(out: Path, outcome: Results, recording: Recording) -> None:
    """Write what there is of a run whose figures or reports could not be made, and say how to make them."""
    from qx.cli.streams import say
    from qx.results import results_file as results

    text = f"# No figures\n\nThe analysis of this run failed. `qx report {out}` makes figures and reports.\n"
    results.write(out, outcome, text, recording)
    say(f"qx: the samples are in {out / outcome.run.samples}: qx report {out} makes the reports of them")


def _write(out: Path, outcome: Results, recording: Recording, journal: Journal) -> None:
    from qx.errors import UsageError
    from qx.files import FULL
    from qx.report import markdown
    from qx.report.written import pictures
    from qx.results import results_file as results

    try:
        table, further = markdown.render(outcome), pictures(outcome, recording)
    except Exception:
        _write_samples(out, outcome, recording)
        raise
    try:
        results.write(out, outcome, table, recording, further)
    except OSError as error:
        advice = "free space there, then " if error.errno in FULL else ""
        raise UsageError(
            f"cannot write the results into {out}: {error.strerror or error}; what was finished is kept: "
            f"{advice}{journal.command}"
        ) from error
