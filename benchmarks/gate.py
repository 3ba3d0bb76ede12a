"""Does the gate pass an unchanged run however often it is repeated, and fail one that became worse?

By two files of rules against the base: as one would write them, which allow a little, and such that allow
nothing. There the limits lie where the truth is, so that any breach of an unchanged run is a false alarm.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.common import PLUGINS, Lines, keep, options
from qx.comparison.sources import Source
from qx.gate import Rules, decide, read_rules
from qx.host.host import Host
from qx.runner import Request, run

METRICS = ("accuracy", "file_size", "latency", "rss")
LIMITS = {"accuracy": "largest_drop", "file_size": "largest_increase", "latency": "largest_increase",
          "rss": "largest_increase"}  # fmt: skip
#: What is allowed: points over 100 of accuracy, shares of the others.
ALLOWED: dict[str, dict[str, float]] = {
    "usual": {"accuracy": 0.01, "file_size": 0, "latency": 0.05, "rss": 0.05},
    "nothing": dict.fromkeys(LIMITS, 0),
}


def source(arguments: argparse.Namespace, name: str, number: int) -> Source:
    """A run of the recipe, held in memory: of one seed, so of one artifact on the same images."""
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
    """The rules as a user would have them, in a file."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "rules.toml")
        place.write_text(
            "".join(
                f'[[rule]]\nmetric = "{metric}"\n{LIMITS[metric]} = {amount}\nagainst = "base"\n'
                for metric, amount in allowed.items()
            )
        )
        return read_rules(place)


def main() -> None:
    """Print and keep how often an unchanged run passed, and what the gate said of the worse one."""
    parser = options(__doc__, runs=20)
    parser.add_argument("--budget", type=float, help="seconds of measuring, of each repetition; as a run's")
    arguments = parser.parse_args()
    rules = {name: rules_that_allow(allowed) for name, allowed in ALLOWED.items()}
    base = source(arguments, "recipe", 0)
    passed: dict[str, list[bool]] = {name: [] for name in rules}
    alarms: dict[str, list[str]] = {name: [] for name in rules}
    for number in range(1, arguments.runs + 1):
        repeated = source(arguments, "recipe", number)
        for name, one in rules.items():
            ruling = decide(one, repeated, base)
            passed[name].append(ruling.passes(strict=False))
            alarms[name] += [decision.line for decision in ruling.with_verdict("breached")]
        told = ", ".join(f"{name} {sum(each)} of {len(each)}" for name, each in passed.items())
        print(f"repetition {number}: passed {told} {alarms}", flush=True)
    worse = source(arguments, "worse_recipe", 0)
    breaches = {name: decide(one, worse, base).with_verdict("breached") for name, one in rules.items()}
    keep(
        "gate",
        {
            "repetitions": arguments.runs,
            "rules": {
                name: {
                    "allowed": ALLOWED[name],
                    "passed": sum(passed[name]),
                    "false_alarms": alarms[name],
                    "breaches_of_the_worse_one": [one.line for one in breaches[name]],
                }
                for name in rules
            },
        },
    )


if __name__ == "__main__":
    main()
