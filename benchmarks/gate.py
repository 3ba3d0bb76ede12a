"""Does the gate pass an unchanged run however often it is repeated, and fail one that became worse?

The rules allow nothing: no less accuracy, and no more latency, memory and bytes than the base has. So each
limit lies where the truth is, and every breach of an unchanged run is a false alarm.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.common import PLUGINS, Lines, keep, options
from qx.comparison.sources import Source
from qx.gate import decide, read_rules
from qx.host import Host
from qx.runner import Request, run

METRICS = ("accuracy", "file_size", "latency", "rss")
ALLOWED = {"accuracy": "largest_drop", "file_size": "largest_increase", "latency": "largest_increase",
           "rss": "largest_increase"}  # fmt: skip


def source(arguments: argparse.Namespace, name: str, number: int) -> Source:
    """A run of the recipe, held in memory: of one seed, so of one artifact on the same images."""
    request = Request(workload=arguments.workload, data=arguments.data, configs=("recipe",), metrics=METRICS)
    results, recording = run(Host.discover([f"{PLUGINS}:{name}"]), request, Lines())
    return Source(place=f"{name} {number}", results=results, recording=recording)


def main() -> None:
    """Print and keep how often an unchanged run passed, and what the gate said of the worse one."""
    arguments = options(__doc__, runs=20).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "rules.toml")
        place.write_text(
            "".join(
                f'[[rule]]\nmetric = "{metric}"\n{limit} = 0\nagainst = "base"\n'
                for metric, limit in ALLOWED.items()
            )
        )
        rules = read_rules(place)
    base = source(arguments, "recipe", 0)
    passed, alarms, wide = [], [], []
    for number in range(1, arguments.runs + 1):
        ruling = decide(rules, source(arguments, "recipe", number), base)
        passed.append(ruling.passes(strict=False))
        wide.append(len(ruling.of("too wide")))
        alarms += [one.line for one in ruling.of("breached")]
        print(f"repetition {number}: passed {sum(passed)} of {len(passed)} {alarms}", flush=True)
    worse = decide(rules, source(arguments, "worse_recipe", 0), base)
    keep(
        "gate",
        {
            "repetitions": len(passed),
            "passed": sum(passed),
            "false_alarms": alarms,
            "decisions": len(ruling.decisions),
            "too_wide_to_tell": wide,
            "the_worse_one_passed": worse.passes(strict=False),
            "its_breaches": [one.line for one in worse.of("breached")],
        },
    )


if __name__ == "__main__":
    main()
