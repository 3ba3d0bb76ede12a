"""What the benchmarks share: their options, a run of qx, and where results go."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qx.environment import cpu_model, distribution_version
from qx.host.host import Host
from qx.results.recording import Recording
from qx.results.records import Measurement, Results
from qx.runner import Request, run

HERE = Path(__file__).parent
PLUGINS = HERE / "plugins.py"


class Lines:
    """A reporter that says only what matters."""

    def phase(self, name: str, text: str) -> None:
        """Nothing."""

    def step(self, done: float, text: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """To standard error."""
        print(text, file=sys.stderr)


def options(description: str | None, runs: int) -> argparse.ArgumentParser:
    """The options that all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--workload", default="digits_cnn")
    parser.add_argument("--data", type=Path)
    return parser


def measured(
    arguments: argparse.Namespace,
    names: Sequence[str],
    metrics: Sequence[str],
    seed: int,
    more: Sequence[str] = (),
    **fields: Any,
) -> tuple[Results, Recording]:
    """One run at the defaults with these configs of ``plugins.py``, and ``more`` of what is there."""
    host = Host.discover([f"{PLUGINS}:{name}" for name in (*names, *more)])
    request = Request(
        workload=arguments.workload,
        data=arguments.data,
        configs=tuple(names),
        metrics=tuple(metrics),
        seed=seed,
        **fields,
    )
    return run(host, request, Lines())


def of(results: Results, metric: str) -> list[Measurement]:
    """The measurements of a metric, without those of the baseline itself."""
    baseline = results.run["baseline"]
    return [one for one in results.measurements if one.metric == metric and one.cell != baseline]


def command() -> str:
    """The command of this process, with ``DIR`` for folders: where they lie concerns nobody else."""
    module = sys.modules["__main__"].__spec__
    assert module is not None, "benchmarks are run by `python -m`"
    given = sys.argv[1:]
    words = [
        "DIR" if before in ("--data", "--built") else word
        for before, word in zip(["", *given], given, strict=False)
    ]
    return " ".join(["python", "-m", module.name, *words])


def keep(name: str, figures: dict[str, Any]) -> None:
    """Write the figures, with what they were made on, and print them."""
    found = {
        "command": command(),
        "cpu": cpu_model(),
        "torch": distribution_version("torch"),
        **figures,
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in found.items() if key != "samples"}, indent=1))
