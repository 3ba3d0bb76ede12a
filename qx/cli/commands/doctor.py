"""``qx doctor``: find what makes timings unsteady on this machine, and measure what it can resolve."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from qx.foreign import to_terminal

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.doctor.resolution import Resolution
    from qx.host.host import Host
    from qx.runner.measure.noise import Noise

#: Marks in front of findings, by their state.
SIGNS = {"good": "ok", "bad": "!!", "unknown": "??"}


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="tell what makes timings unsteady on this machine, and measure the noise floor",
        description="Tell what makes timings unsteady and what to do about it; measure the noise floor, and "
        "how small a difference runs can show here, in how many seconds.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="N",
        help="to measure the noise floor for (default: 10)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="without launches of a model, which take half a minute or so"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine the machine, measure the noise floor and what runs can resolve, print all of it."""
    from attrs import asdict

    from qx.cli import OK, warn_of_broken
    from qx.doctor.checks import examine
    from qx.errors import UsageError
    from qx.host.host import Host
    from qx.runner.measure.noise import noise_floor

    if not arguments.seconds > 0:
        raise UsageError(f"--seconds must be above 0, not {arguments.seconds:g}")
    host = Host.discover(arguments.plugins)
    warn_of_broken(host, debug=arguments.debug)
    findings = []
    for finding in examine():
        findings.append(finding)
        if not arguments.json:
            print(f"{SIGNS[finding.state]}  {finding.name}: {to_terminal(finding.found)}", flush=True)
            if finding.advice:
                print(f"      {to_terminal(finding.advice)}", flush=True)
    noise = noise_floor(arguments.seconds)
    if not arguments.json:
        print(f"\n{_describe(noise)}", flush=True)
    resolution = None if arguments.quick else _resolution(host)
    if arguments.json:
        report = {
            "findings": [asdict(finding) for finding in findings],
            "noise": asdict(noise),
            "resolution": None if resolution is None or isinstance(resolution, str) else asdict(resolution),
            "not_resolved": resolution if isinstance(resolution, str) else None,
        }
        print(json.dumps(report, indent=2))
    elif resolution is not None:
        print(f"\n{describe_resolution(resolution)}")
    return OK


def _resolution(host: Host) -> Resolution | str:
    from qx.cli.streams import say
    from qx.doctor.resolution import measure_resolution

    say("launching a model six times beside itself, to see what runs can resolve here ...")
    return measure_resolution(host)


def _describe(noise: Noise) -> str:
    """Say how large the noise floor is."""
    low, high = noise.ratio.ci or (noise.ratio.value, noise.ratio.value)
    return (
        f"Noise floor: two processes that do the same appear to differ by {noise.ratio.value - 1:+.2%} "
        f"(95 % interval {low - 1:+.2%} to {high - 1:+.2%}, {noise.rounds} rounds).\n"
        f"Single calls spread by ±{noise.spread:.1%} around their median; "
        f"one in a hundred takes {noise.slow:.2f} times as long or longer."
    )


def describe_resolution(resolution: Resolution | str) -> str:
    """Say how small a difference can be shown in how many seconds, and what is assumed."""
    from qx.report.screen import duration
    from qx.report.wording import count

    if isinstance(resolution, str):
        return f"What this machine can resolve was not measured: {resolution}"
    goals = ", ".join(
        f"±{100 * goal.precision:g} % "
        + ("in no time that can be said" if goal.seconds is None else f"in {duration(goal.seconds)}")
        for goal in resolution.goals
    )
    low, high = resolution.factors
    waves = count(resolution.waves, "wave")
    return (
        f"What this machine can resolve: speedups to {goals} (95 % intervals),\n"
        f"in a run of {resolution.configs} configs of {resolution.workload}, the baseline among them, at a "
        f"batch of {resolution.batch_size}, in waves of {resolution.wave_seconds_of_configs:.0f} s.\n"
        f"Beside itself {resolution.config} varied by {resolution.deviation:.2%} from wave to wave "
        f"({waves} of {resolution.wave_seconds:.1f} s). It is assumed\n"
        f"that the others vary no more, and that a wave takes its launches' share of that: larger models, "
        f"more configs and\nmore batch sizes take longer. So few waves say a variance roughly: the seconds "
        f"may be {low:.1f} to {high:.0f} times as many."
    )
