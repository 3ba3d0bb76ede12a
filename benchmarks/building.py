"""Seconds of building all configs from an empty cache, of two checkouts in turns.

``--before DIR`` is a checkout of an earlier commit, whose plugins ``DIR/.venv/bin/python`` has. Decoded
images are kept from one turn to the next, and builds are not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import argument_parser, keep

#: The program of a turn: it prints the seconds of the phase.
PROGRAM = """
import json, sys
from pathlib import Path
from benchmarks.common import Lines
from qx.host.host import Host
from qx.runner import Request, run

workload, data = json.loads(sys.argv[1])
request = Request(workload=workload, data=data and Path(data), metrics=("file_size",), eval_n=100)
results, _ = run(Host.discover(), request, Lines())
print(results.run.seconds["build"])
"""


def main() -> None:
    """Print and keep the seconds and their ratio."""
    parser = argument_parser(__doc__, runs=1)
    parser.add_argument("--before", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    before = arguments.before.absolute()
    asked = json.dumps([arguments.workload, arguments.data and str(arguments.data.absolute())])
    trees = {"after": (Path.cwd(), sys.executable), "before": (before, str(before / ".venv/bin/python"))}
    seconds: dict[str, list[float]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.runs):
            for name in reversed(trees) if number % 2 else trees:
                cache = Path(folder) / name
                shutil.rmtree(cache / "builds", ignore_errors=True)
                seconds[name].append(_turn(*trees[name], cache, asked))
                print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    ratios = np.log(np.array(seconds["after"]) / np.array(seconds["before"]))
    keep(
        "building",
        {
            "workload": arguments.workload,
            "cpus": os.cpu_count(),
            "seconds": seconds,
            "ratio_after_to_before": float(np.exp(ratios.mean())),
        },
    )


def _turn(tree: Path, python: str, cache: Path, asked: str) -> float:
    """Build all configs in a checkout, and return the seconds of that phase."""
    environment = {**os.environ, "QX_CACHE": str(cache)}
    command = [python, "-c", PROGRAM, asked]
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
