"""``qx check``: check plugins against the contract."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from qx.cli.arguments import add_cache_options
from qx.foreign import to_terminal

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.host.host import Entry
    from qx.testing.verdicts import State, Verdict

#: States of verdicts as they are printed.
STATE_NAMES: Mapping[State, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "not_applicable": "not applicable",
    "not_run": "not run",
    "expected": "expected failure",
}


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="hold plugins to the contract, with the conformance kit",
        description="Run the conformance kit on plugins: named checks of what a config, metric, workload or "
        "loader promises. Exit code 1 if one fails. docs/testing.md explains each.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a plugin's name, as `qx list` gives it (default: the plugins given with -p)",
    )
    parser.add_argument(
        "--workload",
        metavar="NAME",
        help="what configs and metrics are tried on: a name, a module or a .py file (default: a small "
        "generated one)",
    )
    parser.add_argument(
        "--list", action="store_true", dest="listing", help="list the checks and what they ask"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_cache_options(parser)
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Check each plugin and print the verdicts."""
    from qx.cli import NOT_WELL, OK, warn_of_broken
    from qx.cli.streams import say, say_printed
    from qx.errors import UsageError
    from qx.leftovers import temporary_folder
    from qx.processes.logs import Logs, logs_in_cache, logs_name, new_identity
    from qx.storage.cache import open_cache
    from qx.testing.checking import Checking, host_with_workload, open_bench

    if arguments.listing:
        _list_checks(arguments.json)
        return OK
    host = host_with_workload(arguments.plugins, arguments.workload, arguments.trust_cache)
    entries = _choose_entries(host.entries, arguments.names, arguments.plugins)
    if not entries:
        raise UsageError("name the plugins to check (see qx list), or give one with -p")
    warn_of_broken(host, debug=arguments.debug)
    # A cache that cannot be used is an error here. Later it would only make checks not applicable.
    open_cache(arguments.trust_cache)
    all_well, reports = True, []
    shared: dict[str, Any] = {}
    name = logs_name(new_identity(datetime.now(timezone.utc)))
    logs = Logs(
        lambda: logs_in_cache(arguments.trust_cache) / name,
        say_printed if arguments.debug else None,
        lambda text: say(f"qx: {text}"),
    )
    # All benches share one folder, so that one takes what another has built.
    with closing(logs), temporary_folder() as folder:
        for number, entry in enumerate(entries, 1):
            start = time.monotonic()
            place = folder.resolve() / str(number)
            bench = open_bench(
                arguments.plugins,
                entry,
                place,
                workload=arguments.workload,
                shared=shared,
                known=host,
                trust_cache=arguments.trust_cache,
                logs=logs,
            )
            checking = Checking(bench)
            if not arguments.json:
                title = f"{entry.name}: {entry.kind or 'a plugin of unknown kind'}, {entry.provider}"
                print(to_terminal(title), flush=True)
            verdicts = []
            for verdict in checking.verdicts():
                verdicts.append(verdict)
                if not arguments.json:
                    _print_verdict(verdict)
            all_well = all_well and all(verdict.well for verdict in verdicts)
            reports.append(_as_json(entry, verdicts))
            if not arguments.json:
                print(f"  {_summary(verdicts)} in {time.monotonic() - start:.0f} s\n", flush=True)
    if arguments.json:
        print(json.dumps(reports, indent=2))
    return OK if all_well else NOT_WELL


def _choose_entries(entries: Sequence[Entry], names: Sequence[str], plugins: Sequence[str]) -> list[Entry]:
    from qx.host.catalogue import unknown
    from qx.testing.pytest_adapter import find_entry

    if not names:
        return [find_entry(entries, argument) for argument in plugins if not argument.startswith("no:")]
    chosen = []
    for name in dict.fromkeys(names):
        matches = [entry for entry in entries if entry.name == name]
        if not matches:
            raise unknown("unknown plugin", name, list(dict.fromkeys(entry.name for entry in entries)))
        # Where several claim the name, each is in conflict, and the first says so of all.
        chosen.append(matches[0])
    return chosen


def _print_verdict(verdict: Verdict) -> None:
    start, text = f"  {STATE_NAMES[verdict.state]:<18}{verdict.check:<30}", to_terminal(verdict.text)
    filled = textwrap.fill(text, 118, initial_indent=start, subsequent_indent=" " * len(start))
    print(filled if text else start.rstrip(), flush=True)
    if verdict.state == "failed" and verdict.excerpts:
        print(f"\n{textwrap.indent(verdict.excerpts, ' ' * 6)}\n", flush=True)


def _summary(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.state for verdict in verdicts)
    parts = [f"{counts[state]} {word.lower()}" for state, word in STATE_NAMES.items() if counts[state]]
    return f"{len(verdicts)} checks: {', '.join(parts)}"


def _as_json(entry: Entry, verdicts: Sequence[Verdict]) -> dict[str, object]:
    from attrs import asdict

    return {
        "name": entry.name,
        "kind": entry.kind,
        "provider": entry.provider,
        "checks": [asdict(verdict) for verdict in verdicts],
    }


def _list_checks(as_json: bool) -> None:
    from qx.testing.checks import CHECKS

    checks = list(dict.fromkeys(check for checks in CHECKS.values() for check in checks))
    rows = [
        {
            "name": check.name,
            "kinds": [kind for kind, checks in CHECKS.items() if check in checks],
            "summary": check.summary,
        }
        for check in checks
    ]
    if as_json:
        json.dump(rows, sys.stdout, indent=2)
        print()
        return
    for row in rows:
        print(f"{row['name']} ({', '.join(row['kinds'])})")
        print(textwrap.fill(str(row["summary"]), 100, initial_indent="  ", subsequent_indent="  "))
