"""What the benchmarks share: their options, a run of qx, and the files of their results."""

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
from qx.results.run_record import Measuring
from qx.runner import Request, run

HERE = Path(__file__).parent
PLUGINS = HERE / "plugins.py"


class Lines:
    """A reporter that prints messages, and no progress."""

    def phase(self, name: str, text: str) -> None:
        """Do nothing."""

    def step(self, done: float, text: str) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Print to standard error."""
        print(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """Print to standard error."""
        self.say(text)

    def show(self, text: str) -> None:
        """Print to standard error."""
        self.say(text)


def argument_parser(description: str | None, runs: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--workload", default="digits_cnn")
    parser.add_argument("--data", type=Path)
    return parser


def run_configs(
    arguments: argparse.Namespace,
    names: Sequence[str],
    metrics: Sequence[str],
    seed: int,
    other_plugins: Sequence[str] = (),
    **fields: Any,
) -> tuple[Results, Recording]:
    """Run these configs of ``plugins.py`` at the defaults, with ``other_plugins`` of that file installed."""
    host = Host.discover([f"{PLUGINS}:{name}" for name in (*names, *other_plugins)])
    request = Request(
        workload=arguments.workload,
        data=arguments.data,
        configs=tuple(names),
        metrics=tuple(metrics),
        seed=seed,
        **fields,
    )
    return run(host, request, Lines())


def measuring_of(results: Results) -> Measuring:
    """Return how the launches of a run were measured."""
    assert results.run.measuring is not None
    return results.run.measuring


def measurements_of(results: Results, metric: str) -> list[Measurement]:
    """Return the measurements of a metric, without those of the baseline itself."""
    baseline = results.run.baseline
    return [
        measurement
        for measurement in results.measurements
        if measurement.metric == metric and measurement.cell != baseline
    ]


def command() -> str:
    """Return the command of this process, with ``DIR`` in place of the paths of folders."""
    module = sys.modules["__main__"].__spec__
    assert module is not None, "benchmarks are run by `python -m`"
    arguments = sys.argv[1:]
    words = [
        "DIR" if previous in ("--data", "--built", "--before", "--work", "--out") else word
        for previous, word in zip(["", *arguments], arguments, strict=False)
    ]
    return " ".join(["python", "-m", module.name, *words])


def keep(name: str, figures: dict[str, Any]) -> None:
    """Write the figures with the command, the CPU and the version of torch, and print them."""
    results = {
        "command": command(),
        "cpu": cpu_model(),
        "torch": distribution_version("torch"),
        **figures,
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in results.items() if key != "samples"}, indent=1))
