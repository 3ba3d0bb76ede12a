"""``qx doctor``: find what makes timings unsteady on this machine, and measure the noise."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from qx.foreign import to_terminal

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.runner.measure.noise import Noise

#: Marks in front of findings, by their state.
SIGNS = {"good": "ok", "bad": "!!", "unknown": "??"}


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="tell what makes timings unsteady on this machine, and measure the noise floor",
        description="Tell what makes timings unsteady and what to do about it; measure the noise floor.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="N",
        help="to measure the noise floor for (default: 10)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine the machine, measure the noise floor, print both."""
    from attrs import asdict

    from qx.cli import OK, warn_of_broken
    from qx.doctor.checks import examine
    from qx.errors import UsageError
    from qx.host.host import Host
    from qx.runner.measure.noise import noise_floor

    if not arguments.seconds > 0:
        raise UsageError(f"--seconds must be above 0, not {arguments.seconds:g}")
    warn_of_broken(Host.discover(arguments.plugins), debug=arguments.debug)
    findings = []
    for finding in examine():
        findings.append(finding)
        if not arguments.json:
            print(f"{SIGNS[finding.state]}  {finding.name}: {to_terminal(finding.found)}", flush=True)
            if finding.advice:
                print(f"      {to_terminal(finding.advice)}", flush=True)
    noise = noise_floor(arguments.seconds)
    if arguments.json:
        print(
            json.dumps(
                {"findings": [asdict(finding) for finding in findings], "noise": asdict(noise)}, indent=2
            )
        )
    else:
        print(f"\n{_describe(noise)}")
    return OK


def _describe(noise: Noise) -> str:
    """Say how large the noise floor is."""
    low, high = noise.ratio.ci or (noise.ratio.value, noise.ratio.value)
    return (
        f"Noise floor: two processes that do the same appear to differ by {noise.ratio.value - 1:+.2%} "
        f"(95 % interval {low - 1:+.2%} to {high - 1:+.2%}, {noise.rounds} rounds).\n"
        f"Single calls spread by ±{noise.spread:.1%} around their median; "
        f"one in a hundred takes {noise.slow:.2f} times as long or longer."
    )
