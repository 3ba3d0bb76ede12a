"""Does the gate pass an unchanged run however often it is repeated, and fail a run that became worse?

Tried with two files of rules against the base: usual ones, which allow a little, and rules that allow
nothing. The limits of the latter are the true values, so any breach of an unchanged run is a false alarm.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.common import PLUGINS, Lines, argument_parser, keep
from qx.comparison.sources import Source
from qx.gate import Rules, decide, read_rules
from qx.host.host import Host
from qx.runner import Request, run

METRICS = ("accuracy", "file_size", "latency", "rss")
LIMITS = {"accuracy": "largest_drop", "file_size": "largest_increase", "latency": "largest_increase",
          "rss": "largest_increase"}  # fmt: skip
#: Allowed changes by file of rules and metric: of accuracy as a difference, of the others as a share.
ALLOWED: dict[str, dict[str, float]] = {
    "usual": {"accuracy": 0.01, "file_size": 0, "latency": 0.05, "rss": 0.05},
    "nothing": dict.fromkeys(LIMITS, 0),
}


def source(arguments: argparse.Namespace, name: str, number: int) -> Source:
    """Run the recipe and return the run. All runs have the same seed, so the same artifact and images."""
    request = Request(
        workload=arguments.workload,
        data=arguments.data,
        configs=("recipe",),
        metrics=METRICS,
        budget=arguments.budget,
    )
    results, recording = run(Host.discover([f"{PLUGINS}:{name}"]), request, Lines())
    return Source(place=f"{name} {number}", results=results, recording=recording)


def rules_that_allow(allowed: Mapping[str, float]) -> Rules:
    """Write a file of rules, and return the rules that are read from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rules.toml")
        path.write_text(
            "".join(
                f'[[rule]]\nmetric = "{metric}"\n{LIMITS[metric]} = {amount}\nagainst = "base"\n'
                for metric, amount in allowed.items()
            )
        )
        return read_rules(path)


def main() -> None:
    """Print and keep how often an unchanged run passed, and what the gate said of the worse one."""
    parser = argument_parser(__doc__, runs=20)
    parser.add_argument("--budget", type=float, help="seconds of measuring, of each repetition; as a run's")
    arguments = parser.parse_args()
    rules = {name: rules_that_allow(allowed) for name, allowed in ALLOWED.items()}
    base = source(arguments, "recipe", 0)
    passed: dict[str, list[bool]] = {name: [] for name in rules}
    alarms: dict[str, list[str]] = {name: [] for name in rules}
    for number in range(1, arguments.runs + 1):
        repeated = source(arguments, "recipe", number)
        for name, rules_of_file in rules.items():
            ruling = decide(rules_of_file, repeated, base)
            passed[name].append(ruling.passes(strict=False))
            alarms[name] += [decision.line for decision in ruling.with_verdict("breached")]
        summary = ", ".join(f"{name} {sum(passes)} of {len(passes)}" for name, passes in passed.items())
        print(f"repetition {number}: passed {summary} {alarms}", flush=True)
    worse = source(arguments, "worse_recipe", 0)
    breaches = {
        name: decide(rules_of_file, worse, base).with_verdict("breached")
        for name, rules_of_file in rules.items()
    }
    keep(
        "gate",
        {
            "repetitions": arguments.runs,
            "rules": {
                name: {
                    "allowed": ALLOWED[name],
                    "passed": sum(passed[name]),
                    "false_alarms": alarms[name],
                    "breaches_of_the_worse_one": [decision.line for decision in breaches[name]],
                }
                for name in rules
            },
        },
    )


if __name__ == "__main__":
    main()
